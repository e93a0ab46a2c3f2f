"""What changed in an archive since a place in its change feed, and what its messages were at an earlier one.

Every commit has a number, and a session is in the feed once, under that of its latest change: so the feed is
never longer than the archive. Each version of a message has the commit that wrote it and the commit that
replaced it. A reader that has read up to a commit knows the versions that existed after that commit.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby, islice
from typing import Any, Literal, NamedTuple

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._codec import Codec
from navtalk_async.archive._database import Query, Steps
from navtalk_async.archive._forget import digest_of
from navtalk_async.archive._runs import read_columns
from navtalk_async.archive._tokens import Token, refuse_others
from navtalk_async.archive.damaged_rows import checked
from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript
from navtalk_async.errors import StoreMismatch

SESSION_WIDTH, MESSAGE_WIDTH = len(SessionRow._fields), len(MessageRow._fields)
ID_OF_ITS_SESSION = MessageRow._fields.index("session_id")

MESSAGES_A_BATCH = 20_000
"""A batch ends when its new sessions have so many messages, or with the first session."""

A_FEW = 64
"""So many messages a session are read sooner from the commits that wrote them than from the session."""

PROGRESS: type[tuple[int, int, int, int, int, bool]] = tuple[int, int, int, int, int, bool]
"""The columns of an `Entry` behind those of its session."""

What = Literal["new", "changed", "deleted", "forgotten"]


class Change(NamedTuple):
    """What happened to a session since the reader's token."""

    what: What
    """`deleted` where the API no longer has it; what was kept of it stays in the archive. `forgotten` where
    nothing of it stays, and nothing of it may stay with a reader either; other readers ignore it."""
    session: SessionRow
    """Of a forgotten one, only *project* and, when it was forgotten, *deleted_at* are told; *id* is the
    SHA-256 of `ARCHIVE:PROJECT:ID`, with the id of the archive (`salt`): see `is_of`."""
    new: list[MessageRow]
    """Messages that the reader does not have, in order; of a `new` session, all of them."""
    changed: list[MessageRow]
    """Messages that were edited, or have another position."""
    gone: list[MessageRow]
    """Messages that the API no longer has, as they were kept last; also those that came and went since."""
    has_failed: bool
    """Whether its messages could not be fetched: these are those that were kept before, if any."""
    place: Token

    @property
    def token(self) -> str:
        """To go on behind this change: see `Archive.changes`."""
        return self.place.text()

    @property
    def salt(self) -> str:
        """The id of the archive, with which ids of forgotten sessions are hashed."""
        return self.place.archive

    def is_of(self, session_id: str) -> bool:
        """Whether it is of this session of its project, also where that was forgotten."""
        if self.what != "forgotten":
            return session_id == self.session.id
        return self.session.id == digest_of(self.salt, self.session.project, session_id)


class EarlierMessage(NamedTuple):
    """An earlier version of a message."""

    message: MessageRow
    reason: Literal["edited", "deleted"]
    replaced_at: str
    """When the archive learned of it, in ISO 8601."""


class Version(NamedTuple):
    """A version of a message that was replaced in the commit *change*; without a row, it was only moved."""

    session_id: str
    id: str
    position: int
    since: int
    change: int
    row: MessageRow | None = None

    def was_there(self, commit: int) -> bool:
        """Whether it existed after *commit*."""
        return self.since <= commit < self.change


class Entry(NamedTuple):
    """A session in the feed."""

    session: SessionRow
    held_id: str
    change: int
    before: int
    entered: int
    returned: int
    messages: int
    """How many it has."""
    has_failed: bool
    is_forgotten: bool = False

    @property
    def place(self) -> tuple[int, str, str]:
        return self.change, self.session.project, self.held_id

    @property
    def key(self) -> tuple[str, str]:
        return self.session.project, self.session.id

    def is_known(self, base: int) -> bool:
        """Whether a reader up to the commit *base* has the session. It may have dropped one that was gone."""
        return self.entered <= base and self.returned <= base


def read_start(where: object, token: Token | None, project: str | None = None) -> Steps[Token]:
    """*token*, or where it is None, the beginning of the feed of one *project* or all; refused where it is of
    another archive.
    """
    [(archive, latest)] = yield Query(sql.LATEST)
    if token is None:
        return Token.after(archive or "", "", project, 0)
    if token.scope not in (None, project):
        raise StoreMismatch(f"The token is of one project alone: pass project={token.scope!r} with it.")
    epochs = yield Query(sql.EPOCHS, (token.commit, token.commit))
    refuse_others(token, archive or "", _epoch_of(token.commit, epochs), latest, where)
    return token


