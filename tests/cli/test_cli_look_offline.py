"""`sessions`, `session`, `messages` and `transcript` with --store, --limit, --newest and --local-time."""

import sqlite3
from contextlib import closing
from datetime import datetime

import pytest
from command_runs import command_runner
from looked_at import synced
from postgres_box import new_schema
from shell import environment, navtalk, run_on_terminal
from test_cli_imports import imported

from navtalk_async.archive import Archive
from navtalk_async.cli._layout import cell
from navtalk_async.sandbox import Sandbox, World


@pytest.fixture
async def box():
    async with Sandbox(World(60, messages=4)) as box:
        yield box


@pytest.fixture
async def place(box, tmp_path):
    return await synced(tmp_path / "archive.db", box)


@pytest.fixture
async def look():
    """`await look(*arguments)`: an ended run of the command, without a key unless it is for a *box*."""
    async with command_runner() as commands:

        async def run(*arguments, box=None, **env):
            key = {"NAVTALK_API_KEY": None} if box is None else {}
            return await commands.run(*arguments, env=environment(box, key | env))

        yield run


def without_archive(row):
    """*row* without what only an archive knows."""
    return {name: value for name, value in row.items() if name not in ("project", "deleted_at", "position")}


async def test_an_archive_shows_what_its_api_shows(box, place, look):
    some = box.world.sessions[7]["id"]
    for arguments in (
        ("sessions", "--start", "2025-11-05", "--end", "2025-11-20 12:00:00", "--status", "1"),
        ("sessions", "--newest", "--limit", "5"),
        ("session", some),
        ("messages", some, "--role", "user"),
        ("messages", some, "--limit", "2", "--newest"),
        ("transcript", some, "--limit", "2", "--newest"),
    ):
        asked = await look(*arguments, "--json", box=box)
        found = (asked.code, asked.err, list(map(without_archive, asked.rows)))
        kept = await look(*arguments, "--json", "--store", place)
        assert (arguments, kept.code, kept.err, list(map(without_archive, kept.rows))) == (arguments, *found)
        assert found[:2] == (0, "")


async def test_limits_and_the_newest_are_those_of_the_whole_list(box, place, look):
    whole = (await look("sessions", "--json", "--store", place)).rows
    for options, rows in (
        (("--limit", "7"), whole[:7]),
        (("--newest", "--limit", "7"), whole[:-8:-1]),
        (("--newest",), whole[::-1]),
        (("--limit", "700"), whole),
    ):
        assert (await look("sessions", *options, "--json", "--store", place)).rows == rows
    asked = box.counts.total
    first = await look("sessions", "--limit", "1", box=box)
    assert len(first.out.splitlines()) == 2
    assert box.counts.total - asked <= 2


async def test_looking_into_an_archive_imports_no_client(place):
    for arguments in (
        ("sessions", "--store", place),
        ("transcript", "x", "--store", place),
        ("report", place),
    ):
        code, modules = await imported(*arguments)
        assert (arguments, code in (0, 2), modules) == (arguments, True, [])


REFUSED = {
    "sessions --store {} --api-key-file k": "--store asks no API; leave out --api-key-file.",
    "sessions --store {} --rate 3 --sandbox": "leave out --rate and --sandbox.",
    "sessions --store {} --listing serial": "leave out --listing.",
    "sessions --store {} --agent-type x": "no column for --agent-type",
    "sessions --store {} --project none": "no project 'none'; it has 'default'.",
    "sessions --store nowhere": "There is nothing at nowhere.",
    "sessions --project p --sandbox": "--project goes with --store",
    "sessions --limit 0": "0 is not in the range x>=1",
    "transcript x --newest --store {}": "--newest of a transcript goes with --limit",
    "session x --store {}": "The archive holds no session x.",
}


async def test_options_that_make_no_sense_together_are_refused(place, look):
    for words, said in REFUSED.items():
        done = await look(*words.format(place).split())
        assert (words, done.code, done.out, said in done.err) == (words, 2, "", True)


async def test_a_session_of_two_projects_is_asked_for_by_its_project(box, place, look):
    await synced(place, box, project="b")
    some = box.world.sessions[7]["id"]
    both = await look("session", some, "--store", place)
    assert (both.code, "in the projects b, default; name one with --project" in both.err) == (2, True)
    one = await look("session", some, "--store", place, "--project", "b", "--json")
    assert one.rows[0]["project"] == "b"
    every = (await look("sessions", "--store", place, "--json")).rows
    assert len(every) == 120
    starts = [each["start_time"] for each in every]
    assert starts == sorted(starts)


async def test_an_archive_that_is_damaged_is_a_sentence(box, place, look):
    session_id = box.world.sessions[7]["id"]
    with closing(sqlite3.connect(place)) as db, db:
        db.execute("UPDATE sessions SET raw = '{'")
        db.execute("UPDATE messages SET content = x'fffe'")
    for command in ("sessions", "session", "messages"):
        named = [] if command == "sessions" else [session_id]
        done = await look(command, *named, "--store", place, "--json")
        assert (done.code, "is damaged; `navtalk verify" in done.err) == (2, True)


async def test_times_are_shown_in_the_zone_of_the_machine(place, look):
    options, env = ("--limit", "3", "--store", place), {"TZ": "Asia/Kolkata"}
    utc = (await look("sessions", *options, "--json")).rows
    local = (await navtalk("sessions", *options, "--local-time", "--json", env=env)).rows
    for one, other in zip(utc, local, strict=True):
        assert other["start_time"].endswith("+05:30")
        assert datetime.fromisoformat(one["start_time"]) == datetime.fromisoformat(other["start_time"])
    _, shown = await run_on_terminal("sessions", *options, "--local-time", env=env)
    assert "start (local)" in shown.splitlines()[0]
    assert local[0]["start_time"][:19].replace("T", " ") in shown


@pytest.mark.parametrize("api", ["lexicon", "llamacloud"])
async def test_ids_are_whole_and_titles_are_shown(api, tmp_path, look):
    place, user = tmp_path / "archive.db", ("--user", "user-0") if api == "lexicon" else ()
    async with Sandbox(World(20, messages=1)) as box:
        name = {"lexicon": "LEXICON", "llamacloud": "LLAMA_CLOUD"}[api]
        env = {f"{name}_API_KEY": "any", f"{name}_BASE_URL": box.url_of(api)}
        assert (await look("sync", place, "--api", api, *user, **env)).code == 0
    rows = (await look("sessions", "--store", place, "--json")).rows
    assert rows
    for columns in ("30", "80"):
        _, shown = await run_on_terminal("sessions", "--store", place, env={"COLUMNS": columns})
        assert all(each["id"] in shown for each in rows)
    assert all(cell(each["title"])[:8] in shown for each in rows)
    assert all(each["updated_at"][:19].replace("T", " ") in shown for each in rows)


async def test_an_archive_on_a_server_is_looked_into_too(box, postgres, look):
    place, options = (
        await synced(await new_schema(postgres), box),
        ("--newest", "--limit", "9", "--status", "1"),
    )
    asked = list(map(without_archive, (await look("sessions", *options, "--json", box=box)).rows))
    kept = await look("sessions", *options, "--json", "--store", place)
    assert list(map(without_archive, kept.rows)) == asked
    async with Archive.open(place, read_only=True) as archive:
        found = [each async for batch in archive.list_sessions() for each in batch]
        counts = await archive.counts()
    assert sum(count for _, count in found) == counts.messages
