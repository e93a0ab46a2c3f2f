"""Who may see the pages: the browser that was given the address with the token, and nobody else."""

from collections.abc import Mapping
from hmac import compare_digest
from secrets import token_urlsafe
from typing import NamedTuple

from navtalk_async.formats.html.pages import policy

HEADERS = {
    # A header also forbids to be framed, which a page itself cannot.
    "Content-Security-Policy": f"{policy(is_served=True)}; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "navtalk",
}
"""Those of every answer."""

ALLOWED = ("GET", "HEAD")
OWN_SITES = (None, "none", "same-origin")


class Refusal(NamedTuple):
    """An answer in place of a page."""

    status: int
    why: str


class Guard:
    """Lets in who has the cookie, which the token is exchanged for, once.

    Cookies are the same for all ports of a host, so that others on this machine may send ours along; hence
    the checks of where a request comes from. The host that is asked for is checked, since a name of somebody
    else may lead here too.
    """

    def __init__(self, port: int) -> None:
        self.token = token_urlsafe(32)
        self._secret = token_urlsafe(32)
        self._cookie = f"navtalk-view-{port}"
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        if port == 80:
            self._hosts |= {"127.0.0.1", "localhost", "[::1]"}
        self._is_used = False

    def refusal(self, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why the request is refused, before its sender is checked; None if it is not."""
        if method not in ALLOWED:
            return Refusal(405, "Only GET and HEAD are answered: nothing here can be changed.")
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if host.lower() not in self._hosts:
            return Refusal(421, "This is not the host that was asked for.")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return Refusal(403, "Other sites get no answer.")
        return None

    def is_known(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is of the browser that was let in, and of a page of ours or of its user."""
        pairs = (each.strip().partition("=") for each in headers.get("Cookie", "").split(";"))
        held = {name: value for name, _, value in pairs}
        is_own = headers.get("Sec-Fetch-Site") in OWN_SITES
        return is_own and _are_same(held.get(self._cookie, ""), self._secret)

    def exchange(self, token: str) -> str | None:
        """The `Set-Cookie` for the *token*; None where it is wrong, or was used before."""
        if self._is_used or not _are_same(token, self.token):
            return None
        self._is_used = True
        return f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"


def _are_same(one: str, other: str) -> bool:
    return compare_digest(one.encode(errors="replace"), other.encode())
