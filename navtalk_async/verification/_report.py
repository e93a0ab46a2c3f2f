"""What a verification reports."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

A_FEW = 3
"""How many sessions of a note are named."""


class Remedy(StrEnum):
    """What mends a finding."""

    EXPORT = "export"
    """The same export again: it writes the files anew from the archive."""
    MEDIA = "media"
    """A download of media with `retry_failed`: it downloads the file again."""
    REPAIR = "repair"
    """A repair: it fetches the session again, or rebuilds what is derived from the sessions."""
    SYNC = "sync"
    """A repair that asks the API: the archive is sound, but behind it."""
    KEY = "key"
    """The key of the project: the one in use can see none of its sessions."""
    FORGET = "forget"
    """`forget` again: it erases what an interrupted one left, and files that were written before it."""
    COPY = "copy"
    """Another copy of the archive, or a new one."""


class Finding(NamedTuple):
    """Something that is wrong."""

    where: str
    """The file, or the session in the archive."""
    what: str
    """What is wrong with it, without a full stop."""
    remedy: Remedy
    project: str | None = None
    session: str | None = None
    """The session to fetch again; None if it is no single one."""

    @classmethod
    def of_session(
        cls, project: str, session_id: str, what: str, remedy: Remedy, within: str = ""
    ) -> "Finding":
        """A finding about one session, *within* an archive of that name."""
        where = f"{within}, {project}, session {session_id}".removeprefix(", ")
        return cls(where, what.removesuffix("."), remedy, project, session_id)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}."


Refusal = tuple[str, str, Remedy]
"""A project that a repair leaves as it is, why, and what mends that."""


class Checked(msgspec.Struct, kw_only=True):
    """How much was checked so far."""

    files: int = 0
    bytes: int = 0
    sessions: int = 0
    """Sessions of the archive, each compared with its digests."""
    messages: int = 0
    listed: int = 0
    """Sessions that the API listed, each looked up in the archive."""
    asked: int = 0
    """Sessions fetched again from the API and compared."""
    unasked: int = 0
    """Sessions that could not be fetched again, so they were not compared."""


class Report(msgspec.Struct, kw_only=True):
    """What a verification found; it is filled while the verification goes on."""

    findings: list[Finding] = []
    notes: list[str] = []
    """Sentences about what is worth knowing, though not wrong."""
    checked: Checked = msgspec.field(default_factory=Checked)
    repaired: list[str] = []
    """The ids of the sessions that a repair fetched again."""
    has_written: bool = False
    """Whether a repair wrote the files anew."""
    apis: dict[str, str] = {}
    """The API of each project."""
    expected: set[tuple[str, str]] = set()
    """Projects and ids of sessions that are missing or behind, and that the next sync fetches anyway."""
    unfinished: set[tuple[str, str]] = set()
    """Projects and ids of sessions that failed or are pending."""

    @property
    def bad(self) -> set[tuple[str, str]]:
        """Projects and ids of all sessions to fetch again."""
        found = ((each.project, each.session) for each in self.findings)
        return {(project, session) for project, session in found if project and session} | self.expected

    def add(self, left: Iterable[Finding], notes: Iterable[str], refusals: Iterable[Refusal]) -> None:
        """Add what a repair could not do."""
        known = {(each.project, each.session) for each in self.findings}
        self.findings += [each for each in left if (each.project, each.session) not in known]
        self.notes += notes
        for refusal in refusals:
            self.refuse(*refusal)

    def refuse(self, project: str, why: str, remedy: Remedy) -> None:
        """Say why the API cannot be asked about *project*, or repaired from: it is not whole until it is."""
        if all(each.project != project for each in self.findings):
            self.findings.append(Finding(project, why.removesuffix("."), remedy, project))
        elif f"{project}: {why}" not in self.notes:
            self.notes.append(f"{project}: {why}")
        if remedy is Remedy.KEY:
            mended = (Remedy.REPAIR, Remedy.SYNC)
            self.findings = [
                each._replace(remedy=remedy) if each.project == project and each.remedy in mended else each
                for each in self.findings
            ]

    @property
    def is_repairable(self) -> bool:
        """Whether a repair can change anything."""
        return bool(self.bad or self.unfinished) or any(
            e.remedy not in (Remedy.COPY, Remedy.FORGET) for e in self.findings
        )


def some(names: Iterable[str]) -> str:
    """The first few of *names*, and how many more there are."""
    every = list(names)
    more = len(every) - A_FEW
    return "; ".join([*every[:A_FEW], *([f"and {more:,} more"] if more > 0 else [])])
