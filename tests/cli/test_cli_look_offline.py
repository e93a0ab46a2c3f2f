"""`sessions`, `session`, `messages` and `transcript` with --store, --limit, --newest and --local-time."""

import asyncio
from datetime import datetime

import pytest
from looked_at import synced
from shell import navtalk, run_on_terminal
from test_cli_imports import imported

from navtalk_async.archive import Archive
from navtalk_async.cli._layout import cell
from navtalk_async.sandbox import Sandbox, World

OFFLINE = {"NAVTALK_API_KEY": None}


@pytest.fixture
async def box():
    async with Sandbox(World(60, messages=4)) as box:
        yield box


@pytest.fixture
async def place(box, tmp_path):
    return await synced(tmp_path / "archive.db", box)


def without_archive(row):
    """*row* without what only an archive knows."""
    return {name: value for name, value in row.items() if name not in ("project", "deleted_at", "position")}


async def test_an_archive_shows_what_its_api_shows(box, place):
    some = box.world.sessions[7]["id"]
    for arguments in (
        ("sessions", "--start", "2025-11-05", "--end", "2025-11-20 12:00:00", "--status", "1"),
        ("sessions", "--newest", "--limit", "5"),
        ("session", some),
        ("messages", some, "--role", "user"),
        ("messages", some, "--limit", "2", "--newest"),
        ("transcript", some, "--limit", "2", "--newest"),
    ):
        asked, kept = await asyncio.gather(
            navtalk(*arguments, "--json", box=box),
            navtalk(*arguments, "--json", "--store", place, env=OFFLINE),
        )
        assert (arguments, list(map(without_archive, kept.rows))) == (
            arguments,
            list(map(without_archive, asked.rows)),
        )
        assert (kept.code, kept.err) == (asked.code, asked.err) == (0, "")


async def test_limits_and_the_newest_are_those_of_the_whole_list(box, place):
    whole = (await navtalk("sessions", "--json", "--store", place, env=OFFLINE)).rows
    for options, rows in (
        (("--limit", "7"), whole[:7]),
        (("--newest", "--limit", "7"), whole[:-8:-1]),
        (("--newest",), whole[::-1]),
        (("--limit", "700"), whole),
    ):
        assert (await navtalk("sessions", *options, "--json", "--store", place, env=OFFLINE)).rows == rows
    asked = box.counts.total
    first = await navtalk("sessions", "--limit", "1", box=box)
    assert len(first.out.splitlines()) == 2
    assert box.counts.total - asked <= 2


async def test_looking_into_an_archive_imports_no_client(place):
    for arguments in (("sessions",), ("session", "x"), ("messages", "x"), ("transcript", "x"), ("report",)):
        given = [place] if arguments == ("report",) else ["--store", place]
        code, modules = await imported(*arguments, *given)
        assert (arguments, code in (0, 2), modules) == (arguments, True, [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sessions --store {} --api-key-file k", "--store asks no API; leave out --api-key-file."),
        ("sessions --store {} --rate 3 --sandbox", "leave out --rate and --sandbox."),
        ("sessions --store {} --listing serial", "leave out --listing."),
        ("sessions --store {} --agent-type x", "no column for --agent-type"),
        ("sessions --store {} --project none", "no project 'none'; it has 'default'."),
        ("sessions --store nowhere", "There is nothing at nowhere."),
        ("sessions --project p", "--project goes with --store"),
        ("sessions --limit 0", "0 is not in the range x>=1"),
        ("transcript x --newest --store {}", "--newest of a transcript goes with --limit"),
        ("session x --store {}", "The archive holds no session x."),
    ],
)
async def test_options_that_make_no_sense_together_are_refused(words, said, place):
    done = await navtalk(*words.format(place).split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err


async def test_a_session_of_two_projects_is_asked_for_by_its_project(box, place):
    await synced(place, box, project="b")
    some = box.world.sessions[7]["id"]
    both = await navtalk("session", some, "--store", place)
    assert (both.code, "in the projects b, default; name one with --project" in both.err) == (2, True)
    one = await navtalk("session", some, "--store", place, "--project", "b", "--json")
    assert one.rows[0]["project"] == "b"
    every = await navtalk("sessions", "--store", place, "--json")
    assert len(every.rows) == 120
    starts = [each["start_time"] for each in every.rows]
    assert starts == sorted(starts)


async def test_times_are_shown_in_the_zone_of_the_machine(place):
    options, env = ("--limit", "3", "--store", place), {"TZ": "Asia/Kolkata"}
    utc = (await navtalk("sessions", *options, "--json")).rows
    local = (await navtalk("sessions", *options, "--local-time", "--json", env=env)).rows
    for one, other in zip(utc, local, strict=True):
        assert other["start_time"].endswith("+05:30")
        assert datetime.fromisoformat(one["start_time"]) == datetime.fromisoformat(other["start_time"])
    _, shown = await run_on_terminal("sessions", *options, "--local-time", env=env)
    assert "start (local)" in shown.splitlines()[0]
    assert local[0]["start_time"][:19].replace("T", " ") in shown


@pytest.mark.parametrize("columns", ["30", "80", "200"])
@pytest.mark.parametrize("api", ["lexicon", "llamacloud"])
async def test_ids_are_whole_and_titles_are_shown(api, columns, tmp_path):
    place, user = tmp_path / "archive.db", ("--user", "user-0") if api == "lexicon" else ()
    async with Sandbox(World(20, messages=1)) as box:
        env = {
            f"{name}_{what}": value
            for name in ("LEXICON", "LLAMA_CLOUD")
            for what, value in (("API_KEY", "any"), ("BASE_URL", box.url_of(api)))
        }
        assert (await navtalk("sync", place, "--api", api, *user, env=env)).code == 0
    rows = (await navtalk("sessions", "--store", place, "--json")).rows
    _, shown = await run_on_terminal("sessions", "--store", place, env={"COLUMNS": columns})
    assert all(each["id"] in shown for each in rows)
    if columns != "30":
        for each in rows:
            assert cell(each["title"])[:8] in shown
        assert all(each["updated_at"][:19].replace("T", " ") in shown for each in rows)


async def test_an_archive_on_a_server_is_looked_into_too(box, new_place):
    place = await synced(await new_place(), box)
    asked, kept = await asyncio.gather(
        navtalk("sessions", "--newest", "--limit", "9", "--status", "1", "--json", box=box),
        navtalk("sessions", "--newest", "--limit", "9", "--status", "1", "--json", "--store", place),
    )
    assert list(map(without_archive, kept.rows)) == list(map(without_archive, asked.rows))
    async with Archive.open(place, read_only=True) as archive:
        found = [row for batch in [b async for b in archive.list_sessions()] for row in batch]
        counts = await archive.counts()
    assert sum(count for _, count in found) == counts.messages
