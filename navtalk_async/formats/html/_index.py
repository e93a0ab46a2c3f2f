"""The words of all messages, each with its places, sorted; in flat memory.

The places of words are numbered through all messages, with one place left free behind each message, so that
no phrase reaches from one into the next.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from heapq import merge
from itertools import groupby
from operator import itemgetter, sub
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self, TypeAlias

import msgspec

from navtalk_async.formats.words import words

A_RUN = 1 << 21
"""Words that are sorted in memory: some 50 MB."""

A_SHARD = 1 << 17
"""Bytes of a file of words."""

Entry: TypeAlias = tuple[str, int, int, str]
"""A word, its first and its last place, and how far each other place is behind the one before."""


class SearchIndex:
    """A `with` that takes texts, and returns their words. Its own files are in *folder*, without names, and
    hold so many words *a_run*.
    """

    def __init__(self, folder: Path, a_run: int = A_RUN) -> None:
        self._folder, self._a_run, self._stack = folder, a_run, ExitStack()
        self._runs: list[IO[bytes]] = []
        self._next = self._flushed = 0
        self._places: defaultdict[str, array[int]] = defaultdict(partial(array, "Q"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, text: str) -> int:
        """Add the text of the next message; returns how many words it has."""
        places, found = self._places, words(text)
        for place, word in enumerate(found, self._next):
            places[word].append(place)
        self._next += len(found) + 1
        if self._next - self._flushed > self._a_run:
            self._flush()
        return len(found)

    def shards(self) -> Iterator[list[str]]:
        """Words and their places in turn, in the order of their code points; some at a time."""
        self._flush()
        shard, size = list[str](), 0
        entries = merge(*map(_entries, self._runs), key=itemgetter(0))
        for word, parts in groupby(entries, key=itemgetter(0)):
            text = _joined(parts)
            shard += [word, text]
            size += len(word) + len(text)
            if size >= A_SHARD:
                yield shard
                shard, size = [], 0
        if shard:
            yield shard

    def _flush(self) -> None:
        run = self._stack.enter_context(TemporaryFile(dir=self._folder))  # noqa: SIM115
        encode = msgspec.json.Encoder().encode
        for word, places in sorted(self._places.items(), key=itemgetter(0)):
            steps = encode(list(map(sub, places[1:], places)))[1:-1].decode()
            run.write(encode((word, places[0], places[-1], steps)) + b"\n")
        self._runs.append(run)
        self._flushed = self._next
        self._places.clear()


def _entries(run: IO[bytes]) -> Iterator[Entry]:
    run.seek(0)
    return map(msgspec.json.Decoder(Entry).decode, run)


def _joined(parts: Iterator[Entry]) -> str:
    before, said = 0, list[str]()
    for _, first, last, steps in parts:
        said += [str(first - before), steps] if steps else [str(first - before)]
        before = last
    return ",".join(said)
