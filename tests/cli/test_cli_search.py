"""`navtalk search`, as people and scripts meet it; and killed wherever something reaches the disk."""

from itertools import cycle
from shutil import copyfile

import pytest
from command_runs import command_runner
from postgres_box import new_schema
from store_rows import begin, everything, journal, message, session, wanted

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FetchResult
from navtalk_async.archive.sqlite_file import index_of
from navtalk_async.formats.words import matches, parse_query, words

KILLED = -9


@pytest.fixture
async def commands():
    async with command_runner() as commands:
        yield commands


async def say(store, number, *texts):
    """A session in which all *texts* were said."""
    one = session(number, started=f"2025-11-12 {number:02}:00:00", title=f"title {number}")
    await journal(store, one)
    rows = [message(100 * number + place, text) for place, text in enumerate(texts)]
    await store.save_messages("default", [FetchResult(wanted(one), rows, at="2026-01-01")])


async def filled(place):
    async with Archive.open(place) as store:
        await begin(store)
        await say(store, 1, "The refund of my card", "I see\nto it \x1b[31m", "ann@example.org: thanks")
        await say(store, 2, "a refund", "部署 has it")


async def test_hits_are_printed_as_cells_or_as_json(commands, tmp_path):
    place = tmp_path / "archive.db"
    await filled(place)
    run = await commands.run("search", place, "REFUND", env={})
    assert (run.code, run.err) == (0, "")
    heading, newest, oldest = (line.split("\t") for line in run.out.splitlines())
    assert heading == [
        *("project", "session_id", "title", "start_time", "position", "message_id", "role", "created_at"),
        "snippet",
    ]
    assert (newest[2], newest[-1], oldest[1]) == ("title 2", "a refund", session(1).id)
    run = await commands.run("search", place, "see", "--json", env={})
    assert [(each["snippet"], each["marks"]) for each in run.rows] == [("I see\nto it \x1b[31m", [[2, 5]])]
    run = await commands.run("search", place, "see", env={})
    assert "I see\\nto it \\x1b[31m" in run.out
    run = await commands.run("search", tmp_path, "部署", "--limit", "1", env={})
    assert "These are the first 1; --limit shows more." in run.err
    run = await commands.run("search", place, "thanks", "--redact", "emails", "--role", "user", env={})
    assert "[email]: thanks" in run.out
    for nothing in (["example", "--redact", "emails"], ["nothing"], ["see", "--end", "2025-01-01"]):
        run = await commands.run("search", place, *nothing, env={})
        assert (run.code, run.out, run.err) == (0, "", "navtalk: No message was found.\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["(refund"], 'There is a "(" without its ")"'),
        (["!"], "There is no word to find in"),
        ([""], "There is no word to find in"),
        (["re*fund"], "A * stands at the end of a word"),
        (["refund", "--project", "other"], "no project 'other'"),
        (["refund", "--limit", "0"], "--limit"),
        ([], "Missing argument"),
        (["-x"], "after `--`: `-- -x`"),
    ],
)
async def test_what_cannot_be_right_is_refused_in_words(commands, tmp_path, words, why):
    place = tmp_path / "archive.db"
    await filled(place)
    run = await commands.run("search", place, *words, env={})
    assert (run.code, run.out) == (2, "")
    assert why in run.err
    assert not index_of(place).exists()


async def test_an_index_that_cannot_be_written_is_named(commands, tmp_path):
    place = tmp_path / "archive.db"
    await filled(place)
    index_of(place).mkdir()
    run = await commands.run("search", place, "refund", env={})
    assert (run.code, run.out) == (2, "")
    assert f"{index_of(place)} cannot be used" in run.err


ASKED = "refund OR late"


async def expected(place):
    async with Archive.open(place, read_only=True) as archive:
        found = parse_query(ASKED)
        return sorted(
            each.id
            for kept in await everything(archive)
            for each in kept.messages
            if matches(found, list(words(each.content)))
        )


async def killed_everywhere(commands, place, *, again):
    """Kill the search at each failpoint that it reaches; *again* puts the index back as it was before."""
    await again()
    arguments = ("search", place, ASKED, "--json")
    run = await commands.run(*arguments, env={}, armed=True)
    assert run.code == 0
    arrivals = run.arrivals
    assert arrivals
    # Of many arrivals at one place, the first and the last.
    for name, nth in sorted({(each, nth) for each in arrivals for nth in (1, arrivals.count(each))}):
        await again()
        run = await commands.run(*arguments, env={}, end=[name, nth])
        assert run.code == KILLED, (name, nth, run.err)
        run = await commands.run(*arguments, env={})
        assert (run.code, sorted(each["message_id"] for each in run.rows)) == (0, await expected(place)), name
    return set(arrivals)


async def change(place):
    async with Archive.open(place) as store:
        await begin(store)
        await say(store, 1, "The refund of my card", "It is late")
        await say(store, 3, "late, but a refund")


async def test_a_search_that_is_killed_leaves_nothing_wrong_behind(commands, tmp_path):
    place = tmp_path / "archive.db"
    await filled(place)
    index, kept = index_of(place), tmp_path / "kept"

    async def without_index():
        index.unlink(missing_ok=True)

    reached = await killed_everywhere(commands, place, again=without_index)
    assert {"index: after create", "index: after write", "index: before commit"} <= reached
    copyfile(index, kept)
    await change(place)

    async def with_index_of_before():
        copyfile(kept, index)

    reached = await killed_everywhere(commands, place, again=with_index_of_before)
    assert "index: after create" not in reached


async def test_a_search_in_postgresql_that_is_killed_leaves_nothing_wrong_behind(commands, postgres):
    place = await new_schema(postgres)
    await filled(place)

    async def without_index():
        async with Archive.open(place) as store:
            await store._driver.remove_index()

    assert await killed_everywhere(commands, place, again=without_index) >= {"index: before commit"}

    states = cycle([("The refund of my card", "It is late"), ("late", "no refund"), ("early",)])

    async def changed_again():
        async with Archive.open(place) as store:
            await begin(store)
            await say(store, 1, *next(states))
            await say(store, 2, *next(states))

    await killed_everywhere(commands, place, again=changed_again)
