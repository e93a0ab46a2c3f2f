"""Every conversation, out of the API and into your hands: all of it, once, fast, and without ever
showing your key.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from navtalk_async.archive import Archive
    from navtalk_async.client import Client
    from navtalk_async.client.kodey import KodeyClient
    from navtalk_async.client.lexicon import LexiconClient
    from navtalk_async.client.llamacloud import LlamaCloudClient
    from navtalk_async.client.navtalk import NavTalkClient
    from navtalk_async.errors import NavTalkError
    from navtalk_async.formats import export
    from navtalk_async.formats.backup import backup
    from navtalk_async.ingest import Project, ProjectResult, RunReport, sync, sync_all, watch
    from navtalk_async.models import (
        Message,
        MessageType,
        Page,
        Request,
        Role,
        Session,
        SessionStatus,
        Transcript,
    )
    from navtalk_async.pool import SessionPool
    from navtalk_async.privacy import Privacy
    from navtalk_async.scale import SharedLimits
    from navtalk_async.verification import verify
    from navtalk_async.view.search import search
    from navtalk_async.wire.retry import Retry

__all__ = [
    "Archive",
    "Client",
    "KodeyClient",
    "LexiconClient",
    "LlamaCloudClient",
    "Message",
    "MessageType",
    "NavTalkClient",
    "NavTalkError",
    "Page",
    "Privacy",
    "Project",
    "ProjectResult",
    "Request",
    "Retry",
    "Role",
    "RunReport",
    "Session",
    "SessionPool",
    "SessionStatus",
    "SharedLimits",
    "Transcript",
    "backup",
    "export",
    "search",
    "sync",
    "sync_all",
    "verify",
    "watch",
]

_HOMES = {
    "archive": "Archive",
    "client": "Client",
    "client.kodey": "KodeyClient",
    "client.lexicon": "LexiconClient",
    "client.llamacloud": "LlamaCloudClient",
    "client.navtalk": "NavTalkClient",
    "errors": "NavTalkError",
    "formats": "export",
    "formats.backup": "backup",
    "ingest": "Project ProjectResult RunReport sync sync_all watch",
    "models": "Message MessageType Page Request Role Session SessionStatus Transcript",
    "pool": "SessionPool",
    "privacy": "Privacy",
    "scale": "SharedLimits",
    "verification": "verify",
    "view.search": "search",
    "wire.retry": "Retry",
}


def __getattr__(name: str) -> Any:
    """Import *name* on first use: importing the package itself loads no room and no aiohttp."""
    for module, names in _HOMES.items():
        if name in names.split():
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
