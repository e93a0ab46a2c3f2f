"""What can go wrong: one tree of plain values, with no key and no library's object in any of them.

    NavTalkError
    ├── ApiError                the server answered, and said no
    │   ├── BadRequest            400: a parameter, or on NavTalk a wrong key
    │   ├── AccessDenied          401, 403: the key has expired, or may not do this
    │   ├── NotFound              404: no such session in this project
    │   ├── Conflict              409: not while something else is going on
    │   ├── RateLimited           429: too fast; `retry_after` says how long to wait
    │   ├── ServerError           5xx: their fault, try later
    │   └── Redirected            3xx: the base URL points somewhere else
    ├── TransportError          the network lost the question or the answer
    │   ├── ConnectFailed         nobody was reached; nothing was sent
    │   ├── Disconnected          the connection ended before the answer began
    │   ├── BrokenBody            the answer began, and was cut or garbled
    │   ├── StreamBroken          a stream ended before its end; `events` has what came
    │   ├── BodyTooLarge          the answer would not fit in the memory we allow it
    │   └── AttemptTimeout        one attempt took longer than it may
    ├── DeadlineExceeded        the budget over all attempts and waits is spent (also a TimeoutError)
    ├── DecodeFailed            the answer is whole, and not what the API's reference says
    │   ├── NotJson               HTML, say
    │   └── WrongShape            JSON of another shape
    ├── RepeatedPage            a listing leads back to where it was, or nowhere
    ├── ClientClosed            the client was closed, before or meanwhile
    └── StoreError              the archive on disk cannot be used
        ├── StoreLocked           another run is using it
        ├── StoreMismatch         it holds another project, API or filter, or a newer schema
        ├── StoreUnreachable      it cannot be where it was asked for
        └── StoreBroken           the file is damaged, or is no store

Every error says whose fault it is, what happened and what to do next, pickles, and counts the `attempts`
that were made before it was raised. Where a call that changes something failed, `may_have_happened` tells
whether the change may have been made all the same.
"""

from collections.abc import Iterable
from typing import Any

__all__ = [
    "AccessDenied",
    "ApiError",
    "AttemptTimeout",
    "BadRequest",
    "BodyTooLarge",
    "BrokenBody",
    "ClientClosed",
    "Conflict",
    "ConnectFailed",
    "DeadlineExceeded",
    "DecodeFailed",
    "Disconnected",
    "NavTalkError",
    "NotFound",
    "NotJson",
    "RateLimited",
    "Redirected",
    "RepeatedPage",
    "ServerError",
    "StoreBroken",
    "StoreError",
    "StoreLocked",
    "StoreMismatch",
    "StoreUnreachable",
    "StreamBroken",
    "TransportError",
    "WrongShape",
]


LOOK_FIRST = "It may have happened: look before you ask again."


class NavTalkError(Exception):
    """The root: `except NavTalkError` catches whatever this library means to raise, bad arguments apart."""

    next_step = ""
    """What the reader of the error can do about it."""

    may_have_happened: bool = False
    """Whether the call was to change something, and the server may have done it: the question left, and what
    came back does not say no. False where nothing was sent, where the server refused, and for every question
    that only reads.
    """

    def __init__(self, message: str = "", *, attempts: int = 0) -> None:
        super().__init__(message)
        self.attempts = attempts
        """How often the server was asked before this was raised; 0 where it was not asked."""

    def __str__(self) -> str:
        told = str(self.args[0])
        if self.attempts > 1:
            told = f"{told.removesuffix('.')}, after {self.attempts} attempts."
        return f"{told} {LOOK_FIRST if self.may_have_happened else self.next_step}".rstrip()


class ApiError(NavTalkError):
    """The server answered, and said no."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        code: int | None = None,
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.status = status
        """The HTTP status."""
        self.code = code
        """The `code` of the answer's envelope, where it has one; it may differ from the status."""
        self.retry_after = retry_after
        """The seconds the server asks us to wait; None where it asks for nothing."""
        self.details = details or {}
        """What else the body of the answer says, by the API's names."""
        self.message = message


class BadRequest(ApiError):
    """400: the server does not accept the question, or (NavTalk) the key."""

    next_step = "Check what was asked for: the server does not take it."
    may_be_key = False
    """Whether the API answers a wrong key like this."""

    def suspect_key(self) -> None:
        """Note that the API answers a wrong key like this."""
        self.may_be_key = True
        self.next_step = "Check the key first: the API answers 400 to a wrong one, too."


