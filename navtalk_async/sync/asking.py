"""What a sync asks with: a client, within the bounds of one job."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

from navtalk_async.client import NavTalkClient
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.models import Message, Page, Request, Session
from navtalk_async.pool import Width

__all__ = ["Asking"]


class Asking(NamedTuple):
    """How one job asks."""

    dialect: Dialect
    list_sessions: Callable[[Request], Awaitable[Page[Session]]]
    list_messages: Callable[[Request], Awaitable[Page[Message]]]
    get_session: Callable[[Request], Awaitable[Session]]
    now: Callable[[], datetime]
    """The time by the server's clock."""
    width: Width
    """How many requests at once."""

    @classmethod
    def of(cls, client: NavTalkClient, width: Width) -> "Asking":
        """What asks with *client*, so many at once."""
        dialect = client.dialect

        @width.bound
        def get_session(request: Request) -> Awaitable[Session]:
            return client.ask(request, dialect.read_session)

        return cls(
            dialect,
            width.bound(client.sessions.page),
            width.bound(client.messages.page),
            get_session,
            client.now,
            width,
        )
