"""`navtalk sessions`, `session`, `messages` and `transcript`: what the API has, shown."""

import asyncio
import os
from pathlib import Path

import pytest
from exported import longest, messages_of, session_of
from shell import navtalk, run_on_terminal

from navtalk_async.sandbox import Faults, Sandbox, World


async def test_sessions_are_listed_by_filters_as_json_and_as_a_table():
    async with Sandbox(World(250)) as box:
        bounds = ("--start", "2025-11-05", "--end", "2025-11-20 12:00:00", "--status", "1")
        as_json, as_table = await asyncio.gather(
            navtalk("sessions", *bounds, "--json", box=box), navtalk("sessions", *bounds, box=box)
        )
        wanted = [
            session_of(each)
            for each in box.world.sessions
            if "2025-11-05 00:00:00" <= each["startTime"] <= "2025-11-20 12:00:00" and each["status"] == 1
        ]
        assert len(wanted) > 100
        none = await navtalk("sessions", "--status", "99", box=box)
        assert (none.code, none.err) == (0, "navtalk: No sessions.\n")
        assert as_json == (0, as_json.out, "")
        assert as_json.rows == wanted
        header, *rows = [line.split("\t") for line in as_table.out.splitlines()]
        assert [dict(zip(header, row, strict=True))["id"] for row in rows] == [each["id"] for each in wanted]


async def test_sessions_without_an_end_are_listed_with_the_time_of_their_last_change():
    async with Sandbox(World(5)) as box:
        env = {"LLAMA_CLOUD_API_KEY": "any", "LLAMA_CLOUD_BASE_URL": box.llamacloud_url}
        asked = ("sessions", "--api", "llamacloud")
        as_json, as_table = await navtalk(*asked, "--json", env=env), await navtalk(*asked, env=env)
        _, on_terminal = await run_on_terminal(*asked, env=env)
    header, *rows = [line.split("\t") for line in as_table.out.splitlines()]
    changes = [each["updated_at"] for each in as_json.rows]
    assert all(changes)
    assert [dict(zip(header, row, strict=True))["updated_at"] for row in rows] == changes
    title, *lines = on_terminal.splitlines()
    assert "updated (UTC)" in title
    for change, line in zip(changes, lines, strict=True):
        assert change[:19].replace("T", " ") in line


async def test_one_session_is_shown_with_its_messages_or_without():
    async with Sandbox(World(40, unknown_fields=False)) as box:
        one = longest(box.world)
        row = session_of(box.world.session(one))
        session, messages, transcript, text, said = await asyncio.gather(
            navtalk("session", one, "--json", box=box),
            navtalk("messages", one, "--role", "user", "--json", box=box),
            navtalk("transcript", one, "--json", box=box),
            navtalk("transcript", one, box=box),
            navtalk("messages", one, box=box),
        )
        assert session.rows == [row]
        assert messages.rows == messages_of(box.world, one, role=0)
        assert transcript.rows == [row | {"messages": messages_of(box.world, one)}]
        assert text.out.startswith(f"id          {one}\n")
        assert {each.code for each in (session, messages, transcript, text, said)} == {0}
        for shown in (text.out, said.out):
            assert not {letter for letter in shown if ord(letter) < 32} - {"\n", "\t"}
        assert len(said.out.splitlines()) == len(box.world.messages(one)) + 1


async def test_unknown_fields_and_numbers_of_the_api_are_shown_too():
    async with Sandbox(World(30, unknown_fields=True)) as box:
        done = await navtalk("sessions", "--json", box=box)
        assert {"active", "completed", 7} & {row["status"] for row in done.rows} >= {7}
        assert all({"language", "device"} == set(row["extra"]) for row in done.rows)


@pytest.mark.parametrize("style", [(), ("--json",)])
async def test_a_reader_who_closes_the_pipe_is_no_error(style):
    reading, writing = os.pipe()
    os.close(reading)
    async with Sandbox(World(400, messages=0)) as box:
        try:
            done = await navtalk("sessions", *style, box=box, stdout=writing)
        finally:
            os.close(writing)
    assert done == (0, "", "")


async def test_output_that_cannot_be_written_is_reported_in_a_sentence():
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with Sandbox(sessions=3) as box:
            done = await navtalk("sessions", box=box, stdout=full)
    finally:
        os.close(full)
    assert done.code == 5
    assert done.err.startswith("navtalk: The output cannot be written: No space left on device.")


def shown(pid, what):
    return Path(f"/proc/{pid}/{what}").read_text()


async def test_a_wait_is_explained_without_progress_too():
    faults = Faults(retry_after=1.0)
    async with Sandbox(sessions=3, faults=faults) as box:
        box.fail_next("429")
        done = await navtalk("sessions", "--json", box=box)
    assert (done.code, len(done.rows)) == (0, 3)
    assert done.err.startswith("navtalk: waiting 1 s: RateLimited: ")
