"""What a store in an SQLite file promises beside: its file is recognised, left alone, and upgraded."""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import sys
import warnings
from contextlib import closing

import msgspec
import pytest
from store_rows import (
    LATER,
    ROUND,
    RUN,
    asked,
    clock,
    everything,
    fetched,
    journal,
    message,
    session,
    wanted,
)

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession, FetchResult, MessageCounts
from navtalk_async.archive.rows import (
    content_hash,
    damage,
    digest,
    message_row,
    row_digest,
    session_row,
)
from navtalk_async.dialects.kodey import Kodey
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch, StoreUnreachable
from navtalk_async.models import ResumePoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.db"


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
async def test_two_names_of_one_file_have_one_lock(link, tmp_path, path):
    async with Archive.open(path):
        getattr(tmp_path.joinpath("alias.db"), link)(path)
        with pytest.raises(StoreLocked):
            async with Archive.open(tmp_path / "alias.db"):
                pass
    async with Archive.open(tmp_path / "alias.db"):
        with pytest.raises(StoreLocked):
            async with Archive.open(path):
                pass


async def test_another_process_is_kept_out_whatever_stands_beside_the_file(tmp_path, path):
    path.touch()
    (tmp_path / "alias.db").hardlink_to(path)
    async with Archive.open(path):
        for name in ("archive.db", "alias.db"):
            assert await opened_elsewhere(tmp_path / name) == "StoreLocked"
        for beside in set(tmp_path.iterdir()) - {path, tmp_path / "alias.db"}:
            assert beside.name in {"archive.db-wal", "archive.db-shm"}
    assert await opened_elsewhere(tmp_path / "alias.db") == "opened"


async def opened_elsewhere(path):
    """What comes of opening the archive at *path* in another process."""
    program = """if True:
        import asyncio, sys
        from navtalk_async.archive import Archive
        async def main():
            try:
                async with Archive.open(sys.argv[1]):
                    return "opened"
            except Exception as error:
                return type(error).__name__
        print(asyncio.run(main()))
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, path, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].decode().strip()


async def test_a_fork_of_the_process_holds_no_archive(path):
    store = Archive.open(path)
    async with store:
        process = multiprocessing.get_context("fork").Process(target=signal.pause)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
    try:
        async with Archive.open(path):
            pass
        assert await opened_elsewhere(path) == "opened"
    finally:
        process.kill()
        process.join()


async def test_a_version_that_holds_the_file_beside_keeps_others_out(tmp_path, path):
    async with Archive.open(path):
        pass
    with closing(sqlite3.connect(tmp_path / "archive.db.lock", isolation_level=None)) as older:
        older.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreLocked):
            async with Archive.open(path):
                pass
    async with Archive.open(path):
        pass


async def test_a_second_name_in_another_folder_is_refused_where_its_log_cannot_be_seen(tmp_path, path):
    async with Archive.open(path):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.db").hardlink_to(path)
    for name in (path, tmp_path / "other" / "b.db"):
        with pytest.raises(StoreUnreachable, match="second name in another folder"):
            async with Archive.open(name):
                pass
    (tmp_path / "other" / "b.db").unlink()
    async with Archive.open(path):
        pass


async def test_a_reader_by_another_name_sees_what_was_committed_last(tmp_path, path):
    (tmp_path / "link.db").symlink_to(path)
    async with Archive.open(path) as store:
        await store.begin("default", api="navtalk", scope="{}")
        for immutable in (False, True):
            async with Archive.open(tmp_path / "link.db", immutable=immutable, read_only=True) as reader:
                assert [about.project for about in await reader.projects()] == ["default"]


async def test_commits_in_the_log_beside_another_name_are_not_written_over(tmp_path, path):
    killed = """if True:
        import asyncio, os, sys
        from navtalk_async.archive import Archive
        async def main():
            async with Archive.open(sys.argv[1]) as store:
                await store.begin("killed", api="navtalk", scope="{}")
                os._exit(0)
        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", killed, path)
    await process.wait()
    (tmp_path / "alias.db").hardlink_to(path)
    with pytest.raises(StoreUnreachable, match=r"archive\.db-wal, under its other name"):
        async with Archive.open(tmp_path / "alias.db"):
            pass
    async with Archive.open(path) as store:
        assert [about.project for about in await store.projects()] == ["killed"]
    async with Archive.open(tmp_path / "alias.db") as store:
        assert [about.project for about in await store.projects()] == ["killed"]


