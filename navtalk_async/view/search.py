"""Search: the messages of an archive that have certain words."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, date, datetime
from unicodedata import normalize

import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.archive.damaged_rows import intact
from navtalk_async.archive.rows import MessageRow, SessionRow
from navtalk_async.archive.sqlite_file import index_of
from navtalk_async.errors import StoreError
from navtalk_async.formats.words import Phrase, Query, located, matches, parse_query, places, words
from navtalk_async.models import Role, format_word
from navtalk_async.privacy import Privacy
from navtalk_async.times import parse_utc
from navtalk_async.view._index import Index, MovedOn, Outdated, SearchCriteria, catch_up, microseconds

__all__ = ["Hit", "search"]

PLACES_AT_ONCE = 200

MOST_TRIES = 10
"""How often an index may change between two looks into it."""

BEFORE, AFTER = 60, 120
"""So many characters of a text are shown around the first of its words that were searched for."""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a search found."""

    project: str
    session_id: str
    title: str | None
    """Of the session."""
    start_time: str | None
    position: int
    """Of the message in its session, from 0."""
    message_id: str
    role: str | int | None
    created_at: str | None
    snippet: str
    """Some of its text (NFC), around the first place that was found; `…` stands for what is left out."""
    marks: list[tuple[int, int]]
    """Where in *snippet* what was found begins and ends."""


def search(
    archive: Archive,
    text: str,
    *,
    project: str | None = None,
    role: str | int | None = None,
    user_id: str | None = None,
    start_time: datetime | date | str | None = None,
    end_time: datetime | date | str | None = None,
    limit: int | None = 20,
    privacy: Privacy | None = None,
) -> AsyncGenerator[Hit, None]:
    """The messages that *text* asks for, those of the sessions that began last first.

        async for hit in search(archive, 'refund AND (card OR "bank transfer") NOT test*'):
            print(hit.session_id, hit.snippet)

    Words are found in any script, whatever their case and diacritics; Chinese, Japanese, Korean and Thai
    words, and emoji, need no spaces around them. The index is kept beside the archive, in
    `archive.search.db`, or in tables of its own in PostgreSQL. It is brought up to date first, and built if
    there is none, or none that can be relied on; the archive itself is not changed. Damaged rows are
    left out.

    Arguments:
        text: words, all of which a message must have; `AND`, `OR`, `NOT`, parentheses, `"phrases"` and
            `prefix*`.
        project: only this project; None, the default, takes all.
        role: only messages of this role.
        user_id: only sessions of this user.
        start_time, end_time: only sessions that began from the one to the other: aware datetimes, dates or
            ISO 8601 (UTC).
        limit: the most messages; None for all.
        privacy: what to remove from the texts before they are searched and shown.

    Raises:
        ValueError: nothing can be found so; before anything is read.
        StoreUnreachable: the index cannot be written.
        StoreError: the archive cannot be read.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text to search for.")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit={limit!r} is not a number of messages of at least 1.")
    wanted = SearchCriteria(
        parse_query(text),
        project,
        None if role is None else str(format_word(Role(role) if isinstance(role, int) else role)),
        user_id,
        _moment("start_time", start_time),
        _moment("end_time", end_time),
    )
    return _hits(archive, wanted, limit, privacy)


async def _hits(
    archive: Archive, wanted: SearchCriteria, limit: int | None, privacy: Privacy | None
) -> AsyncGenerator[Hit, None]:
    cursor, left, tries = None, limit, 0
    seen = set[tuple[str, str, int]]()
    async with await _index_of(archive) as index:
        token = await catch_up(archive, index)
        while left is None or left > 0:
            count = PLACES_AT_ONCE if left is None else min(left, PLACES_AT_ONCE)
            try:
                found = await index.find(wanted, token, cursor, count)
            except (Outdated, MovedOn) as why:
                tries += 1
                if tries > MOST_TRIES:
                    raise StoreError(f"The index of {archive} changes all the time.") from None
                # From the beginning, where a cursor leads elsewhere; what was found before is passed over.
                token, cursor = await catch_up(archive, index, is_broken=isinstance(why, Outdated)), None
                continue
            if not found:
                return
            cursor, tries = found[-1].cursor, 0
            new = [key for key in (each[:3] for each in found) if key not in seen]
            rows = {
                (kept.session.project, kept.session.id, each.position): (kept.session, each)
                for kept in await archive.messages_at(new)
                if intact([kept.session])
                for each in intact(kept.messages)
            }
            for key in new:
                seen.add(key)
                hit = _hit(wanted, privacy, *rows[key]) if key in rows else None
                if hit is not None:
                    yield hit
                    left = None if left is None else left - 1


async def _index_of(archive: Archive) -> Index:
    if archive.path is None:
        from navtalk_async.view._postgres_index import PostgresIndex  # noqa: PLC0415 - one of the two is needed

        return PostgresIndex(archive)
    from navtalk_async.view._sqlite_index import SqliteIndex  # noqa: PLC0415 - as above

    return SqliteIndex(await to_thread.run_sync(index_of, archive.path))


def _moment(name: str, value: datetime | date | str | None) -> int | None:
    if value is None:
        return None
    try:
        moment = parse_utc(value) if isinstance(value, str) else value
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
        if moment.tzinfo is not None:
            return microseconds(moment.timestamp())
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{name}={value!r} is no aware datetime, no date, and no text of one (ISO 8601).")


def _hit(
    wanted: SearchCriteria, privacy: Privacy | None, session: SessionRow, message: MessageRow
) -> Hit | None:
    """What is shown of *message*; None where it is not what is wanted, whatever the index says."""
    text, title = message.content or "", session.title
    if not (wanted.includes(session, message) and matches(wanted.query, list(words(text)))):
        return None
    if privacy is not None:
        # Nobody can ask whether something was removed.
        text, title = privacy.text(text), None if title is None else privacy.text(title)
        if not matches(wanted.query, list(words(text))):
            return None
    snippet, marks = _snippet(wanted.query, text)
    return Hit(
        project=session.project,
        session_id=session.id,
        title=title,
        start_time=session.start_time,
        position=message.position,
        message_id=message.id,
        role=message.role,
        created_at=message.created_at,
        snippet=snippet,
        marks=marks,
    )


def _snippet(query: Query, text: str) -> tuple[str, list[tuple[int, int]]]:
    text = normalize("NFC", text)
    found = list(located(text))
    text_words = [word for word, _, _ in found]
    marks = sorted(
        (found[at][1], found[at + len(phrase.words) - 1][2])
        for phrase in _phrases(query)
        for at in places(phrase, text_words)
    )
    begin = max(0, marks[0][0] - BEFORE) if marks else 0
    end = marks[0][1] + AFTER if marks else BEFORE + AFTER
    # Whole words, where they are not too long.
    begin = next((start for _, start, _ in found if start >= begin), begin) if begin else 0
    end = next((stop for _, _, stop in reversed(found) if stop <= end), end) if end < len(text) else len(text)
    ahead = "…" if begin else ""
    shift = len(ahead) - begin
    shown = [(start + shift, stop + shift) for start, stop in _merged(marks) if stop <= end]
    return f"{ahead}{text[begin:end]}{'…' if end < len(text) else ''}", shown


def _merged(marks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in marks:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _phrases(query: Query) -> list[Phrase]:
    """Those of which a text that is found has some."""
    if isinstance(query, Phrase):
        return [query]
    parts: Sequence[Query] = query.parts
    return [phrase for each in parts for phrase in _phrases(each)]
