"""Where a request goes, and an error that may be shown."""

import ipaddress
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from navtalk_async.errors import NavTalkError
from navtalk_async.models import Request
from navtalk_async.wire.secret import MASK, UNRESERVED, Secret, scrub

__all__ = ["canonical_root", "checked_root", "is_loopback", "query_of", "redact"]

SHOWN = MASK.decode()

LONGEST_SENTENCE = 600  # characters of what an error tells; what a server says may have no end


def checked_root(root: str) -> str:
    """*root* without a slash at its end.

    Raises:
        ValueError: it is no URL that a key may be sent to: no https (plain http may go to this machine
            alone), or with a user, a query or a fragment in it.
    """
    try:
        parts = urlsplit(root)
        is_fair = root.isprintable() and " " not in root and parts.port != 0
    except ValueError:
        raise ValueError("The base URL holds what no URL holds: write https://host.") from None
    # Of a refused URL, no more is shown: it may hold the key.
    named = f"The base URL {parts.scheme}://{parts.hostname}" if parts.hostname else "The base URL"
    if not is_fair:
        raise ValueError(f"{named} holds what no URL holds: write https://host.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{named} is not one: write https://host.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{named} holds more than a host and a path; the key goes elsewhere.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"{named} would send the key in the clear: write https.")
    return root.rstrip("/")


def canonical_root(root: SplitResult) -> str:
    """The one way to write an address: the host in lower case, and no port that is the usual one."""
    host = (root.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = "" if root.port in (None, {"http": 80, "https": 443}[root.scheme]) else f":{root.port}"
    return f"{root.scheme}://{host}{port}{root.path}"


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine, whatever its name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# Parameters whose values are the server's own: a `MASK` in one of them stands for the key.
CURSORS = frozenset({"cursor", "page_token"})


def query_of(request: Request) -> str:
    """The query of *request*, without the key."""
    params = request.params
    if UNRESERVED("".join(params.values())):
        return "&".join(map("=".join, params.items()))
    return "&".join([f"{name}={_quoted(value, is_cursor=name in CURSORS)}" for name, value in params.items()])


def _quoted(value: str, *, is_cursor: bool) -> str:
    if is_cursor:
        # Nothing else has such brackets here.
        return SHOWN.join([quote(part, safe="") for part in value.split(SHOWN)])
    return quote(value, safe="")


def redact(error: NavTalkError, key: Secret[str]) -> NavTalkError:
    """*error* as it may be shown: servers quote the key, and the URL with it, in what they answer.

    Its traceback and context go too, since their frames hold the answer itself.
    """
    error.args = tuple(_redacted(part, key) if isinstance(part, str) else part for part in error.args)
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, _redacted(value, key))
        elif isinstance(value, dict):
            setattr(error, name, _details(value, key))
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _redacted(text: str, key: Secret[str]) -> str:
    """*text* without *key*, and of bounded length; cut before, it might end in half of a key."""
    shown = scrub(text, [key.reveal()])
    return shown if len(shown) <= LONGEST_SENTENCE else f"{shown[:LONGEST_SENTENCE]}…"


def _details(value: dict[str, Any], key: Secret[str]) -> dict[str, Any]:
    """*value* without *key*; empty where it is nested too deep."""
    try:
        return {_redacted(name, key): _scrubbed(each, key) for name, each in value.items()}
    except RecursionError:
        return {}


def _scrubbed(value: Any, key: Secret[str]) -> Any:
    """*value*, of JSON, without *key*."""
    match value:
        case str():
            return scrub(value, [key.reveal()])
        case list():
            return [_scrubbed(each, key) for each in value]
        case dict():
            return {_scrubbed(name, key): _scrubbed(each, key) for name, each in value.items()}
    return value
