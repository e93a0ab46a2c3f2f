"""What came of a run: for programs as one object, for people as a few sentences."""

from collections.abc import Sequence

import msgspec

from navtalk_async.archive.records import ProjectCounts
from navtalk_async.cli.talk import counted
from navtalk_async.formats import Failure, WrittenFile
from navtalk_async.ingest import RunReport

__all__ = ["FAILURES_TOLD", "Kept", "Summary", "sentences"]

FAILURES_TOLD = 5


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive holds of the project."""

    sessions: int
    messages: int
    pending: int
    failed: Sequence[Failure]
    unread: int
    """Sessions whose last page was short, and was taken for the last one in spite of its cursor."""
    watched: int
    """Sessions that are read again in every run, until they are final and have settled."""
    deleted: int
    """Sessions that the API no longer has."""

    @classmethod
    def of(cls, counts: ProjectCounts, failed: Sequence[Failure]) -> "Kept":
        """What these figures of a store say."""
        return cls(
            sessions=counts.sessions,
            messages=counts.messages,
            pending=counts.pending,
            failed=failed,
            unread=counts.unread,
            watched=counts.watched,
            deleted=counts.deleted,
        )


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints at the end."""

    command: str
    exit_code: int
    complete: bool
    """Whether every session that was listed is kept, with all its messages."""
    project: str
    store: str
    run: RunReport
    kept: Kept | None = None
    """None where an error ended the run."""
    folder: str | None = None
    files: Sequence[WrittenFile] = ()
    error: str | None = None


def sentences(summary: Summary) -> list[str]:
    """*summary* for people, a paragraph each."""
    run, kept = summary.run, summary.kept
    if kept is None:
        return []
    gone = f", {run.vanished:,} gone" if run.vanished else ""
    news = f"{run.inserted:,} new, {run.changed:,} changed, {run.same:,} same{gone}"
    held = f"{counted(kept.sessions, 'session')} with {counted(kept.messages, 'message')}"
    told = [f"{held} are in {summary.store} ({news})."]
    told += [
        f"{summary.folder}/{each.name}: {counted(each.rows, 'row')}, {size(each.bytes)}."
        for each in summary.files
    ]
    if summary.files:
        told.append("Wrote manifest.json (checksums of every file).")
    told.append(
        f"{counted(run.messages, 'message')} of {counted(run.done, 'session')} fetched with "
        f"{counted(run.requests, 'request')}, {counted(run.retries, 'retry', 'retries')}, "
        f"in {run.seconds:.1f} s."
    )
    if run.fallback:
        told.append(f"Sessions were listed page by page, because {run.fallback}.")
    if run.moved:
        told.append(run.moved)
    return told + short_page_sentences(run, kept) + failed_sentences(kept.failed)


def short_page_sentences(run: RunReport, kept: Kept) -> list[str]:
    """What an audit of short pages came to, and what it has left alone so far."""
    told = []
    if run.short_pages_disproved:
        told.append("Messages came after a short page: so all short pages are followed.")
    elif run.short_pages_followed:
        told.append(
            f"{counted(run.short_pages_followed, 'short page')} followed, and nothing came after any of them."
        )
    if kept.unread:
        told.append(
            f"The short last page of {counted(kept.unread, 'session')} was taken for the last one; "
            "--short-pages follow makes sure."
        )
    return told


def failed_sentences(failed: Sequence[Failure]) -> list[str]:
    """Which sessions are missing, and what to do about it."""
    if not failed:
        return []
    told = [f"Session {each.id} failed: {each.reason}" for each in failed[:FAILURES_TOLD]]
    damaged = sum(each.damaged for each in failed)
    more = len(failed) - FAILURES_TOLD
    if more > 0:
        told.append(f"So did {more:,} more; --json lists them all.")
    if damaged:
        are = "is" if damaged == 1 else "are"
        told.append(
            f"{counted(damaged, 'session')} could not be fetched again, and {are} left out of the files."
        )
    if len(failed) > damaged:
        told.append(
            f"The messages of {counted(len(failed) - damaged, 'session')} are missing; "
            "the same command with --retry-failed tries them again."
        )
    return told


def size(count: float) -> str:
    """*count* bytes, readably."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
