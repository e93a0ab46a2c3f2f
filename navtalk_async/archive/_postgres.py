"""An archive in PostgreSQL: the schema of a database, for an archive that many read.

One connection writes. It holds the right to do so, which the server takes back when the connection ends; so
it is never made anew, and a run that loses it ends. That asks for a connection of its own: behind a pooler
that shares connections among transactions, two runs would not exclude each other.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import count
from typing import Any, Self, TypeVar

import msgspec

from navtalk_async.archive._codec import Codec, R
from navtalk_async.archive._database import (
    Access,
    Driver,
    Put,
    Query,
    Step,
    Steps,
    Write,
    as_json,
    next_step,
    rows_of,
)
from navtalk_async.archive._postgres_server import WORDS as OWN_WORDS
from navtalk_async.archive._postgres_server import Connection, Server, Timeouts, driver
from navtalk_async.archive._statements import SESSIONS_A_READ
from navtalk_async.archive.rows import TextRow, new_row
from navtalk_async.concurrency import off_the_loop
from navtalk_async.lenient_json import decode_json, is_list, is_object

T = TypeVar("T")

CHANNEL = "navtalk_changes"
"""Where each commit is announced; a reader that misses the notice looks again soon."""

POLL_SECONDS = 1.0

ROWS_A_STATEMENT = 250
"""A statement has a bound of 1 GiB, rows may be large, and the loop waits while they are written."""

LETTERS_A_STATEMENT = 1 << 18

IDS = ("id", "session_id")
WORDS = ("status", "role", "type")
TEXTS = ("title", "user_id", "video_url", "content")
MARK = "\N{REPLACEMENT CHARACTER}"
NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}").fullmatch


class PostgresCodec(Codec):
    """PostgreSQL's TEXT holds no NUL, which an API may send. A row's `raw` holds it, escaped as JSON has it.

    A text for people, a title or what was said, holds U+FFFD instead; reading it here takes the NUL from
    `raw`. An id with a NUL is held as a JSON string, in quotes; and so is one that begins with a quote. A
    status, role or type may be a word or a number: what is held without quotes and reads as a number was one.
    """

    def in_own_words(self, statement: str) -> str:
        return statement.format(**OWN_WORDS)

    def write_id(self, text: str) -> str:
        return as_json(text) if text[:1] == '"' or "\0" in text else text

    def read_id(self, held: str) -> str:
        return msgspec.json.decode(held, type=str) if held[:1] == '"' else held

    def write_text(self, text: str) -> str:
        return text.replace("\0", MARK)

    def write_rows(self, rows: list[R]) -> list[R]:
        return _recoded(rows, self.write_id, self.write_word, lambda text, _: self.write_text(text))

    def read_rows(self, held: list[R]) -> list[R]:
        return _recoded(held, self.read_id, self._read_word, self._read_text)

    def write_word(self, value: str | int) -> str:
        if isinstance(value, int):
            return str(value)
        return as_json(value) if NUMBER(value) else self.write_id(value)

    def texts(self, rows: Iterable[Any]) -> Iterable[TextRow]:
        return (
            TextRow(self.read_id(held_id), position, None if role is None else self._read_word(role), text)
            for held_id, position, role, text in rows
        )

    def _read_word(self, held: str) -> str | int:
        return int(held) if NUMBER(held) else self.read_id(held)

    def _read_text(self, held: str, raw: str) -> str:
        if MARK not in held or "\\u0000" not in raw:
            return held
        texts = _texts(decode_json(raw))
        return next((text for text in texts if self.write_text(text) == held), held)


class PostgresDriver(Driver[Connection]):
    """The archive in the current schema of the database at *url*."""

    codec = PostgresCodec()

    def __init__(self, url: str, access: Access = "write", *, timeouts: Timeouts | None = None) -> None:
        self._server = Server(url, timeouts or Timeouts())
        self._access: Access = access
        self._rung: asyncio.Event | None = None
        self._queue = _WorkQueue(self._server, self._hang_up)
        self._cursor: Any = None
        self._is_silent = False

    def __str__(self) -> str:
        return str(self._server)

    async def close(self) -> None:
        """Close the connection; what is under way is given a few seconds to end."""
        self._queue.hurry()
        await super().close()

    async def run(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        return await self._queue.do(work, *arguments)

    async def remove_index(self) -> list[str]:
        return await self.run(self._remove_index)

    async def _remove_index(self) -> list[str]:
        return await self._server.remove_index(self._connection)

    async def indexed_ids(self, project: str) -> list[str]:
        [(has_none,)] = await self.read(rows_of("SELECT to_regclass('sync_search_sessions') IS NULL"))
        query = "SELECT session_id FROM sync_search_sessions WHERE project = ?"
        rows = [] if has_none else await self.read(rows_of(query, (project,)))
        return [held_id for (held_id,) in rows]

    async def erase(self) -> list[str]:
        return await self.run(self._erase)

    async def _erase(self) -> list[str]:
        return await self._server.erase(self._connection)

    def beside(self, access: Access) -> Self:
        return type(self)(self._server.url, access, timeouts=self._server.timeouts)

    async def wait_for_commit(self) -> None:
        if self._rung is None:
            self._rung = asyncio.Event()
            await self.run(self._listen, self._rung.set)
            return
        # Not `wait_for`, which before Python 3.12 forgets a cancellation that comes with the notice.
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._rung.wait()
        self._rung.clear()

    async def _listen(self, ring: Callable[[], None]) -> None:
        def heard(*_: object) -> None:
            ring()

        # A server that repeats another one has no notices, and a pooler may lose them: then we look again.
        with suppress(driver().PostgresError):
            await self._connection.add_listener(CHANNEL, heard)

    async def _open(self) -> None:
        self._is_silent = False
        self._db = await self._server.open(self._access)

    async def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await self._server.disconnect(db)

    def _hang_up(self) -> None:
        self._is_silent = True
        if self._db is not None:
            self._db.terminate()

    @property
    def _connection(self) -> Connection:
        if self._is_silent:
            raise self._server.silent()
        return super()._connection

    async def _fetch(self, query: Query, *, is_writing: bool = False) -> list[Any]:
        if query.values and query.values[-1] == []:
            return []  # It needs no trip.
        timeouts = self._server.timeouts
        rows: list[Any] = await self._connection.fetch(
            _numbered(query.statement),
            *query.values,
            timeout=timeouts.write if is_writing else timeouts.read,
        )
        return rows

    async def _change(self, step: Write | Put) -> int:
        if isinstance(step, Write):
            return await self._touched(_numbered(step.statement), step.values)
        every = range(0, len(step.rows), ROWS_A_STATEMENT)
        return sum([await self._put(step, step.rows[at : at + ROWS_A_STATEMENT]) for at in every])

    async def _put(self, step: Put, rows: Sequence[Sequence[object]]) -> int:
        columns = [*zip(*rows, strict=True)]
        half = len(rows) // 2
        if half and _letters(columns, step.types) > LETTERS_A_STATEMENT:
            return await self._put(step, rows[:half]) + await self._put(step, rows[half:])
        also = [[value] * len(rows) for value in step.also]
        return await self._touched(_with_lists(step.statement, step.types), [*columns, *also])

    async def _touched(self, statement: str, values: Iterable[object]) -> int:
        status = await self._connection.execute(statement, *values, timeout=self._server.timeouts.write)
        # The server says it so: `INSERT 0 7`.
        return int(status.rpartition(" ")[2])

    async def _decide(self, weight: int, steps: Steps[T], rows: list[Any] | None) -> tuple[Step | None, T]:
        return await off_the_loop(weight, next_step, steps, rows)

    async def _execute(self, statement: str) -> None:
        await self._connection.execute(statement, timeout=self._server.timeouts.write)

    async def _roll_back(self) -> None:
        db = self._connection
        try:
            await db.execute("ROLLBACK", timeout=self._server.timeouts.farewell)
        except Exception:  # noqa: BLE001 - with the connection, the server ends the transaction
            db.terminate()

    async def _commit(self, *, is_news: bool) -> None:
        # In one text, they are one trip; the notice is given as the transaction is.
        await self._execute(f"NOTIFY {CHANNEL}; COMMIT" if is_news else "COMMIT")

    async def _begin_to_read(self) -> None:
        await self._execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    async def begin_walk(self, query: Query) -> None:
        await self._begin_to_read()
        self._cursor = await self._connection.cursor(_numbered(query.statement), *query.values)

    async def next_sessions(self) -> list[Any]:
        rows: list[Any] = await self._cursor.fetch(SESSIONS_A_READ)
        return rows


class _WorkQueue:
    """Does one piece of work after the other, each to its end, and translates its errors.

    A caller who is cancelled does not wait for the end of what has begun; the next one does. What has begun
    is then given its grace. *hang_up* is called when there is no answer in time.
    """

    def __init__(self, server: Server, hang_up: Callable[[], None]) -> None:
        self._server = server
        self._hang_up = hang_up
        self._lock = asyncio.Lock()
        self._bound: asyncio.Timeout | None = None

    async def do(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        await self._lock.acquire()
        task = asyncio.create_task(self._bounded(work, *arguments))
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.hurry()
            raise

    def hurry(self) -> None:
        """Give what has begun its grace, and no more."""
        # What was begun just now has not entered its bound yet.
        asyncio.get_running_loop().call_soon(self._hurry)

    def _hurry(self) -> None:
        if self._bound is not None and self._bound.when() is None:
            self._bound.reschedule(asyncio.get_running_loop().time() + self._server.timeouts.grace)

    async def _bounded(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        with self._server.translated():
            try:
                async with asyncio.timeout(None) as self._bound:
                    return await work(*arguments)
            except TimeoutError:
                self._hang_up()
                raise
            finally:
                self._bound = None

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._lock.release()
        if not task.cancelled():
            # Who would have raised it may have been cancelled.
            task.exception()


@cache
def _numbered(statement: str) -> str:
    """*statement* in PostgreSQL's words, its values numbered."""
    numbers = count(1)
    plain = statement.replace("{any}", "= ANY(?)").replace("{is_not}", "IS DISTINCT FROM")
    return re.sub(r"\?", lambda _: f"${next(numbers)}", plain)


