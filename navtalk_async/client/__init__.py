"""Ask: a client for each API, with the resources and calls of that API; and one for any of them."""

from navtalk_async.client.client import Client
from navtalk_async.client.kodey import KodeyClient
from navtalk_async.client.lexicon import LexiconClient
from navtalk_async.client.navtalk import NavTalkClient

__all__ = ["Client", "KodeyClient", "LexiconClient", "NavTalkClient"]
