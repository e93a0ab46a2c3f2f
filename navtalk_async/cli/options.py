"""The words of the command line, and what they mean."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from navtalk_async.formats import FORMATS
from navtalk_async.models import OpenEnum, Role, SessionStatus, as_utc
from navtalk_async.wire.limits import Concurrency

__all__ = [
    "AGENT_TYPE",
    "LISTING",
    "USER",
    "as_at_once",
    "as_formats",
    "as_name",
    "as_percent",
    "as_role",
    "as_seconds",
    "as_span",
    "as_status",
    "as_time",
    "examples",
    "with_options",
]

F = TypeVar("F", bound=Callable[..., Any])

LISTING = click.option(
    "--listing",
    type=click.Choice(["auto", "serial"]),
    default="auto",
    help="List from many places at once where that helps, or page by page.",
)

USER = click.option(
    "--user", metavar="ID", help="Sessions of this user; Lexicon needs one, Kodey.ai takes one."
)
AGENT_TYPE = click.option(
    "--agent-type", metavar="TYPE", help="Sessions with agents of this type (Kodey.ai)."
)


def with_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator for several *options*, which keep their order in the help."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def examples(*lines: str) -> str:
    """The end of a help text: each of *lines* as it stands."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def as_name(text: str) -> str:
    """*text*, if it can be the name of a project: bytes of the command line that are not UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{text!r} is not UTF-8.") from None
    if not text.strip() or not text.isprintable():
        raise click.BadParameter(f"{text!r} is no name.")
    return text


def as_time(text: str) -> datetime:
    """The moment that *text* means; without a zone it is UTC, as with the API."""
    try:
        return as_utc(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a time: write 2025-11-12, '2025-11-12 18:20:38' (UTC) or "
            "2025-11-12T18:20:38+01:00."
        ) from None


def as_status(text: str) -> int:
    """The number of a status, given as a word or a number."""
    return _number(text, SessionStatus)


def as_role(text: str) -> int:
    """The number of a role, given as a word or a number."""
    return _number(text, Role)


def _number(text: str, kind: type[OpenEnum]) -> int:
    # Any number will do, since the API may have more of them than we know words for.
    if text.isascii() and text.isdigit():
        return int(text)
    words = {member.name.lower(): int(member) for member in kind}
    if text.lower() not in words:
        raise click.BadParameter(f"{text!r} is none of {', '.join(words)}, nor a number.")
    return words[text.lower()]


def as_at_once(text: str) -> Concurrency:
    """How many requests at once: a number, or `auto`."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"{text!r} is neither auto nor a number from 1.")
    return int(text)


def as_seconds(text: str) -> float:
    """A time span such as `50ms`, `1.5s` or `0.05`, in seconds."""
    number, scale = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        seconds = float(number) * scale
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise click.BadParameter(f"{text!r} is not a time span: write 50ms, 1.5s or 0.05.")
    return seconds


def as_percent(text: str) -> float:
    """A share such as `5%`, in percent."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise click.BadParameter(f"{text!r} is no share: write 5%, 0.5% or 100%.")
    return percent


LONGEST = timedelta(days=36_525)

SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def as_span(text: str) -> timedelta:
    """A time span such as `90`, `60s`, `5m`, `24h` or `7d`; seconds where no unit is given."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a time span: write 60s, 5m, 24h or 7d.")
    try:
        span = timedelta(seconds=float(found[1]) * SPANS[found[2] or "s"])
    except OverflowError:
        span = timedelta.max
    if span > LONGEST:
        raise click.BadParameter(f"{text!r} is longer than a century.")
    return span


def as_formats(text: str) -> list[str]:
    """The names of formats, given with commas between them."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is no format; choose from {', '.join(FORMATS)}.")
    return names
