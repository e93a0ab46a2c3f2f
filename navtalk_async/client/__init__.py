"""Ask: a client for each API, with the resources and calls of that API; and one for any of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from navtalk_async.client.client import Client, inside
from navtalk_async.client.navtalk import NavTalkClient

if TYPE_CHECKING:
    from navtalk_async.client.kodey import KodeyClient
    from navtalk_async.client.lexicon import LexiconClient
    from navtalk_async.client.llamacloud import LlamaCloudClient

__all__ = ["LATER", "Client", "KodeyClient", "LexiconClient", "LlamaCloudClient", "NavTalkClient", "inside"]

LATER = {"KodeyClient": "kodey", "LexiconClient": "lexicon", "LlamaCloudClient": "llamacloud"}
"""Where the clients are that are imported when they are asked for: few programs ask more than one API, and
all would wait for the others."""


def __getattr__(name: str) -> Any:
    """One of the clients of `LATER`."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
