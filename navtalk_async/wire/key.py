"""The key in its place in a request."""

import re
from urllib.parse import quote

from navtalk_async.models import KeyPlace
from navtalk_async.wire.echo import MASK, Echo
from navtalk_async.wire.secret import Opaque, Secret

__all__ = ["UNRESERVED", "PlacedKey", "quoted"]


class PlacedKey(Opaque):
    """A key in its place in the head of a request, and as a server may echo it."""

    __slots__ = ("_after", "_pieces", "_quoted", "echo", "secret")

    def __init__(self, secret: Secret[str], place: KeyPlace) -> None:
        text = secret.reveal()
        self.secret = secret
        self.echo = Echo(text)
        self._quoted = quoted(text)
        if place.where == "query":
            self._after = b" HTTP/1."
            # Without other parameters, and after some.
            self._pieces = [f"{joint}{place.name}={self._quoted} HTTP/1.".encode() for joint in "?&"]
        else:
            self._after = b"\r\n\r\n"
            self._pieces = [f"\r\n{place.name}: {place.prefix}{text}\r\n\r\n".encode()] * 2

    def is_of(self, secret: Secret[str]) -> bool:
        """Whether it is *secret*, in its place."""
        return self.secret.reveal() == secret.reveal()

    def added(self, head: bytes, *, has_query: bool) -> memoryview:
        """*head*, the first bytes of a request, with the key; as a view, which shows nothing."""
        # To look for a single byte is faster by far.
        if b"[" in head and MASK in head:
            line, end, rest = head.partition(b"\r\n")
            head = line.replace(MASK, self._quoted.encode()) + end + rest
        return memoryview(head.replace(self._after, self._pieces[has_query], 1))


def quoted(text: str) -> str:
    """*text* as it stands in a query."""
    return text if UNRESERVED(text) else quote(text, safe="")


UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
"""Matches what stays as it is in a URL (RFC 3986, section 2.3): ids, numbers, and most keys."""