@pytest.mark.parametrize(
    "name", [":memory:", "file:x.db?mode=memory", "file::memory:?cache=shared", "file:x.db", "a b%20c#d"]
)
async def test_whatever_its_name_an_archive_is_a_file_of_that_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with Archive.open(name) as store:
        await store.begin("default", api="navtalk", scope="{}")
        assert [each.name for each in tmp_path.iterdir() if each.name.endswith(("-wal", "-shm"))]
    assert [each.name for each in tmp_path.iterdir()] == [name]
    async with Archive.open(name, read_only=True) as reader:
        assert [about.project for about in await reader.projects()] == ["default"]


async def test_what_holds_chats_is_for_its_owner_alone_and_an_archive_that_is_there_keeps_its_mode(tmp_path):
    path = tmp_path / "new" / "folder" / "archive.db"
    old = os.umask(0o022)
    try:
        async with Archive.open(path) as store:
            await store.begin("default", api="navtalk", scope="{}")
            made = {each.relative_to(tmp_path): each.stat().st_mode & 0o777 for each in tmp_path.rglob("*")}
    finally:
        os.umask(old)
    folders = [mode for each, mode in made.items() if not each.suffix]
    assert folders == [0o700, 0o700]
    assert len(made) == 5
    assert {mode for each, mode in made.items() if each.suffix} == {0o600}
    path.chmod(0o640)
    async with Archive.open(path) as store:
        await store.begin("other", api="navtalk", scope="{}")
    assert path.stat().st_mode & 0o777 == 0o640


async def test_a_text_that_is_no_utf_8_any_more_costs_its_session_alone(path):
    async with Archive.open(path) as store:
        await store.begin("default", api="navtalk", scope="{}")
        await journal(store, session(1, title="broken"), session(2, title="whole"))
        await store.save_messages("default", [fetched(session(1, title="broken"), 1), fetched(session(2), 2)])
    for table, column in (("sessions", "title"), ("messages", "content")):
        await asked(path, f"UPDATE {table} SET {column} = CAST(x'68ff69' AS TEXT) WHERE rowid = 1")
    async with Archive.open(path) as store:
        broken, whole = await everything(store)
        assert (broken.session.title, broken.messages[0].content) == ("h\ufffdi", "h\ufffdi")
        assert broken.digest != digest(broken.messages)
        assert broken.row_digest != row_digest(broken.session)
        assert (whole.digest, whole.row_digest) == (digest(whole.messages), row_digest(whole.session))
        again = fetched(session(1, title="broken"), 1)
        assert (await store.save_messages("default", [again])).changed == 1
        assert [each.digest == digest(each.messages) for each in await everything(store)] == [True, True]


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(path):
    path.write_bytes(b"Dear diary, " * 500)
    with pytest.raises(StoreBroken, match="damaged, or is no archive"):
        async with Archive.open(path):
            pass
    assert path.read_bytes() == b"Dear diary, " * 500


async def test_somebody_elses_database_is_refused(path):
    await asked(path, "CREATE TABLE theirs (id)")
    for read_only in (False, True):
        with pytest.raises(StoreBroken, match=r"something else|no archive"):
            async with Archive.open(path, read_only=read_only):
                pass
    assert await asked(path, "SELECT name FROM sqlite_master") == [("theirs",)]


async def test_an_archive_of_a_newer_version_is_refused(path):
    async with Archive.open(path):
        pass
    await asked(path, "PRAGMA user_version = 99")
    for read_only in (False, True):
        with pytest.raises(StoreMismatch, match="newer version"):
            async with Archive.open(path, read_only=read_only):
                pass


async def test_a_place_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be used"):
        async with Archive.open(tmp_path / "file" / "archive.db"):
            pass


async def test_a_file_is_not_even_touched_where_nothing_is_new(path):
    async with Archive.open(path) as store, Archive.open(path, read_only=True) as reader:
        await store.begin("default", api="navtalk", scope="{}")
        await journal(store, session(1))
        await store.save_messages("default", [fetched(session(1), 1)])
        await store.finish("default", ROUND, RUN)
        [(before,)] = await reader._rows("PRAGMA data_version")
        await store.begin("default", api="navtalk", scope="{}")
        await journal(store, session(1), quiet=True)
        assert await store.save_messages("default", [fetched(session(1), 1)]) == MessageCounts(same=1)
        await store.finish("default", ROUND, RUN)
        assert await reader._rows("PRAGMA data_version") == [(before,)]
        await journal(store, session(2), quiet=True)
        assert await reader._rows("PRAGMA data_version") != [(before,)]


