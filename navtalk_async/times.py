"""The times of APIs and of HTTP headers, as aware UTC datetimes."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

__all__ = ["http_date", "parse_time", "parse_utc"]

# An ISO 8601 time in which one part differs from what `datetime.fromisoformat` reads on every Python.
ISO = re.compile(
    r"(?P<day>\d{4}-?\d{2}-?\d{2})[Tt ]"
    r"(?P<hour>\d{2})(?P<minute>:?\d{2})(?P<second>:?\d{2})?(?P<fraction>[.,]\d+)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}:?\d{2})?"
)


def parse_utc(text: str) -> datetime:
    """The aware UTC datetime that *text* means; one without a zone is UTC.

    It is an ISO 8601 time (also with `z`, ` UTC`, second 60 or hour 24), or a date of RFC 2822.

    Raises:
        ValueError: *text* is no time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _parse_unusual(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is outside of the years that there are in UTC.") from None


def _parse_unusual(text: str) -> datetime:
    found = ISO.fullmatch(text.strip())
    try:
        return _from_parts(found) if found else parsedate_to_datetime(text)
    except OverflowError as failure:
        raise ValueError(str(failure)) from None


def _from_parts(found: re.Match[str]) -> datetime:
    day, hour, minute, second, fraction, zone = found.groups(default="")
    is_midnight = hour == "24" and not (minute + second + fraction).strip(":.,0")
    iso = f"{day}T{'00' if is_midnight else hour}{minute}{second.replace('60', '59')}{fraction}"
    if zone:
        iso += zone if zone[0] in "+-" else "+00:00"
    return datetime.fromisoformat(iso) + timedelta(days=is_midnight, seconds=second.endswith("60"))


def parse_time(text: str | None) -> datetime | None:
    """The moment that *text* means; None if there is none, or it is no time."""
    try:
        return parse_utc(text) if text else None
    except ValueError:
        return None


@lru_cache(64)
def http_date(text: str) -> datetime | None:
    """The moment that a date in an HTTP header means (RFC 9110, section 5.6.7); None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
