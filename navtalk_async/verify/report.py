"""What a verification came to: findings, as values."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

__all__ = ["Checked", "Cure", "Finding", "Report"]


class Cure(StrEnum):
    """What mends a finding."""

    EXPORT = "export"
    """The same export again: it writes the files anew, out of the archive."""
    SYNC = "sync"
    """A sync: the archive is sound, and behind the API."""
    COPY = "copy"
    """Another copy of the archive, or a new one."""


class Finding(NamedTuple):
    """Something that is not as it should be."""

    where: str
    """The file, or the session in the archive."""
    what: str
    """A sentence without its subject, which is *where*."""
    cure: Cure

    def __str__(self) -> str:
        return f"{self.where}: {self.what}."


class Checked(msgspec.Struct, kw_only=True):
    """How much was looked at so far."""

    files: int = 0
    bytes: int = 0
    sessions: int = 0
    """Of the archive, each compared with all that is known of it."""
    messages: int = 0
    asked: int = 0
    """Sessions that were asked for again from the API, and had."""
    unasked: int = 0
    """Sessions that were to be asked for again, and could not be had."""


class Report(msgspec.Struct, kw_only=True):
    """What a verification came to; added to while it goes on."""

    findings: list[Finding] = []
    notes: list[str] = []
    """What is worth knowing, and nothing wrong; a sentence each."""
    checked: Checked = msgspec.field(default_factory=Checked)

    def found(self, findings: Iterable[Finding]) -> None:
        """Add *findings*."""
        self.findings.extend(findings)
