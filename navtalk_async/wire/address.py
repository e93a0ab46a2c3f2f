"""Where a request goes, and how the key gets into it: the last thing that happens before it leaves."""

import ipaddress
import re
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from navtalk_async.errors import NavTalkError
from navtalk_async.models import KeyPlace, Request
from navtalk_async.observe import scrub

__all__ = [
    "Secret",
    "address",
    "canonical_root",
    "checked_key",
    "checked_root",
    "is_loopback",
    "quoted",
    "without_secret",
]

LONGEST_SENTENCE = 600
"""Characters of what an error tells; what a server says may have no end."""


def checked_root(root: str) -> str:
    """*root* without a slash at its end.

    Raises:
        ValueError: it is no URL that a key may be sent to: no https (plain http may go to this machine
            alone), or with a user, a query or a fragment in it.
    """
    parts = urlsplit(root)
    if not root.isprintable() or " " in root or not _has_fair_port(parts):
        raise ValueError(f"The base URL {_shown(root)!r} holds what no URL holds: write https://host.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"The base URL {_shown(root)!r} is not one: write https://host.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            f"The base URL {_shown(root)!r} holds more than a host and a path; the key goes elsewhere."
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"The base URL {_shown(root)!r} would send the key in the clear: write https.")
    return root.rstrip("/")


def canonical_root(root: SplitResult) -> str:
    """The one way to write an address: the host in lower case, and no port that is the usual one."""
    host = (root.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = "" if root.port in (None, {"http": 80, "https": 443}[root.scheme]) else f":{root.port}"
    return f"{root.scheme}://{host}{port}{root.path}"


def _has_fair_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _shown(root: str) -> str:
    # Somebody may have put the key in here, of all places.
    return root.partition("?")[0].rpartition("@")[2]


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine, whatever its name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Secret(str):
    """A key, for those who may have it; a `repr`, as in a report of local variables, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[key]'"


def checked_key(key: str) -> Secret:
    """*key* without the white space around it.

    Raises:
        ValueError: it is empty, or holds what no key holds; the message does not show it.
    """
    # Under its own name, so that a traceback from here has no other.
    if not isinstance(key, str):
        raise ValueError(f"The API key is a {type(key).__name__}, and not a text.")
    key = Secret(key.strip())
    if not key:
        raise ValueError("The API key is empty.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("The API key holds characters that no key has; was more than the key copied?")
    return key


def address(
    root: SplitResult, request: Request, key: tuple[str, str], place: KeyPlace
) -> tuple[SplitResult, dict[str, str] | None]:
    """The whole URL, in its parts, and the headers of *request*, with the *key* in its place; that is given
    as it is and as it stands in a URL.
    """
    fits = UNRESERVED
    parts = [f"{name}={value if fits(value) else quoted(value)}" for name, value in request.params.items()]
    headers = None
    if place.where == "query":
        parts.append(f"{place.name}={key[1]}")
    else:
        headers = {place.name: place.prefix + key[0]}
    return SplitResult(root.scheme, root.netloc, root.path + request.path, "&".join(parts), ""), headers


UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
"""Matches what stays as it is in a URL (RFC 3986, section 2.3): ids, numbers, and most keys."""


def quoted(text: str) -> str:
    """*text* as it stands in a query."""
    return text if UNRESERVED(text) else quote(text, safe="")


def without_secret(error: NavTalkError, key: str) -> NavTalkError:
    """*error* as it may be shown: servers quote the key, and the URL with it, in what they answer.

    Its traceback and context go too, since their frames hold the answer itself.
    """
    error.args = tuple(_told(part, key) if isinstance(part, str) else part for part in error.args)
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, _told(value, key))
        elif isinstance(value, dict):
            setattr(error, name, _details(value, key))
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _told(text: str, key: str) -> str:
    """*text* without *key*, and no longer than anybody reads; cut before, it might end in half of a key."""
    told = scrub(text, [key])
    return told if len(told) <= LONGEST_SENTENCE else f"{told[:LONGEST_SENTENCE]}…"


def _details(value: dict[str, Any], key: str) -> dict[str, Any]:
    """*value* without *key*; nothing of what is nested deeper than anybody's words are."""
    try:
        return {_told(name, key): _scrubbed(each, key) for name, each in value.items()}
    except RecursionError:
        return {}


def _scrubbed(value: Any, key: str) -> Any:
    """*value*, of JSON, without *key*."""
    match value:
        case str():
            return scrub(value, [key])
        case list():
            return [_scrubbed(each, key) for each in value]
        case dict():
            return {_scrubbed(name, key): _scrubbed(each, key) for name, each in value.items()}
    return value
