"""What a verification found, as values."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

__all__ = ["Checked", "Finding", "Remedy", "Report", "sessions", "some"]

A_FEW = 3
"""How many sessions of a note are named."""


class Remedy(StrEnum):
    """What mends a finding."""

    EXPORT = "export"
    """The same export again: it writes the files anew, out of the archive."""
    REPAIR = "repair"
    """A repair: it fetches the session again, or writes what was derived from the sessions anew."""
    SYNC = "sync"
    """A repair that asks the API: the archive is sound, and behind it."""
    COPY = "copy"
    """Another copy of the archive, or a new one."""


class Finding(NamedTuple):
    """Something that is not as it should be."""

    where: str
    """The file, or the session in the archive."""
    what: str
    """A sentence without its subject, which is *where*."""
    cure: Remedy
    project: str | None = None
    session: str | None = None
    """The session to fetch again; None where it is no single one."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}."


class Checked(msgspec.Struct, kw_only=True):
    """How much was looked at so far."""

    files: int = 0
    bytes: int = 0
    sessions: int = 0
    """Of the archive, each compared with all that is known of it."""
    messages: int = 0
    listed: int = 0
    """Sessions that the API listed, and that were looked for in the archive."""
    asked: int = 0
    """Sessions that were asked for again from the API, and had."""
    unasked: int = 0
    """Sessions that were to be asked for again, and could not be had."""


class Report(msgspec.Struct, kw_only=True):
    """What a verification found; added to while it goes on."""

    findings: list[Finding] = []
    notes: list[str] = []
    """What is worth knowing, and nothing wrong; a sentence each."""
    checked: Checked = msgspec.field(default_factory=Checked)
    apis: dict[str, str] = {}
    """The API of each project that was looked at."""
    expected: set[tuple[str, str]] = set()
    """Sessions, with their projects, that are missing or behind, and that the next sync fetches anyway."""
    unfinished: set[tuple[str, str]] = set()
    """Sessions, with their projects, that failed or are pending."""

    def found(self, findings: Iterable[Finding]) -> None:
        """Add *findings*."""
        self.findings.extend(findings)

    @property
    def bad(self) -> set[tuple[str, str]]:
        """Each session to fetch again, with its project."""
        named = {
            (each.project, each.session)
            for each in self.findings
            if each.project is not None and each.session is not None
        }
        return named | self.expected


def sessions(count: int) -> str:
    """*count* sessions, in words."""
    return f"{count:,} session{'' if count == 1 else 's'}"


def some(names: Iterable[str]) -> str:
    """The first few of *names*, and how many more there are."""
    told = list(names)
    more = len(told) - A_FEW
    return "; ".join([*told[:A_FEW], *([f"and {more:,} more"] if more > 0 else [])])
