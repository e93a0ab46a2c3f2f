"""What a store in PostgreSQL promises beside: its schema is recognised and left alone, a password is never
shown, and nothing is written by who does not hold the lock.
"""

import asyncio
import signal
import socket
import sys
import traceback
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from postgres_box import new_schema, run_sql
from store_rows import asked, everything, fetched, journal, session

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive._postgres import PostgresDriver
from navtalk_async.archive._postgres_server import Server, Timeouts
from navtalk_async.archive.failpoints import arm
from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch, StoreUnreachable


@pytest.fixture
async def place(postgres):
    return await new_schema(postgres)


async def begun(store):
    await store.begin("default", api="navtalk", scope="{}")
    return store


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:sesame@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgres://me:ses@me/#?:@host/db", "postgres://me@host/db"),
        (
            "postgresql://me@host/db?password=sesame&sslmode=require",
            "postgresql://me@host/db?password=***&sslmode=require",
        ),
        ("postgresql://host/db?sslPassword=sesame", "postgresql://host/db?sslPassword=***"),
        ("postgresql://host/db?search_path=s", "postgresql://host/db?search_path=s"),
        ("postgresql:///db", "postgresql:///db"),
    ],
)
def test_an_address_is_shown_without_its_password(address, shown):
    assert redacted(address) == shown
    assert repr(Archive.open(address)) == f"<Archive {shown}>"
    assert repr(Archive.open(address, read_only=True)) == f"<Archive {shown}>"


@pytest.mark.parametrize("where", ["mysql://me:sesame@host/db", Path("postgresql://me:sesame@host/db")])
def test_what_cannot_be_a_store_is_refused_and_not_repeated(where):
    for ask in (Archive.open, redacted):
        with pytest.raises(ValueError, match=r"address of a database|no known database") as caught:
            ask(where)
        assert "sesame" not in str(caught.value)


def test_without_its_driver_a_store_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StoreUnreachable, match=r"pip install 'navtalk-async\[postgres\]'"):
        Archive.open("postgresql://host/db")


async def refused(address, kind=StoreError):
    """The error of a store that cannot be opened at *address*; it tells of no driver, and no password."""
    with pytest.raises(kind) as caught:
        async with Archive.open(address):
            pass
    shown = "".join(traceback.format_exception(caught.value))
    assert "asyncpg.exceptions" not in shown
    assert "sesame" not in shown
    assert type(caught.value) is kind
    return str(caught.value)


async def test_a_wrong_password_is_a_sentence_that_does_not_tell_it(postgres):
    await run_sql(postgres, "CREATE ROLE guarded LOGIN PASSWORD 'right'")
    address = postgres.replace("postgres@", "guarded:sesame@")
    assert "password authentication failed" in await refused(address, StoreUnreachable)


async def test_a_database_that_is_not_there_is_a_sentence(postgres):
    address = postgres.replace("/postgres?", "/nothing?")
    assert 'database "nothing" does not exist' in await refused(address, StoreUnreachable)


async def test_a_schema_that_is_not_there_is_a_sentence(postgres):
    assert "none of its search_path" in await refused(f"{postgres}&search_path=nothing", StoreUnreachable)


async def test_a_schema_that_we_may_not_write_to_is_a_sentence(postgres, place):
    await run_sql(postgres, "CREATE ROLE stranger LOGIN")
    address = place.replace("postgres@", "stranger@")
    assert "none of its search_path" in await refused(address, StoreUnreachable)
    await run_sql(postgres, f"GRANT USAGE ON SCHEMA {place.rpartition('=')[2]} TO stranger")
    assert "permission denied" in await refused(address, StoreUnreachable)


