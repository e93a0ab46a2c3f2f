"""Whether sessions in an archive are as the API has them now: a sample of them is asked for again."""

import math
import random
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from navtalk_async.archive import Archive
from navtalk_async.archive.message_diff import deduplicate
from navtalk_async.archive.records import ProjectInfo
from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript, content_hash, message_row
from navtalk_async.client import Client
from navtalk_async.concurrency import FanOut
from navtalk_async.errors import NavTalkError, NotFound, StoreBroken, StoreMismatch
from navtalk_async.ingest import Scope
from navtalk_async.ingest.fetch import is_of_the_run
from navtalk_async.models import Message, Session
from navtalk_async.paging import whole
from navtalk_async.pool import limiter_of
from navtalk_async.verification.report import Finding, Remedy, Report, some
from navtalk_async.wire.limits import Concurrency

__all__ = ["ask_again", "differences", "has_changed", "places_of", "refuse_others", "scope_of"]

MANY = 32
"""How many sessions in a row must be impossible to have before it is the server that fails."""


class Asked(NamedTuple):
    """A session of the archive, and how it differs from what the API gives."""

    kept: StoredTranscript
    what: list[str]
    is_gone: bool = False
    error: NavTalkError | None = None
    """Why it could not be had."""


class Unasked:
    """Those sessions of *project* that could not be had."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._count = 0
        self.in_a_row = 0
        self._named: list[str] = []
        self._first: NavTalkError | None = None

    def add(self, session_id: str, error: NavTalkError) -> None:
        """Another one, by an *error*, which is raised where there were too many in a row."""
        self._count += 1
        self.in_a_row += 1
        self._first = self._first or error
        why = f"{type(error).__name__}: {str(error.args[0]).removesuffix('.')}"
        self._named.append(f"{session_id} ({why})")
        if self.in_a_row >= MANY:
            raise error

    def notes(self, asked: int) -> list[str]:
        """What there is to say of them, beside so many that were *asked*.

        Raises:
            NavTalkError: none could be had.
        """
        if self._first is None:
            return []
        if not asked:
            raise self._first
        share = f"{self._count:,} of {asked + self._count:,} sessions"
        return [
            f"{self._project}: {share} could not be asked for, and are not compared: {some(self._named)}."
        ]


async def ask_again(
    client: Client,
    reader: Archive,
    about: ProjectInfo,
    report: Report,
    *,
    percent: float,
    only: Collection[str] | None = None,
    concurrency: Concurrency = "auto",
) -> bool:
    """Ask for a random sample of the sessions of a project again, and compare; see `verify_remote`.

    False where the API has none of them.
    """
    counts = await reader.counts(about.project)
    there = counts.sessions - counts.deleted
    places = places_of(there, percent) if only is None else range(there)
    filters = scope_of(about).of_messages
    asking, width = client.using(lane="bulk"), limiter_of(client, concurrency)
    dialect = client.dialect
    list_messages = width.bound(asking.page_of_messages)

    async def ask(kept: StoredTranscript) -> Asked:
        session_id = kept.session.id
        try:
            session = await asking.ask(dialect.get_session(session_id), dialect.read_session)
            messages = await whole(list_messages, dialect.list_messages(session_id, **filters), client.moved)
        except NotFound:
            return Asked(kept, ["gone: the API no longer has it"], is_gone=True)
        except NavTalkError as error:
            if is_of_the_run(error):
                raise
            return Asked(kept, [], error=error)
        return Asked(kept, differences(kept, session, messages))

    gone = late = asked = 0
    unasked = Unasked(about.project)
    fan = FanOut(ask, sample(reader, about.project, places, only), at_once=width)
    async with fan as answers:
        async for answer in answers:
            if answer.error is not None:
                report.checked.unasked += 1
                unasked.add(answer.kept.session.id, answer.error)
                continue
            asked += 1
            unasked.in_a_row = 0
            report.checked.asked += 1
            gone += answer.is_gone
            late += _is_late(answer, about.project, report)
    report.notes += unasked.notes(asked)
    if late:
        report.notes.append(
            f"{about.project}: {late:,} of {asked:,} sessions asked for are behind the API, as may be: "
            "they are watched, pending or failed, and the next sync reads them again."
        )
    if asked and gone == asked:
        report.notes.append(
            f"{about.project}: the API has none of the sessions asked for; the key may be another project's."
        )
    return not (asked and gone == asked)


def _is_late(answer: Asked, project: str, report: Report) -> bool:
    """Whether a session is behind the API, and nobody expects otherwise; if one is that should not be, it is
    added to *report*.
    """
    session_id = answer.kept.session.id
    if not answer.what or not answer.kept.is_due:
        where = f"{project}, session {session_id}"
        report.found(
            Finding(where, f"stale: {each}", Remedy.SYNC, project, session_id) for each in answer.what
        )
        return False
    report.expected.add((project, session_id))
    return True


def refuse_others(client: Client, about: ProjectInfo, server: str | None) -> None:
    """Refuse to ask *client* for sessions of another API or server; see `sync` for *server*.

    Raises:
        StoreMismatch: it is another one.
    """
    if about.api != client.dialect.api:
        raise StoreMismatch(f"The project {about.project!r} is of the API {about.api!r}; give --api.")
    asked = server or client.base_url
    if about.server not in (None, asked):
        raise StoreMismatch(
            f"The project {about.project!r} was synced from {about.server}, and not from {asked}. If the "
            "same server has moved, `navtalk sync` with --server-moved confirms it."
        )


def scope_of(about: ProjectInfo) -> Scope:
    """The filters of a project.

    Raises:
        StoreBroken: they cannot be read.
    """
    try:
        return msgspec.json.decode(about.scope, type=Scope)
    except (msgspec.DecodeError, TypeError):
        raise StoreBroken(f"The archive is damaged: the filters of {about.project!r} are none.") from None


def places_of(count: int, percent: float) -> range | set[int]:
    """Which of *count* sessions to ask for: so many *percent* of them, at random, at least one."""
    wanted = max(1, math.ceil(count * percent / 100))
    return range(count) if wanted >= count else set(random.sample(range(count), wanted))


async def sample(
    reader: Archive, project: str, places: range | set[int], only: Collection[str] | None = None
) -> AsyncGenerator[Sequence[StoredTranscript], None]:
    """The sessions of *project* at *places*, counted without those that are known to be gone; and of them,
    if ids are given, *only* these.
    """
    number = 0
    async with aclosing(reader.transcript_batches(project)) as blocks:
        async for block in blocks:
            there = [each for each in block if each.session.deleted_at is None]
            yield [
                each
                for place, each in enumerate(there, number)
                if place in places and (only is None or each.session.id in only)
            ]
            number += len(there)


def differences(kept: StoredTranscript, session: Session, messages: Sequence[Message]) -> list[str]:
    """How what the API gives differs from what is *kept*, in sentences without a subject."""
    told = []
    if has_changed(kept.session, session):
        told.append("its session changed at the API")
    there = {
        message.id: message_row(kept.session.project, kept.session.id, position, message)
        for position, message in enumerate(deduplicate(messages))
    }
    here = {row.id: row for row in kept.messages}
    missing = len(there.keys() - here.keys())
    extra = len(here.keys() - there.keys())
    changed = sum(
        _without_place(row) != _without_place(here[each]) for each, row in there.items() if each in here
    )
    for count, what in ((missing, "missing here"), (changed, "changed at the API"), (extra, "gone there")):
        if count:
            told.append(f"{count:,} of its messages {'is' if count == 1 else 'are'} {what}")
    if not told and list(there) != list(here):
        told.append("its messages are in another order at the API")
    return told


def has_changed(kept: SessionRow, session: Session) -> bool:
    """Whether *session* is another than the one that is *kept*, by what both of them tell: the list of all
    sessions and a session's own page need not tell the same.
    """
    if content_hash(session) == kept.content_hash:
        return False
    before, now = msgspec.json.decode(kept.raw), msgspec.json.decode(session.raw)
    return any(before[name] != now[name] for name in before.keys() & now.keys())


def _without_place(row: MessageRow) -> MessageRow:
    return row._replace(position=0)
