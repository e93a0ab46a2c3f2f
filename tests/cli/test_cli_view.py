"""`navtalk view`: a server until Ctrl-C."""

import asyncio
import signal
import socket
import sys

import aiohttp
import pytest
from looked_at import synced
from shell import navtalk, result_of, start_command


@pytest.fixture
async def place(tmp_path):
    return await synced(tmp_path / "archive.db")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_it_serves_until_it_is_stopped(place, number, code):
    async with start_command("view", place) as process, aiohttp.ClientSession() as http:
        address = (await process.stdout.readline()).decode().strip()
        async with http.get(address) as answer:
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"].split(";")[0]
        async with http.get(address.partition("?")[0], headers={"Cookie": cookie}) as answer:
            assert "60 sessions" not in await answer.text()
            assert answer.status == 200
        # A connection that is kept open does not keep it.
        process.send_signal(number)
        done = await result_of(process)
    assert (done.code, done.out, done.err) == (
        code,
        "",
        "navtalk: Open this address in a browser. Ctrl-C ends it.\n",
    )


async def test_a_port_that_is_taken_and_an_archive_that_is_not_there_are_sentences(place, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, said in (
            ((place, "--port", port), f"Port {port} cannot be used: "),
            ((place, "--project", "x"), "no project 'x'"),
            ((tmp_path / "no.db",), "There is nothing at"),
            ((place, "--port", "65536"), "65536 is not in the range"),
        ):
            done = await navtalk("view", *arguments)
            assert (done.code, done.out, said in done.err) == (2, "", True)


async def test_the_address_is_opened_in_the_browser_where_that_is_asked_for(place, tmp_path):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f"#!{sys.executable}\nimport sys\nopen({str(opened)!r}, 'w').write(sys.argv[1])\n")
    browser.chmod(0o700)
    async with start_command("view", place, "--open", env={"BROWSER": f"{browser} %s"}) as process:
        address = (await process.stdout.readline()).decode().strip()
        while not (opened.exists() and opened.read_text()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert (await result_of(process)).code == 130
    assert opened.read_text() == address
