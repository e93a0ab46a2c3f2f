"""`navtalk doctor`: what is wrong with a set-up, and never the key."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from shell import KEY, navtalk

from navtalk_async.archive import Archive
from navtalk_async.cli._doctor import (
    Verdict,
    clock_check,
    file_system,
    limits_check,
    network_checks,
    proxy_to,
)
from navtalk_async.cli.app import Exit
from navtalk_async.sandbox import Faults, Sandbox, World


def by_name(done):
    return {each["name"]: each for each in done.rows[0]["checks"]}


async def test_a_good_set_up_is_reported_as_good(tmp_path):
    async with Sandbox(World(3)) as box:
        done = await navtalk("doctor", "--store", tmp_path / "archive.db", box=box)
        assert done.code == 0
        assert "PROBLEM" not in done.out
        for name in ("python", "packages", "key", "server", "name", "connection", "listing", "round trip"):
            assert f"ok       {name}: " in done.out
        assert "in the environment's NAVTALK_API_KEY" in done.out
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_user_is_a_problem_and_everything_else_is_checked(tmp_path):
    async with Sandbox(World(3)) as box:
        env = {"LEXICON_API_KEY": KEY, "LEXICON_BASE_URL": box.lexicon_url}
        asked = ("doctor", "--api", "lexicon", "--store", tmp_path / "archive.db", "--json")
        done = await navtalk(*asked, env=env)
        assert done.code == done.rows[0]["exit_code"] == 2
        checks = by_name(done)
        assert checks["listing"]["verdict"] == "problem"
        assert "--user" in checks["listing"]["said"]
        assert checks["place"]["verdict"] == "ok"
        assert {each["verdict"] for name, each in checks.items() if name != "listing"} == {"ok"}
        reported = await navtalk(*asked, "--user", "user-0", env=env)
        assert (reported.code, by_name(reported)["listing"]["verdict"]) == (0, "ok")


async def test_the_key_is_never_shown_nor_any_part_of_it(tmp_path):
    (tmp_path / "key").write_text(KEY)
    async with Sandbox(World(3), keys={"another-key-altogether"}) as box:
        arguments = ("doctor", "-vv", "--api-key-file", tmp_path / "key")
        done = await navtalk(*arguments, box=box, env={"NAVTALK_API_KEY": None})
        assert done.code == 4
        assert "PROBLEM  listing: " in done.out
        assert f"in the file {tmp_path / 'key'}" in done.out
        for part in (KEY[:6], KEY[-6:]):
            assert part not in done.out + done.err


async def test_a_missing_or_malformed_key_is_exit_code_2():
    async with Sandbox(World(3)) as box:
        missing = await navtalk("doctor", "--json", box=box, env={"NAVTALK_API_KEY": None})
        assert (missing.code, by_name(missing)["key"]["code"]) == (2, 2)
        assert "listing" not in by_name(missing)
        broken = await navtalk("doctor", "--json", box=box, env={"NAVTALK_API_KEY": "two words"})
        assert broken.code == 2


async def test_an_unreachable_server_is_exit_code_5_and_an_insecure_one_2():
    clear = await navtalk("doctor", "--json", env={"NAVTALK_BASE_URL": "http://example.com"})
    assert clear.code == 2
    assert "in the clear" in by_name(clear)["server"]["said"]
    away = await navtalk("doctor", "--json", env={"NAVTALK_BASE_URL": "http://127.0.0.1:9"})
    assert away.code == 5
    assert by_name(away)["connection"]["verdict"] == "problem"
    nobody = await navtalk("doctor", "--json", env={"NAVTALK_BASE_URL": "https://nobody.invalid"})
    assert nobody.code == 5
    assert by_name(nobody)["name"]["verdict"] == "problem"
    async with Sandbox(World(3), faults=Faults.parse("500=100%")) as box:
        ill = await navtalk("doctor", "--json", box=box)
        assert ill.code == 5


async def test_the_sandbox_needs_nothing():
    done = await navtalk("doctor", "--sandbox", env={"NAVTALK_API_KEY": None})
    assert done.code == 0
    assert "the sandbox needs none" in done.out


async def test_an_archive_in_use_is_exit_code_11_and_another_file_2(tmp_path):
    path = tmp_path / "archive.db"
    async with Sandbox(World(3)) as box:
        async with Archive.open(path) as store:
            await store.begin("mine", api="navtalk", scope="{}")
            done = await navtalk("doctor", "--store", path, "--json", box=box)
            assert done.code == 11
            assert "mine" in by_name(done)["archive"]["said"]
        free = await navtalk("doctor", "--store", tmp_path, "--json", box=box)
        assert (free.code, by_name(free)["lock"]["verdict"]) == (0, "ok")
        path.write_bytes(b"nothing of ours " * 99)
        none = await navtalk("doctor", "--store", path, "--json", box=box)
        assert none.code == 2
        assert by_name(none)["archive"]["verdict"] == "problem"


async def test_a_certificate_that_is_not_trusted_is_a_problem():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        trusted = ssl.create_default_context()
        checks = [check async for check in network_checks(f"https://127.0.0.1:{port}", trusted)]
    assert checks[-1].verdict is Verdict.PROBLEM
    assert checks[-1].code is Exit.USAGE
    assert "--cacert" in checks[-1].todo


@pytest.mark.parametrize(
    ("skew", "verdict", "words"),
    [
        (0.4, "ok", "within 1 s"),
        (-59, "ok", "within 59 s"),
        (90, "warning", "90 s ahead"),
        (-3600, "warning", "behind"),
    ],
)
def test_a_wrong_clock_is_reported(skew, verdict, words):
    check = clock_check(skew)
    assert check.verdict == verdict
    assert words in check.said


def test_a_server_without_a_clock_is_reported():
    assert clock_check(None).verdict is Verdict.WARNING


def test_announced_limits_are_reported():
    assert limits_check({}).said == "No rate limit announced; adapting to refusals."
    said = limits_check({"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "30"}).said
    assert "7 requests left for the next 30 s" in said


def test_a_proxy_is_named_by_what_said_so_and_not_quoted(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    monkeypatch.setenv("NO_PROXY", "inside.example.com")
    assert proxy_to("https://example.com", None) == "HTTPS_PROXY"
    assert proxy_to("https://example.com", "http://user:secret@other") == "--proxy"
    assert proxy_to("https://inside.example.com", None) is None
    assert proxy_to("https://localhost", None) is None


MOUNTS = "/dev/sda1 / ext4 rw 0 0\nhost:/export /mnt/far nfs4 rw 0 0\ntmpfs /mnt/far\\040off tmpfs rw 0 0\n"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home/me", "ext4"), ("/mnt/far", "nfs4"), ("/mnt/far/a/b", "nfs4"), ("/mnt/far off/x", "tmpfs")],
)
def test_the_file_system_is_that_of_the_nearest_mount(folder, kind):
    assert file_system(Path(folder), MOUNTS) == kind
    assert file_system(Path(folder), "") is None