async def test_a_database_that_cannot_hold_every_text_is_a_sentence(postgres):
    await run_sql(
        postgres, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    address = postgres.replace("/postgres?", "/latin?")
    assert "LATIN1" in await refused(address, StoreUnreachable)


async def test_a_server_that_is_away_is_asked_again_later(tmp_path):
    assert "cannot be reached" in await refused(f"postgresql://me:sesame@/db?host={tmp_path}")
    assert "cannot be reached" in await refused("postgresql://me:sesame@127.0.0.1:1/db?sslmode=disable")


@pytest.mark.parametrize(
    "address", ["postgresql://me:sesame@host:sesame/db", "postgresql://me:ses#sesame@host/db"]
)
async def test_an_address_that_makes_no_sense_is_a_sentence(address):
    with pytest.raises(StoreError) as caught:
        async with Archive.open(address):
            pass
    assert "sesame@" not in "".join(traceback.format_exception(caught.value))


async def test_a_server_of_something_else_is_a_sentence():
    async def serve(_, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await refused(f"postgresql://me:sesame@127.0.0.1:{port}/db?sslmode=disable")


@pytest.mark.parametrize("name", ["sessions", "messages", "sync_projects"])
async def test_somebody_elses_tables_are_refused_and_left_as_they_were(place, name):
    await asked(place, f"CREATE TABLE {name} (theirs)".replace("theirs)", "theirs int)"))
    await asked(place, f"INSERT INTO {name} VALUES (7)")
    for read_only in (False, True):
        with pytest.raises(StoreBroken, match="something else"):
            async with Archive.open(place, read_only=read_only):
                pass
    assert await asked(place, f"SELECT * FROM {name}") == [(7,)]
    assert await asked(place, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()") == [
        (name,)
    ]


async def test_tables_of_other_names_are_nothing_to_us(place):
    await asked(place, "CREATE TABLE customers (id int)")
    async with Archive.open(place) as store:
        await begun(store)
    assert await asked(place, "SELECT * FROM customers") == []


async def test_an_archive_of_a_newer_version_is_refused(place):
    async with Archive.open(place):
        pass
    await asked(place, "UPDATE sync_schema SET version = 99")
    for read_only in (False, True):
        with pytest.raises(StoreMismatch, match="newer version"):
            async with Archive.open(place, read_only=read_only):
                pass


async def test_an_archive_whose_tables_were_changed_is_broken(place):
    async with Archive.open(place) as store:
        await begun(store)
        await asked(place, "ALTER TABLE sessions RENAME COLUMN raw TO cooked")
        with pytest.raises(StoreBroken, match="raw"):
            await journal(store, session(1))


async def test_two_workers_that_begin_at_once_make_one_archive(place):
    async def begin():
        async with Archive.open(place) as store:
            await begun(store)

    await asyncio.gather(begin(), begin(), begin())
    assert await asked(place, "SELECT version FROM sync_schema") == [(8,)]


async def test_each_schema_has_its_own_writer(postgres):
    async with Archive.open(await new_schema(postgres)), Archive.open(await new_schema(postgres)):
        pass


async def lose_the_connection(place):
    """End the writer's connection, as a restart of the server does."""
    await asked(
        place,
        """SELECT pg_terminate_backend(pid, 5000) FROM pg_locks JOIN pg_namespace AS n ON n.oid = objid
        WHERE locktype = 'advisory' AND granted AND nspname = current_schema()""",
    )


async def test_a_run_that_lost_its_connection_writes_no_more_and_another_one_may(place):
    async with Archive.open(place) as store:
        await journal(await begun(store), session(1))
        await lose_the_connection(place)
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                await journal(store, session(2))
            assert type(caught.value) is StoreError
        async with Archive.open(place) as other:
            await journal(await begun(other), session(3))
        with pytest.raises(StoreError):
            await store.save_messages("default", [fetched(session(1), 1)])
    async with Archive.open(place, read_only=True) as reader:
        assert (await reader.counts("default")).sessions == 2
        assert (await reader.counts("default")).messages == 0


async def test_a_connection_that_is_lost_in_the_midst_of_a_transaction_leaves_nothing_of_it(place):
    lost = asyncio.Event()

    def reached(name):
        if name == "record listing: after write":
            lost.set()
            arm(None)

    async with Archive.open(place) as store:
        await begun(store)
        arm(reached)
        writing = asyncio.create_task(journal(store, *(session(n) for n in range(20_000))))
        await lost.wait()
        await lose_the_connection(place)
        with pytest.raises(StoreError):
            await writing
    async with Archive.open(place, read_only=True) as reader:
        assert (await reader.counts("default")).sessions == 0


WORKER = """
import asyncio, sys
from navtalk_async.archive import Archive
from navtalk_async.archive.failpoints import arm

async def work():
    async with Archive.open(sys.argv[1]) as store:
        await store.begin("default", api="navtalk", scope="{}")
        print("holding", flush=True)
        await asyncio.sleep(600)

asyncio.run(work())
"""


async def test_a_killed_run_leaves_no_lock_behind(place):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, place, stdout=asyncio.subprocess.PIPE
    )
    assert await process.stdout.readline() == b"holding\n"
    with pytest.raises(StoreLocked):
        async with Archive.open(place):
            pass
    process.send_signal(signal.SIGKILL)
    async with Archive.open(place) as store:
        assert (await begun(store)) is store
    await process.communicate()


async def test_an_error_while_nobody_waits_is_left_to_the_next_call(place, quiet_loop):
    async with Archive.open(place) as store:
        await begun(store)
        async with quiet_loop():
            await lose_the_connection(place)
            call = asyncio.create_task(store.counts("default"))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            with pytest.raises(StoreError):
                await store.counts("default")


class Sender:
    """The way to a database over TCP, which goes mute when it is told to: nothing gets through any more, and
    nobody hangs up.
    """

    def __init__(self, place):
        rest, _, schema = place.rpartition("&search_path=")
        self._socket = f"{rest.rpartition('host=')[2]}/.s.PGSQL.5432"
        self._schema = schema
        self.place = ""
        self.is_mute = False
        self.swallowed = asyncio.Event()

    async def serve(self, reader, writer):
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._socket)
        try:
            await asyncio.gather(self._carry(reader, inner_writer), self._carry(inner_reader, writer))
        finally:
            for each in (writer, inner_writer):
                each.transport.abort()

    async def _carry(self, reader, writer):
        try:
            while some := await reader.read(65_536):
                if self.is_mute:
                    self.swallowed.set()
                else:
                    writer.write(some)
        except ConnectionError:
            pass
        writer.close()

    @asynccontextmanager
    async def laid(self):
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            query = f"sslmode=disable&search_path={self._schema}"
            self.place = f"postgresql://postgres@127.0.0.1:{port}/postgres?{query}"
            yield self


