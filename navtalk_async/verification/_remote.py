"""Whether an archive is as the API has it now: fetch a sample of its sessions again, and list all."""

import math
import random
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec

from navtalk_async.archive import Archive
from navtalk_async.archive.message_diff import deduplicate
from navtalk_async.archive.records import ProjectInfo
from navtalk_async.archive.rows import (
    SessionRow,
    StoredTranscript,
    content_hash,
    format_api_time,
    message_row,
)
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import FanOut
from navtalk_async.errors import NavTalkError, NotFound, StoreBroken, StoreMismatch, counted
from navtalk_async.ingest.key_check import check_key
from navtalk_async.ingest.reread_rules import OVERLAP, earlier
from navtalk_async.ingest.scope import Scope
from navtalk_async.listing.fetch import fault_scope, fetch_messages
from navtalk_async.models import Message, Session
from navtalk_async.pool import SessionPool, limiter_of
from navtalk_async.verification._report import Finding, Remedy, Report, some
from navtalk_async.wire.gate import Concurrency

GONE = "the API no longer has it"

MANY = 32
"""How many sessions in a row must fail before the server is taken to fail."""


class ApiCheck(NamedTuple):
    """Compares projects of *archive* with the API."""

    client: Client
    archive: Archive
    report: Report
    concurrency: Concurrency
    server: str | None

    async def compare(
        self, about: ProjectInfo, share: float, only: Collection[tuple[str, str]] | None
    ) -> None:
        """Fetch a *share* of a project's sessions again, or *only* some, and compare; then list all sessions,
        to see whether the archive has them.
        """
        self.report.apis[about.project] = about.api
        refuse_others(self.client, about, self.server)
        ids = None if only is None else {name for owner, name in only if owner == about.project}
        tally, scope = ApiFindings(about.project, self.report), scope_of(about)
        await self._fetch_again(about, scope.of_messages, tally, share=share, only=ids)
        tally.finish()
        if tally.is_all_gone:
            try:
                await check_key(self.client, self.archive, about.project, scope, watermark=about.watermark)
            except StoreMismatch as refusal:
                self.report.refuse(about.project, str(refusal), Remedy.KEY)
                return
        if not scope.sessions:
            await self._find_missing(about, scope)

    async def _fetch_again(
        self,
        about: ProjectInfo,
        filters: dict[str, Any],
        tally: "ApiFindings",
        *,
        share: float,
        only: Collection[str] | None,
    ) -> None:
        counts = await self.archive.counts(about.project)
        there = counts.sessions - counts.deleted
        places = sample_places(there, share) if only is None else range(there)
        asking, limiter = self.client.using(lane="bulk"), limiter_of(self.client, self.concurrency)
        list_messages, dialect = limiter.bound(inside(asking).page_of_messages), self.client.dialect

        async def fetch(kept: StoredTranscript) -> None:
            session_id = kept.session.id
            try:
                session = await asking.ask(dialect.get_session(session_id), dialect.read_session)
                first = dialect.list_messages(session_id, **filters)
                messages = (await fetch_messages(asking, first, ask=list_messages)).items
            except NotFound:
                tally.add(kept, [GONE])
            except NavTalkError as error:
                if fault_scope(error) == "run":
                    raise
                tally.add_failed(kept, error)
            else:
                tally.add(kept, differences(kept, session, messages))

        chosen = _chosen(self.archive, about.project, places, only)
        async with FanOut(fetch, chosen, at_once=limiter) as fetched:
            async for _ in fetched:
                pass

    async def _find_missing(self, about: ProjectInfo, scope: Scope) -> None:
        """List all sessions, and report those that the archive lacks; those that the next sync lists as well
        are a note.
        """
        report, dialect, now = self.report, self.client.dialect, self.client.now()
        listed, has_status = scope.listed(dialect, now), scope.status_filter(dialect)
        by_time = dialect.starting_at(listed.first_page(dialect), now) is not None
        since = earlier(about.watermark, OVERLAP) if by_time else None
        lost: dict[str, None] = {}
        new: dict[str, None] = {}
        pool = SessionPool(self.client.using(lane="bulk"), concurrency=self.concurrency)
        async with aclosing(pool.session_pages(order="done", **listed.of_sessions)) as pages:
            async for page in pages:
                report.checked.listed += len(page)
                lacking = set(await self.archive.lacks(about.project, [each.id for each in page]))
                for session in page:
                    is_wanted = scope.begins_in_time(session) and (has_status is None or has_status(session))
                    if is_wanted and session.id in lacking:
                        (new if is_listed_next(session, since) else lost)[session.id] = None
        what = "the API lists it, but the archive does not have it"
        report.findings += [Finding.of_session(about.project, each, what, Remedy.SYNC) for each in lost]
        report.expected |= {(about.project, each) for each in new}
        if new:
            report.notes.append(
                f"{about.project}: the next sync will fetch {counted(len(new), 'new session')}: {some(new)}."
            )


def is_listed_next(session: Session, since: str | None) -> bool:
    """Whether a sync that lists what began *since* then, or everything, lists *session*."""
    begin = format_api_time(session.start_time_text)
    return since is None or begin is None or begin >= since