FIRST_SCHEMA = """
CREATE TABLE sessions (
    project TEXT NOT NULL, id TEXT NOT NULL, api TEXT NOT NULL,
    status, start_time TEXT, end_time TEXT, title TEXT, video_url TEXT,
    raw TEXT NOT NULL, content_hash TEXT NOT NULL,
    first_seen_at TEXT NOT NULL, last_changed_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (project, id)
);
CREATE INDEX sessions_in_order ON sessions (project, start_time, id);
CREATE TABLE messages (
    project TEXT NOT NULL, id TEXT NOT NULL, session_id TEXT NOT NULL, position INTEGER NOT NULL,
    role, type, content TEXT, created_at TEXT, raw TEXT NOT NULL,
    PRIMARY KEY (project, id)
);
CREATE INDEX messages_in_order ON messages (project, session_id, position);
CREATE TABLE sync_projects (
    project TEXT PRIMARY KEY, api TEXT NOT NULL, scope TEXT NOT NULL,
    next TEXT, reached TEXT, watermark TEXT, listings INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE sync_pending (
    project TEXT NOT NULL, session_id TEXT NOT NULL, content_hash TEXT,
    reason TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project, session_id)
);
PRAGMA application_id = 0x6E617674;
"""

KEPT, PENDING, FAILED, UNREAD, GOES_ON = (
    session(1),
    session(2),
    session(3),
    session(4),
    session(5, status=0, ended=None),
)


def text(value):
    return msgspec.json.encode(value).decode()


