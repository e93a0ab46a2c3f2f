"""The key: held so that no traceback and no report shows it, sent to safe addresses alone, placed in a
request, and masked in answers and errors. This file is longer than most: all that reads the key is here.
"""

import html
import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, cast
from urllib.parse import SplitResult, quote, urlsplit

from navtalk_async.errors import NavTalkError
from navtalk_async.lenient_json import is_object
from navtalk_async.models import KeyPlace, Request

__all__ = [
    "LEAST_UNMISTAKABLE",
    "Secret",
    "canonical_root",
    "checked_key",
    "checked_root",
    "hide_frames",
    "is_loopback",
    "scrub",
]

T = TypeVar("T")
P = ParamSpec("P")


class Opaque:
    """Shows nothing of what it holds, however a report of local variables writes it: a `str` with a `repr` of
    its own would be cut, or decoded, by reports that write texts themselves.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "[key]"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is not pickled or copied: read it where it is used.")


class Secret(Opaque, Generic[T]):
    """A key, or the callable that returns one."""

    __slots__ = ("_hidden",)

    def __init__(self, hidden: T) -> None:
        self._hidden = hidden

    def reveal(self) -> T:
        """The value, for an expression that gives it no name."""
        return self._hidden


def checked_key(key: object) -> Secret[str]:
    """*key* without surrounding white space; a `Secret` was checked before and is returned as it is.
    Neither the message of a ValueError nor its traceback shows it.
    """
    found = _sealed(key)
    # A traceback begins in this frame.
    del key
    if isinstance(found, str):
        raise ValueError(found)
    return found


def _sealed(key: object) -> Secret[str] | str:
    """*key*, or why it is refused."""
    if isinstance(key, Secret):
        return cast("Secret[str]", key)
    if not isinstance(key, str):
        return f"The API key is a {type(key).__name__}, and not a text."
    key = key.strip()
    if not key:
        return "The API key is empty."
    if not key.isascii() or not key.isprintable() or " " in key:
        return "The API key holds characters that no key has; was more than the key copied?"
    return Secret(key)


def hide_frames(call: Callable[P, T]) -> Callable[P, T]:
    """*call*, with tracebacks that end before it: its arguments and its local variables may be the key."""

    @wraps(call)
    def called(*args: P.args, **options: P.kwargs) -> T:
        try:
            return call(*args, **options)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            refusal = error
        del args, options
        refusal.__context__ = None
        try:
            raise refusal.with_traceback(None)
        finally:
            # Else it would keep this frame, which keeps it.
            del refusal

    return called


# Where it may go --------------------------------------------------------------------------------------------


def checked_root(root: str) -> str:
    """*root* without a slash at its end.

    A ValueError, if no key may be sent there: without https (plain http may go to this machine alone), or
    with a user, a query or a fragment in it.
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


# In a request -----------------------------------------------------------------------------------------------


# Matches what stays as it is in a URL (RFC 3986, section 2.3): ids, numbers, and most keys.
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
# Replaces the key in data. A cursor that contains it is sent back with the key, so that the walk goes on.
MASK = b"[key]"


SHOWN = MASK.decode()

LONGEST_SENTENCE = 600  # characters of what an error tells; what a server says may have no end
# Parameters whose values are the server's own: a `MASK` in one of them stands for the key.
CURSORS = frozenset({"cursor", "page_token"})


def query_of(request: Request) -> str:
    """The query of *request*, without the key."""
    query = ""
    for name, value in request.params.items():
        quoted = value if UNRESERVED(value) else _percent_encoded(name, value)
        query = f"{query}&{name}={quoted}" if query else f"{name}={quoted}"
    return query


def _percent_encoded(name: str, value: str) -> str:
    # Nothing else has such brackets in a cursor.
    parts = value.split(SHOWN) if name in CURSORS else [value]
    return SHOWN.join([quote(part, safe="") for part in parts])


class PlacedKey(Opaque):
    """A key in its place in the head of a request, and as a server may echo it."""

    __slots__ = ("_after", "_pieces", "_quoted", "echo", "secret")

    def __init__(self, secret: Secret[str], place: KeyPlace) -> None:
        text = secret.reveal()
        self.secret: Secret[str] = secret
        self.echo: Echo = Echo(text)
        self._quoted = text if UNRESERVED(text) else quote(text, safe="")
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
        # To look for a single byte, as a number, is faster by far.
        if MASK[0] in head and MASK in head:
            line, end, rest = head.partition(b"\r\n")
            head = line.replace(MASK, self._quoted.encode()) + end + rest
        return memoryview(head.replace(self._after, self._pieces[has_query], 1))


# In an answer -----------------------------------------------------------------------------------------------


LONGEST_FORM = 16  # the most bytes that a single character is written in
# The length from which on a secret is replaced wherever it stands. A shorter one, as only tests have, is part
# of many words, and is replaced only as a word of its own.
LEAST_UNMISTAKABLE = 8


def scrub(text: str, secrets: Iterable[str]) -> str:
    """*text* with every secret replaced by `[key]`, also where it is escaped, as in a URL or in HTML."""
    for secret in filter(None, secrets):
        form = _any_form(secret)
        if len(secret) < LEAST_UNMISTAKABLE:
            form = rf"(?<![^\W_]){form}(?![^\W_])"
        text = re.sub(form, "[key]", text)
    return text


JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)

# The letters and digits, from the rarest to the most frequent in an API's JSON.
FREQUENT_LAST = "QXJKVWYZqxjzUGFHBPLOkvNRMwDISCyEAbfTghplcumorndsit98765432ae10"


