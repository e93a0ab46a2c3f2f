"""Every conversation, out of the API and into your hands: all of it, once, fast, and without ever
showing your key.
"""

from navtalk_async.client import KodeyClient, LexiconClient, NavTalkClient
from navtalk_async.errors import NavTalkError
from navtalk_async.models import Message, MessageType, Page, Request, Role, Session, SessionStatus, Transcript
from navtalk_async.pool import SessionPool
from navtalk_async.wire.retry import Retry

__all__ = [
    "KodeyClient",
    "LexiconClient",
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
