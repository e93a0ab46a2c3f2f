"""The views that an archive has for people who write SQL."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from earlier_schemas import downgrade
from postgres_box import new_schema
from store_rows import asked, begin, fetched, journal, message, session, wanted

from navtalk_async.archive import Archive
from navtalk_async.archive._schema import COLUMNS, columns_of
from navtalk_async.archive._views import COMMENTS, VIEWS
from navtalk_async.archive.records import FetchResult
from navtalk_async.models import Role

README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")


def said(number, role, created):
    return message(number, f"text {number}", role=role, created=created)


async def filled(place):
    """Two sessions, of which one is empty, at *place*."""
    talk = [
        said(1, Role.USER, "2025-11-12 18:20:40"),
        said(2, Role.ASSISTANT, "2025-11-12 18:20:42"),
        said(3, Role.ASSISTANT, "2025-11-12 18:21:42"),
        said(4, Role.USER, "2025-11-12 18:22:00"),
        said(5, Role.USER, "2025-11-12 18:22:03"),
        said(6, Role(7), "2025-11-12T18:22:08.25Z"),
    ]
    async with Archive.open(place) as store:
        await begin(store)
        await journal(store, session(1, title="Bills"), session(2, ended=None))
        await store.save_messages("default", [FetchResult(wanted(session(1, title="Bills")), talk)])
        await store.save_messages("default", [fetched(session(2, ended=None))])


async def test_a_conversation_is_a_message_a_row_with_its_session(new_place):
    place = await new_place()
    await filled(place)
    query = f"SELECT title, position, role, content FROM conversation WHERE session_id = '{session(1).id}'"
    rows = await asked(place, f"{query} ORDER BY position")
    assert [(title, position, content) for title, position, _, content in rows] == [
        ("Bills", number, f"text {number + 1}") for number in range(6)
    ]
    assert [str(role) for _, _, role, _ in rows[3:]] == ["user", "user", "7"]


async def test_statistics_count_and_time_each_session(new_place):
    place = await new_place()
    await filled(place)
    columns = """messages, user_messages, assistant_messages, first_message_at, last_message_at,
        duration_seconds, longest_wait_seconds"""
    full, empty = await asked(place, f"SELECT {columns} FROM session_stats ORDER BY session_id")
    assert full[:5] == (6, 3, 2, "2025-11-12T18:20:40Z", "2025-11-12T18:22:08.250000Z")
    # From 18:20:01 to 18:30:00; the user's second question was answered after 5.25 s.
    assert [float(each) for each in full[5:]] == [599, 5.25]
    assert empty == (0, 0, 0, None, None, None, None)


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_finds_one_session_without_reading_all(tmp_path, view):
    await filled(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        plan = db.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE session_id = 'x'").fetchall()
    steps = [text for *_, text in plan if re.match(r"(SCAN|SEARCH) [sma]\b", text)]
    assert [each for each in steps if each.startswith("SCAN")] == []


async def test_postgres_has_a_comment_for_every_table_and_view(postgres):
    place = await new_schema(postgres)
    await filled(place)
    found = await asked(
        place,
        """SELECT relname::text FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v')
        AND obj_description(oid) IS NULL""",
    )
    assert found == [("sync_schema",)]
    rows = await asked(place, "SELECT col_description('session_stats'::regclass, 14)")
    assert rows == [(COMMENTS["session_stats.duration_seconds"],)]


async def test_an_upgrade_keeps_a_view_of_the_users(new_place):
    place = await new_place()
    await filled(place)
    await downgrade(place, 7)
    await asked(place, "CREATE VIEW conversation AS SELECT 1 AS mine")
    async with Archive.open(place):
        pass
    assert await asked(place, "SELECT * FROM conversation") == [(1,)]
    assert len(await asked(place, "SELECT * FROM session_stats")) == 2


async def test_rebuilding_a_table_leaves_the_views_on_it(tmp_path):
    place = tmp_path / "a.db"
    await filled(place)
    await asked(place, "UPDATE messages SET id = CAST(x'ff41' AS TEXT) WHERE position = 2")
    async with Archive.open(place) as store:
        await store.refetch("default", [])
    assert await asked(place, "SELECT COUNT(*) FROM conversation") == [(5,)]


async def test_readme_names_every_column():
    section = README.partition("## What is in the archive?")[2].partition("\n## ")[0]
    for table in ("sessions", "messages", "message_history"):
        assert [each for each in columns_of(table) if f"`{each}`" not in section] == []
    for table in COLUMNS:
        assert table.startswith("sync_") or f"| `{table}` |" in section