class Echo(Opaque):
    """A key as a server may repeat it: as it is, or escaped for JSON, a URL or HTML. One that is shorter than
    `LEAST_UNMISTAKABLE` is left where it is.
    """

    __slots__ = ("_clue", "_key", "_rarest", "_whole")

    def __init__(self, key: str) -> None:
        self._key = key
        self._whole: re.Pattern[bytes] | None = None
        # Letters and digits are the same in every form. To look for one is cheap, and nearly always enough;
        # else their longest run is looked for.
        runs = re.findall(r"[A-Za-z0-9]+", key) if len(key) >= LEAST_UNMISTAKABLE else []
        self._clue = max(runs, key=len, default="").encode() if len(key) >= LEAST_UNMISTAKABLE else None
        self._rarest = ord(min("".join(runs), key=FREQUENT_LAST.index)) if runs else None

    def masked(self, body: bytes) -> bytes:
        """*body* with the `MASK` for the key; what was JSON is JSON still."""
        if self._clue is None or (self._rarest is not None and self._rarest not in body):
            return body
        # With `in`, Python would first try to take it for the number of a byte.
        if body.find(self._clue) < 0:
            return body
        if re.fullmatch(r"[0-9.eE+-]*", self._key):
            # Outside of strings it would be a number.
            return JSON_STRING.sub(lambda string: self._masked(string[0]), body)
        return self._masked(body)

    def in_chunks(self) -> "EchoInChunks | None":
        """The same for a body that comes in chunks; None where nothing is masked."""
        return None if self._clue is None else EchoInChunks(self._masked, self._key)

    def _masked(self, body: bytes) -> bytes:
        if self._whole is None:
            self._whole = re.compile(_anywhere(self._key))
        return self._whole.sub(rb"\1" + MASK, body)


class EchoInChunks(Opaque):
    """Masks a key in chunks, which may end within it: what may be its beginning is held back until more has
    come.
    """

    __slots__ = ("_beginning", "_held", "_longest", "_masked")

    def __init__(self, masked: Callable[[bytes], bytes], key: str) -> None:
        self._masked = masked
        self._beginning = re.compile(_beginning(key))
        self._longest = LONGEST_FORM * len(key)
        self._held = b""

    @property
    def held(self) -> int:
        """How many bytes are held back."""
        return len(self._held)

    def feed(self, chunk: bytes) -> bytes:
        """What is sure of all that has come by now; it may be nothing."""
        come = self._held + chunk
        stem = come.rstrip(b"\\")
        # What comes next may belong to the last backslashes.
        escaping = come[len(stem) :]
        stem = self._masked(stem)
        found = self._beginning.search(stem, max(0, len(stem) - self._longest))
        sure = found.start() if found else len(stem)
        self._held = stem[sure:] + escaping
        return stem[:sure]

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return held if len(held) < LEAST_UNMISTAKABLE else MASK


def _anywhere(key: str) -> bytes:
    """A pattern for *key* in any form, behind a group of which nothing is masked."""
    # In JSON, the first character may be that of an escape, as in `\\n`: then the text is another one.
    before = r"(?<!\\)((?:\\\\)*)" if key[0] in "bfnrtu" else "()"
    return (before + _any_form(key)).encode()


def _any_form(key: str) -> str:
    return "".join(f"(?:{'|'.join(_forms(each))})" for each in key)


def _beginning(key: str) -> bytes:
    """A pattern for a text that ends with *key*, or a part of it from its first character on, in any form."""
    cut = (rf"(?:{'|'.join([*_forms(each), *_cut_forms(each)])})" for each in key)
    return (r"\\*" + "".join(cut)).encode()


def _forms(character: str) -> list[str]:
    """Patterns for *character* in every form."""
    if character.isalnum():
        return [character]
    escaped = [rf"(?i:{re.escape(form)})" for form in _escapes(character)]
    # JSON within JSON doubles the backslashes; one more than an even number of them escapes what follows.
    plain = r"(?:\\\\)+|\\" if character == "\\" else rf"\\*{re.escape(character)}"
    return [plain, *escaped]


def _cut_forms(character: str) -> list[str]:
    """Patterns for the beginnings of *character* in every form, the empty one included, at the end."""
    if character.isalnum():
        return [r"\Z"]
    cut = {form[:length] for form in _escapes(character) for length in range(1, len(form))}
    return [r"\\*\Z", *(rf"(?i:{re.escape(each)})\Z" for each in sorted(cut))]


def _escapes(character: str) -> list[str]:
    """The escapes of *character* in URLs, HTML and JSON, in lower case; either case means the same."""
    number = ord(character)
    entities = {html.escape(character), f"&#{number};", f"&#x{number:x};"} - {character}
    forms = [f"%{number:02x}", *sorted(entities), f"\\u{number:04x}"]
    # Some escape HTML's ampersand in JSON.
    return forms + [rf"\u0026{form[1:]}" for form in forms if form.startswith("&")]


# In an error ------------------------------------------------------------------------------------------------


def redact(error: NavTalkError, key: Secret[str]) -> NavTalkError:
    """*error* as it may be shown: servers quote the key, and the URL with it, in what they answer.

    Its traceback and context go too, since their frames hold the answer itself.
    """
    error.args = tuple(_redacted(part, key) if isinstance(part, str) else part for part in error.args)
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, _redacted(value, key))
        elif is_object(value):
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
    inner: Any = value
    match value:
        case str():
            return scrub(value, [key.reveal()])
        case list():
            return [_scrubbed(each, key) for each in inner]
        case dict():
            return {_scrubbed(name, key): _scrubbed(each, key) for name, each in inner.items()}
    return value
