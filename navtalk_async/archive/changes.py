"""The change feed as it is read: batches of changes, and consumers that acknowledge them."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Generic, NamedTuple, Self, TypeVar

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._database import Driver, Query, Steps, Write, delete, insert
from navtalk_async.archive._feed import Change, EarlierMessage, read_changes, read_start
from navtalk_async.archive._tokens import Token, parse_token
from navtalk_async.archive.damaged_rows import damage_named
from navtalk_async.archive.rows import StoredTranscript, format_time
from navtalk_async.concurrency import OUTSIDE, shielded
from navtalk_async.errors import StoreBroken, StoreMismatch

__all__ = [
    "Batch",
    "Batches",
    "Change",
    "ConsumedBatch",
    "Consumer",
    "ConsumerInfo",
    "EarlierMessage",
    "checked_consumer",
    "drop_consumer",
    "read_consumers",
]

SESSIONS_AT_ONCE = 25
"""How many whole sessions are read at a time: so much is in memory."""


class Batch:
    """Some changes, in the order in which they were committed, each session once.

    Attributes:
        changes: at least one `Change`.
        token: where they end; to be stored, and passed as *after* to go on from there.
    """

    def __init__(self, changes: list[Change], driver: Driver[Any]) -> None:
        self.changes = changes
        self.token: str = changes[-1].token
        self._driver = driver

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.changes)} changes>"

    async def transcripts(self) -> AsyncGenerator[StoredTranscript, None]:
        """The whole sessions that changed, with all their messages, as they are by now."""
        for project, changes in groupby(self.changes, key=lambda each: each.session.project):
            ids = self._driver.codec.write_ids(each.session.id for each in changes)
            for begin in range(0, len(ids), SESSIONS_AT_ONCE):
                some = ids[begin : begin + SESSIONS_AT_ONCE]
                for each in await self._driver.snapshot(self._whole(project, some)):
                    yield each

    def _whole(self, project: str, held_ids: list[str]) -> Steps[list[StoredTranscript]]:
        sessions = yield Query(sql.SOME_SESSIONS, (project, held_ids))
        messages = yield Query(sql.MESSAGES, (project, held_ids))
        by_id = {each.session.id: each for each in self._driver.codec.transcripts(sessions, messages)}
        names = map(self._driver.codec.read_id, held_ids)
        return [by_id[name] for name in names if name in by_id]


class ConsumedBatch(Batch):
    """A batch for a consumer with a name."""

    def __init__(self, changes: list[Change], consumer: "Consumer") -> None:
        super().__init__(changes, consumer.driver)
        self._consumer = consumer

    async def ack(self) -> None:
        """Note in the archive that this batch was dealt with, and all before it: they do not come again.

        Once a later batch is acknowledged, there is nothing to note of this one.

        Raises:
            StoreMismatch: the consumer was dropped, or another process reads as the same one.
        """
        await self._consumer.acknowledge(self.token)


B = TypeVar("B", bound=Batch)


class _Feed(ABC, Generic[B]):
    """An `async with` around an `async for` over batches. It has a connection of its own."""

    def __init__(self, driver: Driver[Any], *, project: str | None, limit: int, follow: bool) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"limit={limit!r} is not a number of sessions of at least 1.")
        if not isinstance(project, str | None):
            raise ValueError(f"project={project!r} is not the name of a project.")
        self.driver = driver
        self._project, self._limit, self._follow = project, min(limit, 1 << 31), follow
        self._place: Token | None = None

    @abstractmethod
    async def _begin(self) -> Token:
        """The place to read from."""

    @abstractmethod
    def _batch(self, changes: list[Change]) -> B: ...

    async def __aenter__(self) -> Self:
        try:
            await self.driver.open()
            self._place = await self._begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._place = None
        await shielded(self.driver.close())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> B:
        while True:
            if self._place is None:
                raise RuntimeError(OUTSIDE)
            steps = read_changes(self.driver.codec, self._place, self._project, self._limit)
            with damage_named(self.driver):
                changes, self._place = await self.driver.snapshot(steps)
            if changes:
                return self._batch(changes)
            if not self._follow:
                raise StopAsyncIteration
            await self.driver.wait_for_commit()


class Batches(_Feed[Batch]):
    """Batches of what changed behind a token, see `Archive.changes`."""

    def __init__(self, driver: Driver[Any], *, after: str | None, **options: Any) -> None:
        super().__init__(driver, **options)
        self._after = None if after is None else parse_token("after", after)

    async def _begin(self) -> Token:
        return await self.driver.snapshot(read_start(self.driver, self._after, self._project))

    def _batch(self, changes: list[Change]) -> Batch:
        return Batch(changes, self.driver)


class Consumer(_Feed[ConsumedBatch]):
    """Batches that a consumer has not acknowledged yet, see `Archive.consume`."""

    def __init__(self, driver: Driver[Any], name: str, **options: Any) -> None:
        super().__init__(driver, **options)
        self._name = checked_consumer(name)
        self._acknowledged = ""

    async def _begin(self) -> Token:
        self._acknowledged = await self.driver.write("register consumer", None, self._register())
        token = _stored_token(self._name, self._acknowledged)
        try:
            return await self.driver.snapshot(read_start(self.driver, token, self._project))
        except StoreMismatch:
            raise StoreMismatch(
                f"The consumer {self._name!r} was given commits that {self.driver} lacks, as after an "
                "older copy was restored. Drop it, and it begins anew."
            ) from None

    def _batch(self, changes: list[Change]) -> ConsumedBatch:
        return ConsumedBatch(changes, self)

    def _register(self) -> Steps[str]:
        rows = yield Query(sql.CONSUMER, (self._name,))
        if not rows:
            start = (yield from read_start(self.driver, None, self._project)).text()
            yield insert("sync_consumers", "name, project, token", [(self._name, self._project, start)])
            yield Write(sql.COUNT_ACK, ())
            return start
        [(project, token)] = rows
        if project != self._project:
            raise StoreMismatch(
                f"The consumer {self._name!r} reads {_scope(project)}, and you asked for "
                f"{_scope(self._project)}. Use another name, or drop it first."
            )
        return str(token)

    async def acknowledge(self, token: str) -> None:
        """Note that everything up to *token* was dealt with."""
        if parse_token("token", token).place < parse_token("token", self._acknowledged).place:
            return
        await self.driver.write("acknowledge", None, self._acknowledge(token))
        self._acknowledged = token

    def _acknowledge(self, token: str) -> Steps[None]:
        now = format_time(datetime.now(UTC))
        # An acknowledgement whose caller was cancelled may be there already.
        # And forgetting a session takes its id out of what was acknowledged.
        unnamed = parse_token("token", self._acknowledged).unnamed().text()
        yield Write(sql.ACKNOWLEDGE, (token, now, self._name, self._acknowledged, unnamed, token))
        yield Write(sql.COUNT_ACK, ())
        if [held for _, held in (yield Query(sql.CONSUMER, (self._name,)))] != [token]:
            raise StoreMismatch(
                f"The consumer {self._name!r} was dropped, or another process reads as the same one. Nothing "
                "was acknowledged."
            )


class ConsumerInfo(NamedTuple):
    """A consumer of the change feed, and how far it is behind."""

    name: str
    project: str | None
    """The project that it reads; None for all of them."""
    behind: int
    """Sessions with changes that it has not acknowledged."""
    acknowledged_at: str | None
    """When it acknowledged a batch last, in ISO 8601; None if it never did."""


def read_consumers() -> Steps[list[ConsumerInfo]]:
    """Every consumer, by name."""
    found: list[ConsumerInfo] = []
    for name, project, text, acknowledged_at in (yield Query(sql.CONSUMERS)):
        token = yield from _valid(_stored_token(name, text))
        behind = 0
        for query in (sql.BEHIND, sql.BEHIND_FORGOTTEN):
            [(count,)] = yield Query(*sql.of_project(query, token.place, project))
            behind += count
        found.append(ConsumerInfo(name, project, behind, acknowledged_at))
    return found


def _valid(token: Token) -> Steps[Token]:
    """*token*, or the beginning, where an older copy of the archive was restored."""
    try:
        return (yield from read_start("", token, token.scope))
    except StoreMismatch:
        return (yield from read_start("", None))


def drop_consumer(name: str) -> Steps[None]:
    """Forget a consumer; a StoreMismatch if there is none of this name."""
    there = [each for each, *_ in (yield Query(sql.CONSUMERS))]
    if name not in there:
        names = ", ".join(map(repr, there)) or "none"
        raise StoreMismatch(f"The archive has no consumer {name!r}; it has {names}.")
    yield delete("sync_consumers", name)
    yield Write(sql.COUNT_ACK, ())


def checked_consumer(name: object) -> str:
    """*name*, if it can be one; else a ValueError."""
    if not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise ValueError(f"name={name!r} is not a name of a consumer: pass a text that can be printed.")
    return name


def _stored_token(name: str, text: str) -> Token:
    try:
        return parse_token("token", text)
    except ValueError:
        raise StoreBroken(
            f"The archive is damaged: how far the consumer {name!r} has come cannot be read. Drop it."
        ) from None


def _scope(project: str | None) -> str:
    return "all projects" if project is None else f"the project {project!r}"
