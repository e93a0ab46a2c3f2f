"""The way to the server: through which proxy, and whose certificates are trusted on it."""

import ssl
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from navtalk_async.wire.secret import is_loopback

__all__ = ["Route", "route_to"]


class Route(NamedTuple):
    """How connections are made."""

    trust_env: bool = False
    proxy: str | None = None
    trusted: ssl.SSLContext | None = None
    """What decides whether a certificate is trusted; None for what the system trusts."""


def route_to(
    root: SplitResult, *, trust_env: bool, proxy: str | None, cacert: str | PathLike[str] | None
) -> Route:
    """The route to *root*; a ValueError or a TypeError if there cannot be one. A *proxy* is not quoted, which
    may hold a password.
    """
    if proxy is not None:
        _check_proxy(root, proxy)
    # A plain http request to this machine would also go to a proxy as plain http, with the key.
    trust_env = trust_env and not is_loopback(root.hostname or "")
    return Route(trust_env, proxy, None if cacert is None else trusting(cacert))


def _check_proxy(root: SplitResult, proxy: str) -> None:
    if not isinstance(proxy, str):
        raise TypeError("proxy= is not a text: pass http://host:port.")
    try:
        parts = urlsplit(proxy)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not proxy.isprintable() or " " in proxy:
        raise ValueError("proxy= is not the URL of an http proxy: write http://host:port.")
    if root.scheme == "http":
        raise ValueError("proxy= needs a base URL with https: over http, the proxy would see the key.")


def trusting(cacert: str | PathLike[str]) -> ssl.SSLContext:
    """A context that trusts what the system does, and the authorities in the PEM file *cacert*."""
    path = Path(fspath(cacert))
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ValueError(f"cacert={str(path)!r} holds no certificate in the PEM format.") from None
    except OSError as failure:
        raise ValueError(f"cacert={str(path)!r} cannot be read: {failure.strerror}.") from None
    return context
