"""What an API has, for the commands that look."""

import heapq
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from navtalk_async.archive.rows import message_row, session_row
from navtalk_async.cli._look import Batches, Fields, RowSelection
from navtalk_async.cli._progress import waits_reported
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.client import Client
from navtalk_async.formats import message_fields, session_fields
from navtalk_async.models import Message, Session
from navtalk_async.pool import SessionPool

T = TypeVar("T")

OLDEST = datetime.min.replace(tzinfo=UTC)


@asynccontextmanager
async def api_source(settings: Settings) -> AsyncGenerator["ApiSource", None]:
    """The API that *settings* name."""
    waits = waits_reported(settings.reporter, settings.progress_mode)
    async with settings.client(waits) as client:
        yield ApiSource(client, settings)


class ApiSource:
    """See `Source`."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client, self._settings = client, settings
        self._session_kind, self._message_kind = client.dialect.record_kinds

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(name.removesuffix("_text") for name in self._session_kind.__struct_fields__)

    async def sessions(self, wanted: RowSelection) -> Batches:
        client, settings = self._client, self._settings
        # To list from many places at once would read on while few are wanted.
        is_short = wanted.limit is not None and not wanted.newest
        listing = "serial" if is_short else settings.options.get("listing", "auto")
        pool = SessionPool(client, concurrency=settings.concurrency, listing=listing)
        pages = pool.session_pages(**settings.scope(client).of_sessions)
        async with aclosing(chosen(pages, wanted, _moment)) as batches:
            async for batch in batches:
                yield [self._session_fields(each) for each in batch]

    async def messages(self, session_id: str, wanted: RowSelection) -> Batches:
        with usage_errors():
            pages = self._client.list_messages(session_id, **wanted.filters).pages()
        async with aclosing(chosen(_numbered(pages), wanted, _place)) as batches:
            async for batch in batches:
                yield [self._message_fields(session_id, *each) for each in batch]

    async def session(self, session_id: str) -> Fields:
        client = self._client
        with usage_errors():
            request = client.dialect.get_session(client.dialect.checked_id(session_id))
        return self._session_fields(await client.ask(request, client.dialect.read_session))

    async def transcript(self, session_id: str) -> tuple[Fields, list[Fields]]:
        fields = await self.session(session_id)
        said = [each async for each in self._client.list_messages(session_id)]
        return fields, [self._message_fields(session_id, *each) for each in enumerate(said)]

    def _session_fields(self, found: Session) -> Fields:
        """As in our files, without what only an archive knows."""
        row = session_row("", self._client.dialect.api, found, "")
        fields = session_fields(row, self._session_kind)
        return {name: value for name, value in fields.items() if name not in ("project", "deleted_at")}

    def _message_fields(self, session_id: str, position: int, message: Message) -> Fields:
        row = message_row("", str(session_id), position, message)
        return message_fields(row, self._message_kind)


def _moment(session: Session) -> datetime:
    return session.start_time or session.updated_at or OLDEST


def _place(numbered: tuple[int, Message]) -> int:
    return numbered[0]


async def _numbered(pages: AsyncGenerator[Any, None]) -> AsyncGenerator[list[tuple[int, Message]], None]:
    count = 0
    async with aclosing(pages):
        async for page in pages:
            messages: list[Message] = page.items
            yield list(enumerate(messages, count))
            count += len(messages)


async def chosen(
    pages: AsyncGenerator[list[T], None], wanted: RowSelection, age: Callable[[T], Any]
) -> AsyncGenerator[Sequence[T], None]:
    """Those of *pages* that are *wanted*; where these are the newest, once all have come."""
    newest, left = list[T](), wanted.limit
    async with aclosing(pages):
        async for page in pages:
            if not wanted.newest:
                yield page[:left]
                if left is not None and (left := left - len(page)) <= 0:
                    return
            elif left is None:
                newest += page
            else:
                newest = heapq.nlargest(left, [*newest, *page], key=age)
    if newest:
        yield sorted(newest, key=age, reverse=True)
