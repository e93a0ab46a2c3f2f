"""The sessions of a store that may be handed on: those that are as they were saved."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from anyio import to_thread

from navtalk_async.archive.rows import StoredTranscript
from navtalk_async.archive.store import Reader
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreBroken
from navtalk_async.soundness import damage

__all__ = ["Intact"]

A_FEW = 3
"""How many flaws of a session are named."""


class Intact:
    """The sessions of *project* in *reader* that are as they were saved; the others are left out, as are
    those that are known to be *damaged*, with a reason each.

    Attributes:
        damaged: what is wrong with the sessions that are left out, by their ids.
        seen: how many sessions were read.
        sessions, messages: how many of them are intact.
    """

    def __init__(self, reader: Reader, project: str, dialect: Dialect, damaged: Mapping[str, str]) -> None:
        self.damaged = dict(damaged)
        self._last: str | None = None
        self.seen = self.sessions = self.messages = 0
        self._reader, self._project, self._dialect = reader, project, dialect

    async def blocks(self) -> AsyncGenerator[list[StoredTranscript], None]:
        """Some sessions at a time, in the order of `Reader.transcripts`.

        Raises:
            StoreBroken: a session is there twice.
        """
        self.seen = self.sessions = self.messages = 0
        self._last = None
        async with aclosing(self._reader.transcripts(self._project)) as blocks:
            async for block in blocks:
                # In another thread, as all that takes long.
                intact = await to_thread.run_sync(self._sift, block)
                self.seen += len(block)
                self.sessions += len(intact)
                self.messages += sum(len(each.messages) for each in intact)
                yield intact

    def _sift(self, block: Sequence[StoredTranscript]) -> list[StoredTranscript]:
        intact = []
        for kept in block:
            # A damaged index hides a session from who writes it again.
            if kept.session.id == self._last:
                raise StoreBroken(f"An index of the archive is damaged: session {self._last} is there twice.")
            self._last = kept.session.id
            if flaws := damage(kept, self._dialect):
                gone = [] if kept.session.deleted_at is None else ["the API no longer has it"]
                self.damaged[str(kept.session.id)] = "; ".join([*flaws[:A_FEW], *gone])
            elif kept.session.id not in self.damaged:
                intact.append(kept)
        return intact
