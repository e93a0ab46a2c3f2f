"""Which of a session's messages are new, changed or gone, compared with those that are kept."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from navtalk_async.archive.records import FetchResult, MessageCounts
from navtalk_async.archive.rows import MessageRow, format_api_time, message_rows
from navtalk_async.models import Message

__all__ = ["MessageDiff", "deduplicate", "diff_messages", "split_repeats"]


class MessageDiff(NamedTuple):
    """What is to be written of a session's messages."""

    put: Sequence[MessageRow] = ()
    """New or changed messages."""
    gone: Sequence[MessageRow] = ()
    """Messages that the API no longer has."""
    edited: Sequence[MessageRow] = ()
    """The earlier rows of changed messages, but for messages that only moved."""
    moved: Sequence[MessageRow] = ()
    """The earlier rows of those."""
    held: Sequence[MessageRow] = ()
    """Every message that the session has then, in order."""
    reached: int = 0
    """The position behind the last message that was fetched."""
    counts: MessageCounts = MessageCounts()


def split_repeats(finished: Iterable[FetchResult]) -> list[list[FetchResult]]:
    """*finished* as lists in which no session is twice, to be kept one after the other: a reading is judged
    by what the one before it left.
    """
    lists: list[list[FetchResult]] = []
    times: Counter[str] = Counter()
    for each in finished:
        if times[each.wanted.id] == len(lists):
            lists.append([])
        lists[times[each.wanted.id]].append(each)
        times[each.wanted.id] += 1
    return lists


def diff_messages(project: str, fetched: FetchResult, kept: Sequence[MessageRow]) -> MessageDiff:
    """What *fetched* changes in a session of which *kept* is kept, in order."""
    said = _those_since(fetched.wanted.since, deduplicate(fetched.messages))
    ids = {message.id for message in said} if kept else set[str]()
    stays = [row for row in _unasked(fetched, kept) if row.id not in ids]
    came = message_rows(project, fetched.wanted.id, len(stays), said)
    reached = len(stays) + len(came)
    # What was kept of behind a page that is taken for the last one was not asked for.
    behind = [row for row in kept[reached:] if row.id not in ids] if fetched.unfollowed is not None else []
    held = [*stays, *came, *behind]
    if fetched.has_gaps:
        there = {row.id for row in held}
        for row in (row for row in kept if row.id not in there):
            held.insert(row.position, row)
    if len(stays) == len(kept):
        return MessageDiff(came, held=held, reached=reached, counts=MessageCounts(inserted=len(came)))
    return _changes(kept, held, {row.id for row in came}, reached)


def deduplicate(messages: Sequence[Message]) -> list[Message]:
    """*messages*, each once and with an id of its own.

    What came twice is one message. What is another and yet has the same id, where the API does not promise
    that ids are its own, gets the number of its turn behind it, as in `id#2`.
    """
    once = {message.id: message for message in messages}
    if len(once) == len(messages) or messages[0].ids_are_unique:
        return list(once.values())
    distinct: list[Message] = []
    turns: dict[str, list[bytes]] = {}
    for message in messages:
        others = turns.setdefault(message.id, [])
        if message.raw not in others:
            others.append(message.raw)
            number = f"#{len(others)}" if len(others) > 1 else ""
            distinct.append(msgspec.structs.replace(message, id=message.id + number))
    return distinct


def _changes(
    kept: Sequence[MessageRow], held: Sequence[MessageRow], came: Collection[str], reached: int
) -> MessageDiff:
    """What is to be written where *held* takes the place of *kept*, some of which just *came*."""
    old = {row.id: row for row in kept}
    placed = [row._replace(position=place) for place, row in enumerate(held)]
    put = [row for row in placed if old.get(row.id) != row]
    new = sum(row.id not in old for row in placed)
    changed = sum(row.id in came for row in put) - new
    left = {row.id for row in held}
    gone = [row for row in kept if row.id not in left]
    edited, moved = list[MessageRow](), list[MessageRow]()
    for row in put:
        before = old.get(row.id)
        if before is not None:
            (moved if before._replace(position=row.position) == row else edited).append(before)
    counts = MessageCounts(new, changed, len(came) - new - changed, len(gone))
    return MessageDiff(put, gone, edited, moved, placed, reached, counts)


def _unasked(fetched: FetchResult, kept: Sequence[MessageRow]) -> Iterable[MessageRow]:
    """The messages of *kept* that the fetch left out on purpose: they are not deleted."""
    if fetched.first:
        return kept[: fetched.first]
    since = fetched.wanted.since
    if since is None:
        return ()
    # One without a time may or may not be among those since a moment.
    return (row for row in kept if row.created_at is None or not _is_since(since, row.created_at))


def _those_since(moment: str | None, messages: Iterable[Message]) -> list[Message]:
    """*messages* without those before *moment*, which a server may give all the same."""
    if moment is None:
        return list(messages)
    return [
        each
        for each in messages
        if (said := format_api_time(each.created_at_text)) is None or _is_since(moment, said)
    ]


def _is_since(moment: str, said: str) -> bool:
    # Without its Z, a moment comes before its own fractions too.
    return said >= moment.removesuffix("Z")
