"""Whether an archive is as the API has it now: fetch a sample of its sessions again, and list all."""

import math
import random
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from navtalk_async.archive import Archive
from navtalk_async.archive.message_diff import diff_messages
from navtalk_async.archive.records import FetchResult, FetchTask, ProjectInfo
from navtalk_async.archive.rows import SessionRow, StoredTranscript, content_hash, format_api_time
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import FanOut, off_the_loop
from navtalk_async.errors import NavTalkError, NotFound, StoreBroken, StoreMismatch, counted
from navtalk_async.ingest import OVERLAP, check_key, earlier
from navtalk_async.ingest.scope import Scope
from navtalk_async.lenient_json import decode_json
from navtalk_async.listing.fetch import fault_scope, fetch_messages
from navtalk_async.models import Message, Session
from navtalk_async.pool import SessionPool, limiter_of
from navtalk_async.verification._report import Finding, Remedy, Report, some
from navtalk_async.wire.gate import Concurrency

GONE = "the API no longer has it"

MANY = 32
"""How many sessions in a row must fail before the server is taken to fail."""


class ApiCheck:
    """Compares a project of *archive* with the API, and counts its sessions that were fetched again."""

    def __init__(
        self, client: Client, archive: Archive, report: Report, about: ProjectInfo, concurrency: Concurrency
    ) -> None:
        self._client = client.using(lane="bulk")
        self._archive, self._report, self._about = archive, report, about
        self._concurrency: Concurrency = concurrency
        self._scope = scope_of(about)
        self._limiter = limiter_of(client, concurrency)
        self._asked = self._gone = self._behind = self._failed_in_a_row = 0
        self._failed: list[str] = []
        self._error: NavTalkError | None = None

    async def run(self, share: float, only: Collection[tuple[str, str]] | None) -> None:
        """Fetch a *share* of the project's sessions again, or *only* some, and compare; then list all
        sessions, to see whether the archive has them.
        """
        about, scope = self._about, self._scope
        self._report.apis[about.project] = about.api
        await self._fetch_again(share, only)
        self._note_result()
        if 0 < self._asked == self._gone:
            try:
                await check_key(self._client, self._archive, about.project, scope, watermark=about.watermark)
            except StoreMismatch as refusal:
                self._report.refuse(about.project, str(refusal), Remedy.KEY)
                return
        if not scope.sessions:
            await self._find_missing()

    async def _fetch_again(self, share: float, only: Collection[tuple[str, str]] | None) -> None:
        project = self._about.project
        counts = await self._archive.counts(project)
        there = counts.sessions - counts.deleted
        ids = None if only is None else {name for owner, name in only if owner == project}
        places = sample_places(there, share) if ids is None else range(there)
        chosen = _chosen(self._archive, project, places, ids)
        async with FanOut(self._compare, chosen, at_once=self._limiter) as compared:
            async for _ in compared:
                pass

    async def _compare(self, kept: StoredTranscript) -> None:
        client, dialect, session_id = self._client, self._client.dialect, kept.session.id
        try:
            session = await client.ask(dialect.get_session(session_id), dialect.read_session)
            first = dialect.list_messages(session_id, **self._scope.of_messages)
            ask = self._limiter.bound(inside(client).page_of_messages)
            fetched = await fetch_messages(client, first, ask=ask)
        except NotFound:
            self._count(kept, [GONE])
        except NavTalkError as error:
            if fault_scope(error) == "run":
                raise
            self._count_failed(kept, error)
        else:
            has_gaps = fetched.skipped > 0
            size = len(kept.messages) + len(fetched.items)
            compare = partial(differences, kept, session, fetched.items, has_gaps=has_gaps)
            self._count(kept, await off_the_loop(size, compare))

    def _count(self, kept: StoredTranscript, what: list[str]) -> None:
        """Count a session that differs from the API's by *what*."""
        project, session_id = self._about.project, str(kept.session.id)
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

    def _count_failed(self, kept: StoredTranscript, error: NavTalkError) -> None:
        """Count a session that could not be fetched; the *error* of too many in a row is raised."""
        self._report.checked.unasked += 1
        self._failed_in_a_row += 1
        self._error = self._error or error
        why = f"{type(error).__name__}: {str(error.args[0]).removesuffix('.')}"
        self._failed.append(f"{kept.session.id} ({why})")
        if self._failed_in_a_row >= MANY:
            raise error

    def _note_result(self) -> None:
        """Add the notes; an error is raised if no session could be fetched."""
        if self._error is not None and not self._asked:
            raise self._error
        every = counted(self._asked + len(self._failed), "session")
        if self._failed:
            self._add_note(f"{len(self._failed):,} of {every} could not be fetched: {some(self._failed)}.")
        if self._behind:
            self._add_note(
                f"{self._behind:,} of {every} may be behind the API: still open, pending or failed, and read "
                "again by the next sync."
            )

    def _add_note(self, sentence: str) -> None:
        self._report.notes.append(f"{self._about.project}: {sentence}")

    async def _find_missing(self) -> None:
        """List all sessions, and report those that the archive lacks; those that the next sync lists as well
        are a note.
        """
        report, scope, project = self._report, self._scope, self._about.project
        dialect, now = self._client.dialect, self._client.now()
        listed, has_status = scope.listed(dialect, now), scope.status_filter(dialect)
        by_time = dialect.starting_at(listed.first_page(dialect), now) is not None
        since = earlier(self._about.watermark, OVERLAP) if by_time else None
        lost: dict[str, None] = {}
        new: dict[str, None] = {}
        pool = SessionPool(self._client, concurrency=self._concurrency)
        async with aclosing(pool.session_pages(order="done", **listed.of_sessions)) as pages:
            async for page in pages:
                report.checked.listed += len(page)
                lacking = set(await self._archive.lacks(project, [each.id for each in page]))
                for session in page:
                    is_wanted = scope.begins_in_time(session) and (has_status is None or has_status(session))
                    if is_wanted and session.id in lacking:
                        (new if is_listed_next(session, since) else lost)[session.id] = None
        if skipped := inside(self._client).skipped() + pool.skipped_rows:
            report.checked.unasked += skipped
            self._add_note(f"{counted(skipped, 'row')} of the API's lists cannot be read (null, or no id).")
        what = "the API lists it, but the archive does not have it"
        report.findings += [Finding.of_session(project, each, what, Remedy.SYNC) for each in lost]
        report.expected |= {(project, each) for each in new}
        if new:
            self._add_note(f"the next sync will fetch {counted(len(new), 'new session')}: {some(new)}.")


