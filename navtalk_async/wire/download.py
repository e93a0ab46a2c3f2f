"""Files from addresses that an API names: no key, cookie or proxy, no redirect, and no private address.

A name is looked up once, every address it has is checked, and the connection goes to these: a name that
means another address a moment later changes nothing.
"""

import math
import socket
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

__all__ = ["Answer", "DownloadLost", "DownloadRefused", "Downloads", "is_public"]

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
LONGEST_URL = 8192
NAT64 = IPv6Network("64:ff9b::/96")
PRIVATE = "{} is a private address"


class DownloadRefused(Exception):
    """The file is not fetched, as its address or its server is not to be trusted: another attempt is none."""


class DownloadLost(Exception):
    """The file did not come, or not all of it: another attempt may go better.

    Attributes:
        wait: seconds to wait before it; infinite where it would not help at once.
    """

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Answer(NamedTuple):
    """An answer that has begun."""

    status: int
    headers: Mapping[str, str]
    content: aiohttp.StreamReader

    async def read(self) -> bytes:
        """What has come of the body; empty at its end. Raises `DownloadLost` where it ends too early."""
        with _translated():
            # aiohttp withholds what came before the connection broke.
            is_broken = self.content.exception() is not None
            if is_broken and (rest := self.content._read_nowait(-1)):  # noqa: SLF001 - no public way
                return rest
            return await self.content.readany()


class Downloads:
    """An `async with` of connections for downloads.

    Arguments:
        allow_private: also connect to addresses that are not public: this machine, the local network.
        trusted: what decides whether a certificate is trusted; None for what the system trusts.
    """

    def __init__(self, *, allow_private: bool = False, trusted: ssl.SSLContext | None = None) -> None:
        self._allow_private = allow_private
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                resolver=aiohttp.ThreadedResolver() if allow_private else _PublicResolver(),
                use_dns_cache=False,
                ssl=True if trusted is None else trusted,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[Answer, None]:
        """The answer to a GET of *url*, whatever its status.

        Raises:
            DownloadRefused: *url* is no address of a public server, or its certificate is not trusted.
            DownloadLost: there was no answer.
        """
        with _translated():
            address = _checked(url, allow_private=self._allow_private)
            answer = await self._session.get(
                address, headers={"Accept-Encoding": "identity", **headers}, allow_redirects=False
            )
        try:
            yield Answer(answer.status, answer.headers, answer.content)
        finally:
            # After a body read to its end this is nothing; after any other, it ends the connection.
            answer.close()


def is_public(address: str) -> bool:
    """Whether the IP *address* is one of the Internet, also where it stands for one of IPv4; a ValueError if
    it is none in the usual form.
    """
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) % 2**32) if ip in NAT64 else None)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


class _PublicResolver(AbstractResolver):
    """Looks up names, and refuses one that leads to any address that is not public."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not is_public(each["host"]):
                raise DownloadRefused(PRIVATE.format(host))
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _checked(text: str, *, allow_private: bool) -> URL:
    """The address *text*, exactly as it is written where it is a URL: a signature may cover every byte."""
    if len(text) > LONGEST_URL or not text.isprintable():
        raise DownloadRefused("its address is no URL")
    url = URL(text, encoded=text.isascii() and " " not in text)
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise DownloadRefused("its address is no URL of http or https")
    if url.user is not None or url.password is not None:
        raise DownloadRefused("its address holds a user's name or password")
    host = url.raw_host
    # aiohttp does not look up what it takes for an IP address: also `127.1`, which the system reads as one.
    if not allow_private and (":" in host or host.replace(".", "").isdigit()) and not is_public(host):
        raise DownloadRefused(PRIVATE.format(host))
    return url


@contextmanager
def _translated() -> Generator[None]:
    """In our words, which quote nothing: a URL may hold a signature."""
    try:
        yield
    except aiohttp.ClientSSLError:
        raise DownloadRefused("the certificate of its server is not trusted") from None
    except aiohttp.ClientConnectorDNSError:
        raise DownloadLost("its host has no address", wait=math.inf) from None
    except aiohttp.ClientPayloadError:
        raise DownloadLost("the answer was cut off") from None
    except TimeoutError:
        raise DownloadLost("its server did not answer in time") from None
    except (aiohttp.ClientError, OSError):
        raise DownloadLost("the connection failed") from None
    except ValueError:
        raise DownloadRefused("its address is no URL") from None