@pytest.fixture
async def wire(place):
    async with Sender(place).laid() as wire:
        yield wire


BRIEF = Timeouts(read=0.3, write=0.3, grace=0.3, farewell=0.1)
QUICK_END = Timeouts(grace=0.2, farewell=0.1)


async def reading(store):
    await store.counts("default")


async def writing(store):
    await journal(store, session(2))


@pytest.mark.parametrize("first", [reading, writing])
async def test_a_server_that_falls_silent_is_a_sentence_and_then_it_is_said_at_once(wire, first):
    async with Archive(PostgresDriver(wire.place, timeouts=BRIEF)) as store:
        await begun(store)
        wire.is_mute = True
        with pytest.raises(StoreError, match="does not answer"):
            await first(store)
        async with asyncio.timeout(BRIEF.read):
            for then in [reading, writing] * 20:
                with pytest.raises(StoreError, match="does not answer"):
                    await then(store)
    with pytest.raises(StoreError, match="does not answer"):
        await store.counts("default")


async def test_reading_everything_ends_where_the_server_falls_silent(wire):
    async with Archive.open(wire.place) as store:
        await journal(await begun(store), *(session(n) for n in range(60)))
    async with Archive(PostgresDriver(wire.place, "read", timeouts=BRIEF)) as reader:
        some = reader.transcript_batches("default")
        assert await anext(some)
        wire.is_mute = True
        with pytest.raises(StoreError, match="does not answer"):
            await anext(some)