def read_end(project: str | None = None) -> Steps[Token]:
    """The end of the feed of one *project*, or of all."""
    [(archive, latest)] = yield Query(sql.LATEST)
    epochs = yield Query(sql.EPOCHS, (latest, latest))
    return Token.after(archive or "", _epoch_of(latest, epochs), project, latest)


def _epoch_of(commit: int, epochs: Sequence[Sequence[Any]]) -> str:
    """The last of *epochs* that began by *commit*."""
    return next((name for change, name in reversed(epochs) if change <= commit), "")


def read_changes(
    codec: Codec, token: Token, project: str | None, limit: int
) -> Steps[tuple[list[Change], Token]]:
    """At most *limit* changes behind *token*, and where they end."""
    end = yield from read_end(project)
    rows = yield Query(*sql.of_project(sql.CHANGED, token.place, project, limit + 1))
    gone = yield Query(*sql.of_project(sql.FORGOTTEN, token.place, project, limit + 1))
    found = [*_entries(codec, rows), *map(_forgotten_entry, gone)]
    found.sort(key=lambda each: each.place)
    entries = _fitting(found[:limit], token.base)
    if not entries:
        return [], end
    parts = yield from _read_parts(codec, entries, token.base)
    epochs = yield Query(sql.EPOCHS, (entries[-1].change, entries[0].change))
    tokens = [
        Token(
            *(token.archive, _epoch_of(each.change, epochs), project, token.base),
            *(each.change, each.session.project, each.held_id),
        )
        for each in entries
    ]
    if len(found) == len(entries):
        tokens = [*tokens[:-1], end]
    changes = [
        change_of(each, token.base, *parts[each.key], place=place)
        for each, place in zip(entries, tokens, strict=True)
    ]
    return changes, tokens[-1]


def _fitting(entries: Sequence[Entry], base: int) -> Sequence[Entry]:
    """The first of *entries*, as many as fit into memory: whole sessions may be large."""
    whole = accumulate(0 if each.is_known(base) else each.messages for each in entries)
    return entries[: 1 + sum(count <= MESSAGES_A_BATCH for count in islice(whole, 1, None))]


def change_of(
    entry: Entry, base: int, messages: Sequence[MessageRow], versions: Sequence[Version], *, place: Token
) -> Change:
    """What happened to the session of *entry* since the commit *base*, if *messages* were written since, and
    *versions* were replaced.
    """
    session, is_known = entry.session, entry.is_known(base)
    what: What = "deleted" if session.deleted_at is not None else "changed" if is_known else "new"
    if entry.is_forgotten:
        what = "forgotten"
    known = {each.id for each in versions if each.was_there(base)}
    there = {row.id for row in messages}
    last = {each.id: each.row for each in versions if each.row is not None}
    return Change(
        what,
        session,
        new=[row for row in messages if not is_known or row.id not in known],
        changed=[row for row in messages if is_known and row.id in known],
        # A reader that stopped before it kept its token may have stored what came and went since.
        gone=[row for name, row in last.items() if name not in there],
        has_failed=entry.has_failed,
        place=place,
    )


def messages_as_of(
    commit: int, messages: Iterable[tuple[MessageRow, int]], versions: Iterable[Version]
) -> list[MessageRow]:
    """The messages of a session after *commit*, in order: of *messages*, each with the commit that wrote it,
    and of all *versions* that were replaced.
    """
    found = {row.id: row for row, change in messages if change <= commit}
    texts = {row.id: row for row, _ in messages}
    # Those that were replaced last come first: what was only moved has the text of the version behind it.
    for each in sorted(versions, key=lambda each: each.change, reverse=True):
        if each.change <= commit:
            continue
        text = texts[each.id] if each.row is None else each.row
        texts[each.id] = text
        found.pop(each.id, None)
        if each.was_there(commit):
            found[each.id] = text._replace(position=each.position)
    return sorted(found.values(), key=lambda row: row.position)


def read_as_of(codec: Codec, project: str, held_id: str, commit: int) -> Steps[StoredTranscript | None]:
    """A session, with its messages as they were after *commit*; None where it was not kept by then."""
    rows = yield Query(sql.ENTRY, (project, held_id))
    if not rows:
        return None
    [entry] = _entries(codec, rows)
    rows = yield Query(sql.MESSAGES_WITH_CHANGE, (project, [held_id]))
    messages = [(row, each[-1]) for row, each in zip(_messages(codec, rows), rows, strict=True)]
    versions = yield from _read_versions(codec, project, [held_id], commit)
    there = messages_as_of(commit, messages, versions)
    return StoredTranscript(entry.session, there) if there or entry.entered <= commit else None