def _letters(columns: Sequence[Sequence[Any]], types: Sequence[str]) -> int:
    texts: list[Sequence[str | None]] = [
        column for column, kind in zip(columns, types, strict=False) if kind == "text"
    ]
    return sum(sum(map(len, filter(None, each))) for each in texts)


@cache
def _with_lists(statement: str, types: tuple[str, ...]) -> str:
    """*statement* with a table of columns of those *types*, which are given as a list each."""
    lists = ", ".join(f"${n}::{each}[]" for n, each in enumerate(types, 1))
    return _numbered(statement).replace("{rows}", f"SELECT * FROM unnest({lists})")


def _recoded(
    rows: list[R],
    id_of: Callable[[str], str],
    word_of: Callable[[Any], str | int],
    text_of: Callable[[str, str], str],
) -> list[R]:
    """*rows* with their ids, words and texts translated; column by column, in a fifth of the time."""
    if not rows:
        return []
    kind = type(rows[0])
    columns: dict[str, Sequence[Any]] = dict(zip(kind._fields, zip(*rows, strict=True), strict=True))
    for name, held in columns.items():
        if name in IDS:
            columns[name] = list(map(id_of, held))
        elif name in WORDS:
            columns[name] = [None if each is None else word_of(each) for each in held]
        elif name in TEXTS:
            pairs = zip(held, columns["raw"], strict=True)
            columns[name] = [None if each is None else text_of(each, raw) for each, raw in pairs]
    return list(map(partial(new_row, kind), zip(*columns.values(), strict=True)))


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON *value*."""
    if isinstance(value, str):
        yield value
    elif is_list(value) or is_object(value):
        for each in value.values() if is_object(value) else value:
            yield from _texts(each)
