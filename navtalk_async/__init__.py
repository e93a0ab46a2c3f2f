"""Every conversation, out of the API and into your hands: all of it, once, fast, and without ever
showing your key.
"""

from typing import TYPE_CHECKING, Any

from navtalk_async import client
from navtalk_async.client import Client, NavTalkClient
from navtalk_async.errors import NavTalkError
from navtalk_async.models import Message, MessageType, Page, Request, Role, Session, SessionStatus, Transcript
from navtalk_async.pool import SessionPool
from navtalk_async.wire.retry import Retry

if TYPE_CHECKING:
    from navtalk_async.client import KodeyClient, LexiconClient, LlamaCloudClient

__all__ = [
    "Client",
    "KodeyClient",
    "LexiconClient",
    "LlamaCloudClient",
    "Message",
    "MessageType",
    "NavTalkClient",
    "NavTalkError",
    "Page",
    "Request",
    "Retry",
    "Role",
    "Session",
    "SessionPool",
    "SessionStatus",
    "Transcript",
]


def __getattr__(name: str) -> Any:
    """The clients that are imported when they are asked for."""
    if name in client.LATER:
        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
