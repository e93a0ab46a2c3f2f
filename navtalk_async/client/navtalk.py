"""Ask NavTalk: `NavTalkClient`."""

from datetime import date, datetime
from typing import ClassVar, TypedDict, Unpack
from uuid import UUID

from navtalk_async.client import ApiClient, Resource
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.models import Message, Role, Session, SessionStatus
from navtalk_async.paging import Listing

__all__ = ["NavTalkClient", "NavTalkFilters", "NavTalkMessageFilters", "NavTalkMessages", "NavTalkSessions"]

When = datetime | date | str


class Span(TypedDict, total=False):
    """Filters of both lists: aware datetimes, dates (their first second), or texts: `yyyy-MM-dd HH:mm:ss` in
    UTC, or ISO 8601 with a zone. Whether the API takes them as inclusive is not documented.
    """

    start_time: When | None
    """The least begin of a session, or time of a message."""
    end_time: When | None
    """The latest; whether it bounds a session's begin or its end is not documented."""


class NavTalkFilters(Span, total=False):
    """The filters of the list of sessions."""

    status: SessionStatus | int | str | None
    """Only sessions of this status: `SessionStatus.COMPLETED`, `"completed"` or 1."""
    limit: int | None
    """Rows a page, 1 to 100; default 100, the fewest requests."""


class NavTalkMessageFilters(Span, total=False):
    """The filters of the list of a session's messages."""

    role: Role | int | str | None
    """Only messages of this role: `Role.USER`, `"user"` or 0."""
    limit: int | None
    """Rows a page, 1 to 200; default 200, the fewest requests."""


class NavTalkClient(ApiClient[Session, Message]):
    """A client of NavTalk's chat record API.

        async with NavTalkClient() as nt:
            async for session in nt.sessions.list(status="completed"):
                print(session.id, session.start_time)

    The arguments are those of `Client`. The environment may hold the key (`NAVTALK_API_KEY`) and the address
    (`NAVTALK_BASE_URL`), which ends in `/api/chat` or not; by default it is NavTalk's own.
    """

    speaks: ClassVar[type[Dialect]] = NavTalk
    dialect: NavTalk
    sessions: "NavTalkSessions"
    messages: "NavTalkMessages"

    def _name_resources(self) -> None:
        self.sessions, self.messages = NavTalkSessions(self), NavTalkMessages(self)


class NavTalkSessions(Resource[NavTalkClient]):
    """The sessions of the key's project; raises as every `Resource`."""

    def list(self, *, cursor: str | None = None, **filters: Unpack[NavTalkFilters]) -> Listing[Session]:
        """Sessions in the order of their begin, then id (`GET /api/chat/sessions`); *cursor* is where to
        begin, as an earlier page gave it.
        """
        return self._client.list_sessions(cursor=cursor, **filters)

    async def get(self, session_id: str | UUID) -> Session:
        """One session (`GET /api/chat/sessions/{sessionId}`)."""
        return await self._client.get_session(session_id)


class NavTalkMessages(Resource[NavTalkClient]):
    """The messages of sessions; raises as every `Resource`."""

    def list(
        self, session_id: str | UUID, *, cursor: str | None = None, **filters: Unpack[NavTalkMessageFilters]
    ) -> Listing[Message]:
        """A session's messages in the order of their time, then id (`GET /api/chat/messages`); *cursor* is
        where to begin, as an earlier page gave it.
        """
        return self._client.list_messages(session_id, cursor=cursor, **filters)