def is_listed_next(session: Session, since: str | None) -> bool:
    """Whether a sync that lists what began *since* then, or everything, lists *session*."""
    begin = format_api_time(session.start_time_text)
    return since is None or begin is None or begin >= since


def find_other_origin(client: Client, about: ProjectInfo, server: str | None) -> str | None:
    """Why *about* was not synced by such a client; None if it may have been."""
    if about.api != client.dialect.api:
        return f"The project {about.project!r} is of the API {about.api!r}: ask with its client (api=)."
    asked = server or client.base_url
    if about.server not in (None, asked):
        return (
            f"The project {about.project!r} was synced from {about.server}, not from {asked}. If the server "
            "has moved, confirm it by a sync with server_moved=True."
        )
    before, given = (_as_options(each) for each in (scope_of(about).options, client.dialect.options))
    if before != given:
        return f"The project {about.project!r} was synced with {before}, not with {given}. Use the same."
    return None


def _as_options(options: Mapping[str, str]) -> str:
    given = (f"--{name.replace('_', '-')} {value}" for name, value in sorted(options.items()))
    return " ".join(given) or "the API's defaults"


def scope_of(about: ProjectInfo) -> Scope:
    try:
        return msgspec.json.decode(about.scope, type=Scope)
    except (msgspec.DecodeError, TypeError):
        raise StoreBroken(
            f"The archive is damaged: the filters of {about.project!r} cannot be parsed."
        ) from None


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


def differences(
    kept: StoredTranscript, session: Session, messages: Sequence[Message], *, has_gaps: bool = False
) -> list[str]:
    """How what the API returned differs from what is *kept*; *has_gaps* as in a `FetchResult`."""
    fetched = FetchResult(FetchTask(kept.session.id, None), list(messages), has_gaps=has_gaps)
    diff = diff_messages(kept.session.project, fetched, kept.messages)
    counts = {
        "missing here": diff.counts.inserted,
        "changed at the API": len(diff.edited),
        "gone at the API": len(diff.gone),
    }
    what = ["its session changed at the API"] if has_changed(kept.session, session) else []
    what += [
        f"{count:,} of its messages {'is' if count == 1 else 'are'} {how}"
        for how, count in counts.items()
        if count
    ]
    if not what and [row.id for row in diff.held] != [row.id for row in kept.messages]:
        what.append("its messages are in another order at the API")
    return what


def has_changed(kept: SessionRow, session: Session) -> bool:
    """Whether *session* differs from the one *kept* in a field that both have: the list of all sessions and a
    session's own page need not have the same fields.
    """
    if content_hash(session) == kept.content_hash:
        return False
    before, now = decode_json(kept.raw), decode_json(session.raw)
    return any(before[name] != now[name] for name in before.keys() & now.keys())