def refuse_others(client: Client, about: ProjectInfo, server: str | None) -> None:
    if about.api != client.dialect.api:
        raise StoreMismatch(f"The project {about.project!r} is of the API {about.api!r}; give --api.")
    asked = server or client.base_url
    if about.server not in (None, asked):
        raise StoreMismatch(
            f"The project {about.project!r} was synced from {about.server}, not from {asked}. If the server "
            "has moved, confirm it by `navtalk sync` with --server-moved."
        )


def scope_of(about: ProjectInfo) -> Scope:
    try:
        return msgspec.json.decode(about.scope, type=Scope)
    except (msgspec.DecodeError, TypeError):
        raise StoreBroken(
            f"The archive is damaged: the filters of {about.project!r} cannot be parsed."
        ) from None


class ApiFindings:
    """Counts and reports the sessions of *project* that were fetched again."""

    def __init__(self, project: str, report: Report) -> None:
        self._project, self._report = project, report
        self._asked = self._gone = self._behind = self._failed_in_a_row = 0
        self._failed: list[str] = []
        self._error: NavTalkError | None = None

    @property
    def is_all_gone(self) -> bool:
        return 0 < self._asked == self._gone

    def add(self, kept: StoredTranscript, what: list[str]) -> None:
        """Count a session that differs from the API's by *what*."""
        project, session_id = self._project, str(kept.session.id)
        self._asked += 1
        self._failed_in_a_row = 0
        self._report.checked.asked += 1
        self._gone += what == [GONE]
        if what and kept.due_for_reread:
            self._behind += 1
            self._report.expected.add((project, session_id))
        else:
            self._report.findings += [
                Finding.of_session(project, session_id, f"stale: {each}", Remedy.SYNC) for each in what
            ]

    def add_failed(self, kept: StoredTranscript, error: NavTalkError) -> None:
        """Count a session that could not be fetched; the *error* of too many in a row is raised."""
        self._report.checked.unasked += 1
        self._failed_in_a_row += 1
        self._error = self._error or error
        why = f"{type(error).__name__}: {str(error.args[0]).removesuffix('.')}"
        self._failed.append(f"{kept.session.id} ({why})")
        if self._failed_in_a_row >= MANY:
            raise error

    def finish(self) -> None:
        """Add the notes; an error is raised if no session could be fetched."""
        if self._error is not None and not self._asked:
            raise self._error
        every = counted(self._asked + len(self._failed), "session")
        if self._failed:
            self._note(f"{len(self._failed):,} of {every} could not be fetched: {some(self._failed)}.")
        if self._behind:
            self._note(
                f"{self._behind:,} of {every} may be behind the API: still open, pending or failed, and read "
                "again by the next sync."
            )

    def _note(self, sentence: str) -> None:
        self._report.notes.append(f"{self._project}: {sentence}")


def sample_places(count: int, share: float) -> range | set[int]:
    """Which of *count* sessions to fetch: a random *share* of them, at least one."""
    wanted = max(1, math.ceil(count * share))
    return range(count) if wanted >= count else set(random.sample(range(count), wanted))


async def _chosen(
    archive: Archive, project: str, places: range | set[int], only: Collection[str] | None
) -> AsyncGenerator[Sequence[StoredTranscript], None]:
    """The sessions at *places*, not counting deleted ones, and among *only* those ids."""
    number = 0
    async with aclosing(archive.transcript_batches(project)) as batches:
        async for batch in batches:
            there = [each for each in batch if each.session.deleted_at is None]
            yield [
                each
                for place, each in enumerate(there, number)
                if place in places and (only is None or each.session.id in only)
            ]
            number += len(there)


def differences(kept: StoredTranscript, session: Session, messages: Sequence[Message]) -> list[str]:
    """How what the API returned differs from what is *kept*."""
    what = ["its session changed at the API"] if has_changed(kept.session, session) else []
    there = {
        message.id: message_row(kept.session.project, kept.session.id, position, message)
        for position, message in enumerate(deduplicate(messages))
    }
    here = {row.id: row for row in kept.messages}
    missing = len(there.keys() - here.keys())
    gone = len(here.keys() - there.keys())
    both = there.keys() & here.keys()
    changed = sum(there[each]._replace(position=here[each].position) != here[each] for each in both)
    for count, how in ((missing, "missing here"), (changed, "changed at the API"), (gone, "gone at the API")):
        if count:
            what.append(f"{count:,} of its messages {'is' if count == 1 else 'are'} {how}")
    if not what and list(there) != list(here):
        what.append("its messages are in another order at the API")
    return what


def has_changed(kept: SessionRow, session: Session) -> bool:
    """Whether *session* differs from the one *kept* in a field that both have: the list of all sessions and a
    session's own page need not have the same fields.
    """
    if content_hash(session) == kept.content_hash:
        return False
    before, now = msgspec.json.decode(kept.raw), msgspec.json.decode(session.raw)
    return any(before[name] != now[name] for name in before.keys() & now.keys())