def read_history(codec: Codec, project: str, held_id: str) -> Steps[list[EarlierMessage]]:
    """Every earlier version of a session's messages, by when it was replaced, and by position."""
    rows = yield Query(sql.HISTORY, (project, held_id))
    return [
        EarlierMessage(row, *columns[MESSAGE_WIDTH:])
        for row, columns in zip(_messages(codec, rows), rows, strict=True)
    ]


Parts = dict[tuple[str, str], tuple[list[MessageRow], list[Version]]]


def _read_parts(codec: Codec, entries: Sequence[Entry], base: int) -> Steps[Parts]:
    """Of each session: the messages that were written since *base*, in order, and the versions replaced."""
    parts: Parts = {each.key: ([], []) for each in entries}
    kept = (each for each in entries if not each.is_forgotten)
    for project, group in groupby(sorted(kept, key=_project_of), key=_project_of):
        some = list(group)
        new = [each.held_id for each in some if not each.is_known(base)]
        rows = yield Query(sql.MESSAGES, (project, new))
        rows += yield from _messages_since(project, [each for each in some if each.is_known(base)], base)
        for message in _messages(codec, rows):
            parts[project, message.session_id][0].append(message)
        # What changed once has no earlier versions.
        held_ids = [each.held_id for each in some if each.before]
        for version in (yield from _read_versions(codec, project, held_ids, base)):
            parts[project, version.session_id][1].append(version)
    return parts


def _messages_since(project: str, entries: Sequence[Entry], base: int) -> Steps[list[Any]]:
    """The rows of messages in known sessions that were written since *base*; where possible, without reading
    the sessions as a whole.
    """
    ids = {each.held_id for each in entries}
    often = [each.held_id for each in entries if each.before > base]
    if often:
        span = (base, max(each.change for each in entries))
        [(count,)] = yield Query(sql.COUNT_OF_COMMITS, (*span, A_FEW * len(ids)))
        if count < A_FEW * len(ids):
            found = yield Query(sql.MESSAGES_OF_SPAN, (*span, [*ids]))
            return [row for row in found if row[0] == project]
    rows = yield Query(sql.MESSAGES_SINCE, (project, base, often))
    # What changed once changed in its latest commit.
    once = {each.held_id: each.change for each in entries if each.before <= base}
    found = yield Query(sql.MESSAGES_OF_COMMITS, ([*set(once.values())],))
    return rows + [row for row in found if row[0] == project and once.get(row[ID_OF_ITS_SESSION]) == row[-1]]


def _read_versions(codec: Codec, project: str, held_ids: Sequence[str], base: int) -> Steps[list[Version]]:
    """The versions of messages that were replaced after *base*."""
    rows = yield Query(sql.VERSIONS, (project, base, [*held_ids]))
    moves = yield Query(sql.MOVES, (project, base, [*held_ids]))
    read_id = codec.read_id
    return [
        Version(row.session_id, row.id, row.position, since, change, row)
        for row, (*_, since, change) in zip(_messages(codec, rows), rows, strict=True)
    ] + [Version(read_id(session_id), read_id(name), *more) for session_id, name, *more in moves]


def _project_of(entry: Entry) -> str:
    return entry.session.project


def _entries(codec: Codec, rows: Sequence[Sequence[Any]]) -> list[Entry]:
    held = [SessionRow(*row[:SESSION_WIDTH]) for row in rows]
    sessions = map(checked, codec.read_rows(held))
    return [
        Entry(
            session,
            row[sql.ID_OF_SESSION],
            *read_columns(row[SESSION_WIDTH:], PROGRESS),
        )
        for session, row in zip(sessions, rows, strict=True)
    ]


def _forgotten_entry(row: Sequence[Any]) -> Entry:
    project, digest, forgotten_at, change = row
    session = SessionRow._make((project, digest, "", *[None] * 7, *[""] * 4, forgotten_at))
    return Entry(session, digest, change, 0, 0, 0, 0, has_failed=False, is_forgotten=True)


def _messages(codec: Codec, rows: Iterable[Sequence[Any]]) -> list[MessageRow]:
    held = [MessageRow(*row[:MESSAGE_WIDTH]) for row in rows]
    return list(map(checked, codec.read_rows(held)))