def first_archive(path, *, following):
    """An archive as the first version left it in the midst of a listing: sessions of every sort."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(FIRST_SCHEMA)
        db.execute("PRAGMA user_version = 1")
        for each in (KEPT, PENDING, FAILED, UNREAD, GOES_ON):
            row = session_row("default", "navtalk", each, "2025-11-13T00:00:00Z")
            row = (*row[:6], row.title, row.video_url, *row[10:])
            db.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * len(row))})", row)
        for number, each in enumerate((KEPT, UNREAD, GOES_ON)):
            row = message_row("default", each.id, 0, message(number))
            db.execute(f"INSERT INTO messages VALUES ({', '.join('?' * len(row))})", row)
        pending = "INSERT INTO sync_pending VALUES ('default', ?, ?, ?, ?)"
        db.execute(pending, (PENDING.id, content_hash(PENDING), None, 0))
        db.execute(pending, (FAILED.id, content_hash(FAILED), "ServerError: 500", 8))
        db.execute(
            "INSERT INTO sync_projects (project, api, scope, next, reached, watermark, listings) "
            "VALUES ('default', 'navtalk', '{}', ?, '2025-11-12 18:20:05', '2025-11-11 00:00:00', 3)",
            (following,),
        )


async def test_a_sync_continues_an_archive_of_the_first_version(path):
    first_archive(path, following=text(LATER.next))
    async with Archive.open(path) as store:
        standing = await store.begin("default", api="navtalk", scope="{}")
        assert standing.places == [ResumePoint(LATER.next)]
        assert (standing.watermark, standing.round.reached) == (
            "2025-11-11T00:00:00Z",
            "2025-11-12T18:20:05Z",
        )
        assert (standing.round.since, standing.short_pages_disproved) == (None, False)
        assert (standing.pending, standing.failed) == ([wanted(PENDING)], 1)
        assert await store.failures("default") == [FailedSession(FAILED.id, "ServerError: 500", 8)]
        assert await store.unfollowed_cursors("default") == []
        assert await store.watched("default", fresh=clock().fresh) == [GOES_ON.id]
        assert [len(each.messages) for each in await everything(store)] == [1, 0, 0, 1, 1]
        assert await store.flaws("default") == []
        [about] = await store.projects()
        assert (about.rounds, about.last_run) == (3, None)


@pytest.mark.parametrize(
    ("harm", "watermark"),
    [
        ("UPDATE sessions SET start_time = '2025-11-12T23:59:59Z' WHERE rowid = 1", "2025-11-11T00:00:00Z"),
        ("UPDATE sessions SET start_time = '2025-11-13T00:00:01Z' WHERE rowid = 1", None),
        ("""UPDATE sync_projects SET scope = '{"end":"2030-01-01 00:00:00"}'""", None),
        ("""UPDATE sync_projects SET scope = '{"status":1}', next = '{"path":"/x"}'""", None),
    ],
)
async def test_what_an_earlier_version_may_have_missed_is_listed_again(path, harm, watermark):
    first_archive(path, following=None)
    await asked(path, harm)
    async with Archive.open(path) as store:
        [about] = await store.projects()
        assert (about.watermark, about.round) == (watermark, None)
        assert (await store.begin("default", api="navtalk", scope=about.scope)).places == []


async def test_what_an_older_version_kept_is_noted_anew_unless_it_is_damaged(path):
    async with Archive.open(path) as store:
        await store.begin("default", api="navtalk", scope="{}")
        kept = [session(n) for n in range(4)]
        await journal(store, *kept)
        await store.save_messages("default", [fetched(each, n, 10 + n) for n, each in enumerate(kept)])
    await asked(path, "UPDATE sync_sessions SET digest = NULL, row_digest = NULL")
    await asked(path, "UPDATE sessions SET change = 0")
    await asked(path, f"DELETE FROM messages WHERE session_id = '{kept[0].id}' AND position = 0")
    await asked(path, f"UPDATE messages SET content = 'wrong' WHERE session_id = '{kept[3].id}'")
    async with Archive.open(path) as store:
        assert [each.digest for each in await everything(store)] == [None] * 4
        await store.begin(
            "default",
            api="navtalk",
            scope="{}",
            dialect=NavTalk(),
        )
        found = await everything(store)
        assert [each.digest == digest(each.messages) for each in found] == [False, True, True, False]
        assert [bool(damage(each, NavTalk())) for each in found] == [True, False, False, True]


async def test_columns_that_the_first_version_did_not_have_are_filled_unless_a_row_is_damaged(path):
    raw = b'{"id":"%s","userId":"ann","createdAt":"2025-11-12T18:20:38Z","updatedAt":"2025-11-13T00:00:00Z"}'
    chats = [Kodey().session_of(raw.replace(b"%s", name)) for name in (b"a", b"b")]
    async with Archive.open(path) as store:
        await store.begin("default", api="kodey", scope="{}")
        await journal(store, *chats)
        await store.save_messages("default", [FetchResult(wanted(each), []) for each in chats])
        before, _ = await everything(store)
    await asked(path, "UPDATE sync_sessions SET digest = NULL, row_digest = NULL")
    await asked(path, "UPDATE sessions SET change = 0, user_id = NULL, updated_at = NULL")
    await asked(path, "UPDATE sessions SET end_time = '2030-01-01T00:00:00Z' WHERE id = 'b'")
    async with Archive.open(path) as store:
        await store.begin("default", api="kodey", scope="{}", dialect=Kodey())
        whole, damaged = await everything(store)
    assert whole == before
    assert (whole.session.user_id, damaged.session.user_id) == ("ann", None)
    assert damage(damaged, Kodey())


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/null"])
async def test_what_is_no_regular_file_is_refused(kind, path):
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    with pytest.raises(StoreUnreachable, match="no regular file"):
        async with Archive.open(path):
            pass


async def test_an_archive_of_the_first_version_ends_as_one_that_was_always_of_this_one(tmp_path):
    first_archive(tmp_path / "old.db", following=None)
    found = []
    for name in ("old.db", "new.db"):
        async with Archive.open(tmp_path / name) as store:
            await store.begin("default", api="navtalk", scope="{}", retry_failed=True, dialect=NavTalk())
            sessions = (KEPT, PENDING, FAILED, UNREAD, GOES_ON)
            await journal(store, *sessions)
            await store.save_messages(
                "default", [fetched(each, n, 10 + n) for n, each in enumerate(sessions)]
            )
            await store.finish("default", ROUND, RUN)
            await store.begin("default", api="navtalk", scope="{}", dialect=NavTalk())
            kept = await everything(store)
            found.append(
                (
                    [each.messages for each in kept],
                    [each.session.raw for each in kept],
                    [each.digest for each in kept],
                    await store.counts("default"),
                    await store.watched("default", fresh=clock(9).fresh),
                )
            )
    assert found[0] == found[1]


async def test_an_archive_of_the_first_version_is_not_read_and_the_refusal_says_how_to_upgrade(path):
    first_archive(path, following=None)
    with pytest.raises(StoreMismatch, match="older version; `navtalk sync"):
        async with Archive.open(path, read_only=True):
            pass


async def test_a_task_cancelled_while_a_store_opens_or_closes_leaves_it_to_others(tmp_path):
    async def once():
        async with Archive.open(tmp_path / "archive.db"):
            await asyncio.sleep(0)

    for steps in range(60):
        task = asyncio.create_task(once())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await once()


async def test_a_database_of_something_else_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE foo (bar)")
    before = path.read_bytes()
    with pytest.raises(StoreBroken, match="something else"):
        async with Archive.open(path):
            pass
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_an_archive_that_is_taken_away_meanwhile_is_noticed(how, tmp_path):
    path = tmp_path / "archive.db"
    async with Archive.open(path) as store:
        await store.begin("default", api="navtalk", scope="{}")
        path.rename(tmp_path / "old.db")
        if how == "replaced":
            path.write_bytes(b"")
        with pytest.raises(StoreUnreachable, match="removed or replaced"):
            await store.finish("default", ROUND, RUN)
        with pytest.raises(StoreUnreachable, match="removed or replaced"):
            await store.begin("default", api="navtalk", scope="{}")
