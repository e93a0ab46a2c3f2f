"""Tell on stderr how a run goes on, while it does: a bar, lines, or objects."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import msgspec

from navtalk_async.cli.connection import ProgressMode
from navtalk_async.cli.progress import Glance, Pace, Trouble, glance, line
from navtalk_async.cli.talk import Talk
from navtalk_async.events import Answered, Event, Failed, ListedSerially, ListMoved, Observer, Stats, Waiting
from navtalk_async.ingest import Progress

__all__ = ["Watch", "again_and_again", "counting", "reporting", "waits_told"]

logger = logging.getLogger("navtalk_async")

LINE_SECONDS = 10.0
OBJECT_SECONDS = 1.0

WORTH_TELLING_SECONDS = 1.0
"""A wait that nobody notices needs no explanation."""


class Watch:
    """Keeps an eye on a run; it is the client's `on_event`."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.stats: Callable[[], Stats] = Stats
        self._trouble = Trouble()
        self._pace = Pace()
        self._began = monotonic()

    def __call__(self, event: Event) -> None:
        """Take notice of *event*."""
        self._trouble.heard(event, monotonic())
        log(event)

    def look(self) -> Glance:
        """The run at this moment."""
        now, stats = monotonic(), self.stats()
        return glance(
            self.progress,
            stats,
            seconds=now - self._began,
            pace=self._pace(now, stats.requests),
            trouble=self._trouble.seen(now),
        )


@asynccontextmanager
async def reporting(watch: Watch, talk: Talk, mode: ProgressMode, *, what: str) -> AsyncGenerator[None, None]:
    """An `async with` for doing *what*, in which what *watch* sees of it is told in the way of *mode*."""
    if mode == "bar":
        # Imported here, since only a terminal needs rich.
        from navtalk_async.cli.bar import bar  # noqa: PLC0415

        with bar(watch.look):
            yield
    elif mode == "none":
        yield
    elif mode == "json":
        _tell_all(watch, talk)
        async with again_and_again(OBJECT_SECONDS, lambda: _tell_all(watch, talk)):
            yield
    else:
        talk.say(f"{what}.")
        async with again_and_again(LINE_SECONDS, lambda: talk.say(line(watch.look()))):
            yield


def _tell_all(watch: Watch, talk: Talk) -> None:
    talk.tell("progress", **msgspec.structs.asdict(watch.look()))


@asynccontextmanager
async def again_and_again(
    seconds: float, tell: Callable[[], None], *, at_end: bool = True
) -> AsyncGenerator[None, None]:
    """Call *tell* every so many *seconds*, and *at_end*."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(seconds)
            tell()

    teller = asyncio.create_task(go_on())
    try:
        yield
    finally:
        teller.cancel()
        await asyncio.wait([teller])
        if at_end:
            tell()


@asynccontextmanager
async def counting(
    talk: Talk, mode: ProgressMode, *, what: str, count: Callable[[], dict[str, int]]
) -> AsyncGenerator[None, None]:
    """An `async with` for doing *what*, in which what it *count*s is told now and then: a line, or an object
    for `json`.
    """

    def tell() -> None:
        counts = count()
        if mode == "json":
            talk.tell("progress", **counts)
        else:
            talk.say(", ".join(f"{number:,} {name}" for name, number in counts.items()))

    if mode == "none":
        yield
        return
    if mode != "json":
        talk.say(f"{what}.")
    seconds = OBJECT_SECONDS if mode == "json" else LINE_SECONDS
    async with again_and_again(seconds, tell, at_end=mode == "json"):
        yield


def waits_told(talk: Talk, mode: ProgressMode) -> Observer:
    """An observer that says why a short command takes long."""
    moved: list[ListMoved] = []

    def heard(event: Event) -> None:
        log(event)
        if isinstance(event, ListMoved) and not moved:
            moved.append(event)
            talk.say(moved_sentence(event))
        if isinstance(event, Waiting) and event.seconds >= WORTH_TELLING_SECONDS and mode != "none":
            talk.say(f"waiting {event.seconds:.0f} s: {event.reason}")

    return heard


def moved_sentence(event: ListMoved) -> str:
    """What happened to a list, in a sentence."""
    return f"About the list {event.path}: {event.reason}."


def log(event: Event) -> None:
    """What goes wrong, for `-v`; the client itself logs all events for `-vv`."""
    if logger.isEnabledFor(logging.DEBUG):
        return
    match event:
        case Failed():
            logger.info("%s, attempt %d: %s", event.path, event.attempt, event.error)
        case Waiting():
            logger.info("waiting %.1f s: %s", event.seconds, event.reason)
        case ListedSerially():
            logger.info("listing page by page, because %s", event.reason)
        case ListMoved():
            logger.info("%s: %s", event.path, event.reason)
        case Answered():
            pass
