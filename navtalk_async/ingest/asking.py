"""What a sync asks with: a client, within the bounds of one job."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

from navtalk_async.client import Client, inside
from navtalk_async.concurrency import Limiter
from navtalk_async.dialects.dialect import Dialect, smallest_page
from navtalk_async.events import Event, ListMoved
from navtalk_async.ingest.scope import Scope
from navtalk_async.models import Message, Page, Request, Session
from navtalk_async.paging import OnMove

__all__ = ["Asking"]


class Asking(NamedTuple):
    """How one job asks."""

    dialect: Dialect
    list_sessions: Callable[[Request], Awaitable[Page[Session]]]
    list_messages: Callable[[Request], Awaitable[Page[Message]]]
    get_session: Callable[[Request], Awaitable[Session]]
    now: Callable[[], datetime]
    """The time by the server's clock."""
    width: Limiter
    """How many requests at once."""
    scope: Scope
    """What is asked for."""
    on_move: OnMove
    """Told of a list that moved while it was walked."""
    least: Request | None
    """A question that costs the server little, and that it answers if it answers any; None where the scope
    gives none.
    """

    @classmethod
    def of(cls, client: Client, width: Limiter, scope: Scope, announce: Callable[[Event], None]) -> "Asking":
        """What asks with *client* for what is in *scope*, so many at once."""
        dialect = client.dialect

        @width.bound
        def get_session(request: Request) -> Awaitable[Session]:
            return client.ask(request, dialect.read_session)

        return cls(
            dialect,
            width.bound(inside(client).page_of_sessions),
            width.bound(inside(client).page_of_messages),
            get_session,
            client.now,
            width,
            scope,
            lambda path, reason: announce(ListMoved(path, reason)),
            least_of(dialect, scope.listed(dialect, client.now())),
        )


def least_of(dialect: Dialect, scope: Scope) -> Request | None:
    """The question for the smallest first page of the sessions of *scope*; None where an API wants to know
    whose they are, and is asked for some by their ids alone.
    """
    try:
        return smallest_page(dialect, scope.first_page(dialect))
    except ValueError:
        return None
