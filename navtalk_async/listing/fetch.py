"""Fetch a session's messages, and what an error says about the sessions after it."""

from collections.abc import Awaitable, Callable
from typing import Literal

from navtalk_async.client import Client, inside
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    BodyTooLarge,
    ClientClosed,
    ConnectFailed,
    NavTalkError,
    NotFound,
    Redirected,
    RepeatedPage,
    StoreError,
    WrongShape,
)
from navtalk_async.listing.short_pages import RowsRead, ShortPageAudit
from navtalk_async.models import Message, Page, Request
from navtalk_async.paging import OnMove, whole

__all__ = ["Ask", "Reach", "fetch_messages", "reach"]

Ask = Callable[[Request], Awaitable[Page[Message]]]

Reach = Literal["run", "session", "answer"]

OF_THE_RUN = (AccessDenied, ClientClosed, ConnectFailed, Redirected, StoreError)
OF_THE_SESSION = (BadRequest, NotFound, WrongShape, RepeatedPage, BodyTooLarge)


def reach(error: NavTalkError) -> Reach:
    """How far *error* reaches: `"run"`: the next session would meet it as well; `"session"`: it is about this
    session alone, and says nothing of the server; `"answer"`: the server may be ill, or this answer alone.
    """
    if isinstance(error, OF_THE_RUN):
        return "run"
    return "session" if isinstance(error, OF_THE_SESSION) else "answer"


async def fetch_messages(
    client: Client,
    request: Request,
    *,
    ask: Ask | None = None,
    audit: ShortPageAudit | None = None,
    on_move: OnMove | None = None,
) -> RowsRead[Message]:
    """All messages from the page of *request* on; up to a short page, where *audit* skips the rest.

    *ask* asks for one page, by default the client itself; *on_move* is called if the list moves meanwhile.
    """
    ask, on_move = ask or inside(client).page_of_messages, on_move or inside(client).moved
    if audit is None:
        return RowsRead(await whole(ask, request, on_move))
    return await audit.fetch_all(ask, request, page_limit=client.dialect.page_limit, on_move=on_move)
