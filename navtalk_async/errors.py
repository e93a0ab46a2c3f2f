"""Every error of this library: one tree of plain values, without keys and without objects of other libraries.

    NavTalkError
    ├── ApiError                the server refused the request
    │   ├── BadRequest            400: a wrong parameter, or on NavTalk a wrong key
    │   ├── AccessDenied          401, 403: the key has expired, or lacks a permission
    │   ├── NotFound              404: no such session in this project
    │   ├── Conflict              409: something else is going on at the server
    │   ├── RateLimited           429: too fast; `retry_after` says how long to wait
    │   ├── ServerError           5xx: the server's fault, try later
    │   └── Redirected            3xx: the base URL points somewhere else
    ├── TransportError          the request or its answer was lost on the network
    │   ├── ConnectFailed         no connection; nothing was sent
    │   │   ├── UnknownHost         the base URL's host has no address
    │   │   └── UntrustedCertificate  the server's certificate is not trusted
    │   ├── Disconnected          the connection ended before the answer began
    │   ├── BrokenBody            the answer began, and was cut off or garbled
    │   ├── StreamBroken          a stream ended too early; `events` holds the events until then
    │   ├── BodyTooLarge          the answer is larger than the client's `body_limit`
    │   └── AttemptTimeout        one attempt took longer than `attempt_timeout`
    ├── DeadlineExceeded        all attempts and waits took longer than `timeout` (also a TimeoutError)
    ├── DecodeFailed            the answer is complete, but differs from the API's reference
    │   ├── NotJson               not JSON: HTML, say
    │   └── WrongShape            JSON of another shape
    ├── RepeatedPage            the pages of a list lead in a circle, or go on without rows
    ├── ClientClosed            the client was closed before the call, or during it
    └── StoreError              the archive cannot be used
        ├── StoreLocked           another run is using it
        ├── StoreMismatch         it holds another project, API or filter, or a newer schema
        ├── StoreUnreachable      it cannot be opened or written there
        └── StoreBroken           it is damaged, or is not an archive

Every error says whose fault it is, what happened and what to do next. It can be pickled, and counts the
`attempts` that were made before it was raised. If a call that changes something failed, `may_have_happened`
says whether the change may have been made all the same.
"""

from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from typing import Any, cast

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
    "UnknownHost",
    "UntrustedCertificate",
    "WrongShape",
    "http_status",
]


def counted(count: int, one: str, more: str = "") -> str:
    """*count* with its noun: *one* in the singular, *more* in the plural (by default with an s)."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


CHECK_FIRST = "The change may have been made: check before you repeat it."


@dataclass(eq=False, repr=False)
class NavTalkError(Exception):
    """The root of all errors of this library; a bad argument is a ValueError or a TypeError."""

    message: str = ""
    """What happened."""
    _: KW_ONLY
    attempts: int = 0
    """How many requests were sent before this was raised."""
    next_step: str = field(default="", init=False)
    """What to do about it."""
    may_have_happened: bool = field(default=False, init=False)
    """Whether the server may have made a change although the call failed: the request was sent, and was not
    refused. False for every call that only reads."""

    def __init_subclass__(cls, next_step: str | None = None) -> None:
        if next_step is not None:
            cls.next_step = next_step

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def __str__(self) -> str:
        text = str(self.args[0])
        if self.attempts > 1:
            text = f"{text.removesuffix('.')}, after {self.attempts} attempts."
        return f"{text} {CHECK_FIRST if self.may_have_happened else self.next_step}".rstrip()


@dataclass(eq=False, repr=False, kw_only=True)
class ApiError(NavTalkError):
    """The server refused the request."""

    status: int = 0
    """The HTTP status."""
    code: int | None = None
    """The `code` in the body of the answer, if any; it may differ from the status."""
    retry_after: float | None = None
    """The seconds to wait that the server asked for, if any."""
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    """The other fields of the body, by the API's names."""


class BadRequest(ApiError, next_step="Check the parameters: the server does not accept them."):
    """400: the server does not accept a parameter, or (NavTalk) the key."""

    may_be_key: bool = False
    """Whether a wrong key may be the reason."""

    def suspect_key(self) -> None:
        """Note that the API answers 400 to a wrong key."""
        self.may_be_key = True
        self.next_step = "Check the key and the parameters: the API answers 400 to a wrong key, too."


class AccessDenied(
    ApiError, next_step="Check in the project's settings that the key is current and the project active."
):
    """401 or 403: the key has expired or lacks a permission, or the project is not active."""

    @property
    def allowed_endpoints(self) -> list[str] | None:
        """The endpoints that the key may use (Kodey.ai's `allowedEndpoints`); None on other APIs."""
        found = self.details.get("allowedEndpoints")
        return cast("list[str]", found) if isinstance(found, list) else None

    @property
    def upgrade_instructions(self) -> str | None:
        """How to get a key with more permissions (Kodey.ai's `upgradeInstructions`); None on other APIs."""
        found = self.details.get("upgradeInstructions")
        return found if isinstance(found, str) else None


class NotFound(ApiError, next_step="Check the id, that the key belongs to its project, and the base URL."):
    """404: there is no session of this id, or it belongs to another project."""


class Conflict(ApiError, next_step="Try again later."):
    """409: the server cannot do this while something else is going on."""


