"""Ask NavTalk: `NavTalkClient`."""

from datetime import date, datetime
from typing import ClassVar, TypedDict
from uuid import UUID

from navtalk_async.client.client import ApiClient, Resource
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.models import Message, Role, Session, SessionStatus
from navtalk_async.paging import Listing

__all__ = ["NavTalkClient", "NavTalkFilters", "NavTalkMessages", "NavTalkSessions"]

When = datetime | date | str


class NavTalkFilters(TypedDict, total=False):
    """The filters of the list of sessions: the arguments of `NavTalkSessions.list`."""

    start_time: When | None
    end_time: When | None
    status: SessionStatus | int | str | None
    limit: int | None


class NavTalkClient(ApiClient):
    """A client of NavTalk's chat record API.

        async with NavTalkClient() as nt:
            async for session in nt.sessions.list(status="completed"):
                print(session.id, session.start_time)

    Arguments:
        key: see `Client`; by default the environment's `NAVTALK_API_KEY`.
        base_url: with or without `/api/chat` at its end; by default the environment's `NAVTALK_BASE_URL`, or
            else NavTalk's own.
        options: all others of `Client`.

    Raises:
        ValueError: see `Client`.
    """

    speaks: ClassVar[type[Dialect]] = NavTalk
    dialect: NavTalk
    sessions: "NavTalkSessions"
    messages: "NavTalkMessages"

    def _name_resources(self) -> None:
        self.sessions, self.messages = NavTalkSessions(self), NavTalkMessages(self)


class NavTalkSessions(Resource[NavTalkClient]):
    """The sessions of the key's project.

    Every call raises a ValueError, before anything is sent, for an argument that the API cannot take: a naive
    datetime, an unknown word, a limit out of range, an id that is no UUID.
    """

    def list(
        self,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        status: SessionStatus | int | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Listing[Session]:
        """Sessions in the order of their begin, then id (`GET /api/chat/sessions`).

        Arguments:
            start_time, end_time: aware datetimes, dates (their first second) or `yyyy-MM-dd HH:mm:ss` in
                UTC. Whether the API takes them as inclusive, and whether `end_time` bounds a session's
                begin or its end, is not documented.
            status: only sessions of this status: `SessionStatus.COMPLETED`, `"completed"` or 1.
            limit: rows a page, 1 to 100; default 100, the fewest requests.
            cursor: where to begin, as an earlier page gave it.
        """
        return self._client.list_sessions(
            start_time=start_time, end_time=end_time, status=status, limit=limit, cursor=cursor
        )

    async def get(self, session_id: str | UUID) -> Session:
        """One session (`GET /api/chat/sessions/{sessionId}`); a `NotFound` if the project lacks it."""
        return await self._client.get_session(session_id)


class NavTalkMessages(Resource[NavTalkClient]):
    """The messages of sessions; raises as `NavTalkSessions`."""

    def list(
        self,
        session_id: str | UUID,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        role: Role | int | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Listing[Message]:
        """A session's messages in the order of their time, then id (`GET /api/chat/messages`).

        Arguments:
            start_time, end_time: as for `NavTalkSessions.list`, of the message's `created_at`.
            role: only messages of this role: `Role.USER`, `"user"` or 0.
            limit: rows a page, 1 to 200; default 200, the fewest requests.
            cursor: where to begin, as an earlier page gave it.
        """
        return self._client.list_messages(
            session_id, start_time=start_time, end_time=end_time, role=role, limit=limit, cursor=cursor
        )
