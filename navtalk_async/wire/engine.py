"""Which HTTP client carries the requests: aiohttp, or the faster one that an extra installs."""

from typing import Literal, Protocol

from navtalk_async.wire.transport import AiohttpTransport, Transport

__all__ = ["Engine", "MakesTransports", "maker"]

Engine = Literal["aiohttp", "fast"]


class MakesTransports(Protocol):
    """Makes a transport for the event loop that runs."""

    def __call__(self, *, body_limit: int, trust_env: bool) -> Transport:
        """A transport that takes answers of up to *body_limit* bytes, and heeds the environment's proxies
        where it is to trust them.
        """
        ...


def maker(engine: str) -> MakesTransports:
    """What makes the transports of *engine*.

    Raises:
        ValueError: there is no such engine, or it is not installed.
    """
    match engine:
        case "aiohttp":
            return AiohttpTransport
        case "fast":
            try:
                from navtalk_async.wire.fast import FastTransport  # noqa: PLC0415 - the extra may be missing
            except ImportError as missing:
                raise ValueError("The engine 'fast' needs: pip install 'navtalk-async[fast]'") from missing
            return FastTransport
    raise ValueError(f"The engine {engine!r} is neither 'aiohttp' nor 'fast'.")