class AccessDenied(ApiError):
    """401 or 403: the key has expired, or the project is not active, or the key may not do this."""

    next_step = "Check in the project's settings that the key is current and the project active."

    @property
    def allowed_endpoints(self) -> list[str] | None:
        """What the key may be used for (Kodey.ai's `allowedEndpoints`); None where that is not said."""
        found = self.details.get("allowedEndpoints")
        return found if isinstance(found, list) else None

    @property
    def upgrade_instructions(self) -> str | None:
        """How to get a key that may do more (Kodey.ai's `upgradeInstructions`); None where it is not said."""
        found = self.details.get("upgradeInstructions")
        return found if isinstance(found, str) else None


class NotFound(ApiError):
    """404: there is no such thing, or it belongs to another project."""

    next_step = "Check the id, that the key belongs to its project, and the base URL."


class Conflict(ApiError):
    """409: not while something else is going on."""

    next_step = "Try again when that has ended."


class RateLimited(ApiError):
    """429: asked too fast; `retry_after` says how long to wait."""

    next_step = "Wait, or ask with less concurrency or a lower rate."


class ServerError(ApiError):
    """5xx: the server's own fault."""

    next_step = "This is the server's fault; try again later."


class Redirected(ApiError):
    """3xx: the server sends us elsewhere, and a key is not carried there."""

    next_step = "Check the base URL; redirects are not followed, because they would carry the key along."


class TransportError(NavTalkError):
    """The network lost the question, or the answer."""

    next_step = "This is the network's fault, or the server's; try again."


class ConnectFailed(TransportError):
    """Nobody was reached, so nothing was sent."""

    next_step = "Check the base URL and the network; nothing was sent."


class Disconnected(TransportError):
    """The connection ended before an answer began."""


class BrokenBody(TransportError):
    """The answer began, and was cut or garbled on its way."""


class StreamBroken(TransportError):
    """A stream of events ended before its last one; what came until then is in `events`."""

    def __init__(self, message: str = "", *, events: Iterable[Any] = (), attempts: int = 0) -> None:
        super().__init__(message, attempts=attempts)
        self.events: list[Any] = list(events)
        """The events that came, in order; also those that were handed out before."""


class BodyTooLarge(TransportError):
    """The answer is larger than we are ready to hold in memory."""

    next_step = "Ask for fewer rows at once, with a smaller limit."


class AttemptTimeout(TransportError):
    """One attempt took longer than one attempt may."""

    next_step = "The server is slow or away; try again, or allow an attempt more time."


class DeadlineExceeded(NavTalkError, TimeoutError):
    """The budget over all attempts and waits is spent, or the next wait would spend it."""

    next_step = "Allow more time, or try again later."


class DecodeFailed(NavTalkError):
    """The answer is whole, but not what the API's reference says."""

    next_step = "Check that the base URL is that of the API; if it is, the API has changed."


class NotJson(DecodeFailed):
    """The answer is not JSON at all: the page of a proxy, perhaps."""


class WrongShape(DecodeFailed):
    """The answer is JSON, of another shape than the reference gives."""


class RepeatedPage(NavTalkError):
    """A listing leads back to where it was, or on for ever without a row; walking on would never end."""

    next_step = "This is the server's fault; the rows before this point were delivered."


class ClientClosed(NavTalkError):
    """The client was closed, before this call or while it ran."""

    next_step = "Ask inside the client's own `async with`."


class StoreError(NavTalkError):
    """The archive cannot be used just now: the disk is full, perhaps. What was kept is safe."""

    next_step = "Run the same command again when that is mended; what was kept is safe."


class StoreLocked(StoreError):
    """Another run is using the archive."""

    next_step = "Wait until it has finished, or stop it."


class StoreMismatch(StoreError):
    """The archive holds another project, API or filter than was asked for, or a newer schema."""

    next_step = ""


class StoreUnreachable(StoreError):
    """The archive cannot be where it was asked for: something is in the way, or we may not write there."""

    next_step = ""


class StoreBroken(StoreError):
    """The archive is damaged, or is not one."""

    next_step = "Choose another place, or put back a good copy."