class RateLimited(ApiError, next_step="Wait, or lower the concurrency or the rate."):
    """429: too many requests; `retry_after` says how long to wait."""


class ServerError(ApiError, next_step="This is the server's fault; try again later."):
    """5xx: the server's own fault."""


class Redirected(
    ApiError, next_step="Check the base URL; redirects are not followed, because they would pass the key on."
):
    """3xx: the server redirects to another address, which would receive the key."""


class TransportError(NavTalkError, next_step="This is the network's fault, or the server's; try again."):
    """The request or its answer was lost on the network."""


class ConnectFailed(TransportError, next_step="Check the base URL and the network; nothing was sent."):
    """No connection was made, so nothing was sent."""


class UnknownHost(ConnectFailed):
    """The host of the base URL, or of the proxy, has no address."""


class UntrustedCertificate(
    ConnectFailed,
    next_step="Check the host name; cacert= trusts the certificates of your own authority. Nothing was sent.",
):
    """The server's certificate is not trusted, or is another host's; it is not tried again."""


class Disconnected(TransportError):
    """The connection ended before the answer began."""


class BrokenBody(TransportError):
    """The answer began, and was cut off or garbled on its way."""


@dataclass(eq=False, repr=False, kw_only=True)
class StreamBroken(TransportError):
    """A stream of events ended before its last event; `events` holds the events until then."""

    events: list[Any] = field(default_factory=list[Any])
    """All events that came, in order, including those already iterated."""


class BodyTooLarge(TransportError, next_step="Ask for fewer rows at once, by a smaller `limit`."):
    """The answer is larger than the client's `body_limit`."""


class AttemptTimeout(
    TransportError, next_step="The server is slow or down; try again, or allow more time per attempt."
):
    """One attempt took longer than `attempt_timeout`."""


@dataclass(eq=False, repr=False, kw_only=True)
class DeadlineExceeded(NavTalkError, TimeoutError, next_step="Allow more time, or try again later."):
    """All attempts and waits took longer than `timeout`, or would with the next wait."""

    last_error: NavTalkError | None = None
    """The error of the last attempt; None if there was no attempt."""
    retry_after: float | None = None
    """The seconds after which to try again: as the server asked, or until the client's pause ends; None if
    neither says."""


class DecodeFailed(
    NavTalkError, next_step="Check that the base URL is that of the API; if it is, the API has changed."
):
    """The answer is complete, but differs from the API's reference."""


class NotJson(DecodeFailed):
    """The answer is not JSON: the page of a proxy, perhaps."""


class WrongShape(DecodeFailed):
    """The answer is JSON of another shape than in the reference."""


class RepeatedPage(
    NavTalkError, next_step="This is the server's fault; the rows before this point were delivered."
):
    """The pages of a list lead in a circle, or go on without rows: the walk would never end."""


class ClientClosed(NavTalkError, next_step="Use the client inside its `async with`."):
    """The client was closed before this call, or during it."""


class StoreError(
    NavTalkError, next_step="Fix that and run the same command again; the data saved before is safe."
):
    """The archive cannot be used: the disk is full, perhaps. The data saved before is safe."""


class StoreLocked(StoreError, next_step="Wait until that run has finished, or stop it."):
    """Another run is using the archive."""


class StoreMismatch(StoreError, next_step=""):
    """The archive holds another project, API or filter, or a newer schema."""


class StoreUnreachable(StoreError, next_step=""):
    """The archive cannot be opened or written there: another file is in the way, or permission is denied."""


class StoreBroken(StoreError, next_step="Restore a good copy, or use another path."):
    """The archive is damaged, or is not an archive."""


# The answers of a web app to its own client. A refused key, a wrong base URL and a changed API are none of
# that client's business, and so are not told apart: each is a bad gateway. The most special kinds first.
HTTP: tuple[tuple[type[BaseException], HTTPStatus], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (RateLimited, HTTPStatus.SERVICE_UNAVAILABLE),
    (BodyTooLarge, HTTPStatus.BAD_GATEWAY),
    (AttemptTimeout, HTTPStatus.GATEWAY_TIMEOUT),
    (TimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
    (ConnectFailed, HTTPStatus.SERVICE_UNAVAILABLE),
    (ClientClosed, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreLocked, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreUnreachable, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (NavTalkError, HTTPStatus.BAD_GATEWAY),
)


def http_status(error: BaseException) -> int:
    """The HTTP status with which a web app answers its own client after *error*; nothing else of the error
    belongs into that answer.

    404 and 409 as the API said; 400 for a parameter that the API refused; 504 where time ran out; 503 where
    the API limits us, refuses connections or has too much to do, where an archive is in use, and while the
    client closes; 502 for all else of the API and of the network, a refused key included. 500 for a broken
    archive, and for what is no error of this library (but a `TimeoutError`). The `retry_after` of a
    RateLimited, ServerError or DeadlineExceeded is for the header `Retry-After`.
    """
    if isinstance(error, BadRequest):
        return HTTPStatus.BAD_GATEWAY if error.may_be_key else HTTPStatus.BAD_REQUEST
    if isinstance(error, ServerError) and (error.status == 503 or error.retry_after is not None):
        return HTTPStatus.SERVICE_UNAVAILABLE
    found = (status for kind, status in HTTP if isinstance(error, kind))
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)