async def test_a_store_whose_server_was_silent_is_opened_again_once_it_answers(wire):
    store = Archive(PostgresDriver(wire.place, timeouts=BRIEF))
    async with store:
        await begun(store)
        wire.is_mute = True
        with pytest.raises(StoreError, match="does not answer"):
            await store.counts("default")
    wire.is_mute = False
    async with store:
        await journal(await begun(store), session(1))
        assert (await store.counts("default")).sessions == 1


@pytest.mark.parametrize("work", [reading, writing])
async def test_a_task_cancelled_while_the_server_is_silent_ends_after_a_short_grace(wire, work):
    async def run():
        async with Archive(PostgresDriver(wire.place, timeouts=QUICK_END)) as store:
            await begun(store)
            wire.is_mute = True
            await work(store)

    running = asyncio.create_task(run())
    await wire.swallowed.wait()
    running.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("work", [reading, writing])
async def test_closing_while_the_server_is_silent_ends_what_is_under_way(wire, work):
    store = Archive(PostgresDriver(wire.place, timeouts=QUICK_END))
    async with store:
        await begun(store)
        wire.is_mute = True
        working = asyncio.create_task(work(store))
        await wire.swallowed.wait()
        async with asyncio.timeout(10):
            await store.close()
            with pytest.raises(StoreError, match="does not answer"):
                await working


async def test_work_whose_caller_was_cancelled_is_done_to_its_end_where_the_server_answers(wire):
    async with Archive.open(wire.place) as store:
        await begun(store)
        call = asyncio.create_task(journal(store, *(session(n) for n in range(2000))))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await store.counts("default")).sessions == 2000


async def test_a_wire_is_watched_by_the_system_while_nothing_is_said(wire):
    server = Server(wire.place, Timeouts())
    db = await server.connect()
    try:
        tcp = db._transport.get_extra_info("socket")
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    finally:
        await server.disconnect(db)


async def test_a_nul_is_replaced_in_the_table_and_whole_in_what_is_read_here(place):
    async with Archive.open(place) as store:
        await journal(await begun(store), session(1, title="a\0b"))
        assert (await everything(store))[0].session.title == "a\0b"
    assert await asked(place, "SELECT title FROM sessions") == [("a\N{REPLACEMENT CHARACTER}b",)]
    [(raw,)] = await asked(place, "SELECT raw FROM sessions")
    assert r"a\u0000b" in raw


async def test_an_id_that_no_index_holds_is_a_sentence_and_nothing_of_it_is_left(place):
    long = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    async with Archive.open(place) as store:
        await begun(store)
        with pytest.raises(StoreError, match="cannot be used"):
            await journal(store, session(1), msgspec.structs.replace(session(2), id=long))
        assert (await store.counts("default")).sessions == 0


async def test_a_follower_that_is_cancelled_as_a_notice_comes_ends(place, until):
    async with Archive.open(place) as store, store.changes(follow=True) as batches:
        waiting = asyncio.create_task(anext(batches))
        await until(lambda: batches.driver._rung is not None and batches.driver._rung._waiters)
        batches.driver._rung.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(5):
                await waiting


async def test_a_follower_whose_connection_is_ended_says_so(place, until):
    async with Archive.open(place) as store, store.changes(follow=True) as batches:
        waiting = asyncio.create_task(anext(batches))
        await until(lambda: batches.driver._rung is not None and batches.driver._rung._waiters)
        await run_sql(place, f"SELECT pg_terminate_backend({batches.driver._db.get_server_pid()})")
        with pytest.raises(StoreError, match=r"is of no use|cannot be used|cannot be reached"):
            await waiting
