"""`kill -9` of a sync and of who consumes its changes: the copy equals the archive, whenever they die."""

import asyncio
import logging
import os
import signal
from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from changes import CHANGES, Change, Clock, apply_change
from command_runs import command_runner, settled
from feed_consumer import anew, stored
from feed_copies import assert_same, copy_of
from profiles import examples

from navtalk_async.archive import Archive
from navtalk_async.sandbox import Answers, Faults, Sandbox, World

LOG = logging.getLogger(__name__)
KILLS = min(examples(25), 100)
"""On each database."""

FAULTS = Faults.parse("500=0.02,429=0.02,cut=0.02,reset=0.02")
WRITING = ("record listing", "save messages", "mark deleted", "begin", "finish")
READING = ("acknowledge", "register consumer")
STEPS = ("before write", "after write", "before commit", "after commit")
OF_WRITER = [f"{name}: {step}" for name in WRITING for step in STEPS]
OF_READER = [f"{name}: {step}" for name in READING for step in STEPS]
OF_READER += ["copy: before commit", "copy: after commit"]


class Pair:
    """A writer and a reader, a process each or both in one, killed again and again."""

    def __init__(self, box, place, copy, writers, readers):
        self.box, self.place, self.copy = box, place, copy
        self.writers, self.readers = writers, readers
        self.dice, self.clock = Random(14), Clock()
        self.died = Counter()

    async def write(self, end=None, *more):
        arguments = ("sync", self.place, "--progress", "none", "--base-url", self.box.url)
        env = {"NAVTALK_API_KEY": "k"}
        return await self.writers.begin(*arguments, "--concurrency", 4, *more, env=env, end=end)

    async def read(self, how="drain", end=None):
        more = [self.box.navtalk_url] if how == "sync" else []
        return await self.readers.begin(how, self.place, self.copy, *more, env={}, end=end)

    def live(self, how_often=6):
        """Some days pass."""
        for _ in range(how_often):
            self.clock.on(hours=self.dice.randrange(1, 24))
            kind = self.dice.choice([*CHANGES, "begin", "say", "correct"])
            if kind != "remove" or len(self.box.world.sessions) > 10:
                apply_change(self.box.world, self.clock, Change(0, kind, self.dice.randrange(1000)))

    async def kill(self, run, what, *, at_once=False):
        """Kill *run* after a while, if it lives so long."""
        more = 0 if at_once else self.dice.randint(1, 30)
        arrival = asyncio.create_task(self.box.arrived(self.box.counts.total + more))
        ended = asyncio.create_task(run.ended())
        await asyncio.wait([arrival, ended], return_when=asyncio.FIRST_COMPLETED)
        for _ in range(self.dice.randrange(200)):
            await asyncio.sleep(0)
        arrival.cancel()
        with suppress(ProcessLookupError):
            if not ended.done():
                os.kill(run.pid, signal.SIGKILL)
        await ended
        await self.note(run, what)

    async def note(self, run, what):
        code = await run.ended()
        assert code in (0, 3, -signal.SIGKILL), (what, run.err)
        self.died[what] += code < 0

    async def at_random(self, _):
        """Both are killed while they run beside each other, each at a moment of its own."""
        reader = await self.read("follow")
        await self.kill(await self.write(), "the writer")
        for _ in range(self.dice.randrange(2000)):
            await asyncio.sleep(0)
        await self.kill(reader, "the reader", at_once=True)

    def end(self, places):
        """One of *places* at which nobody has died yet, if there is one, and at which arrival there."""
        left = [each for each in places if not self.died[each]] or places
        return [self.dice.choice(left), self.dice.randint(1, 2)]

    async def at_failpoints(self, number):
        """The one dies at a place of its own, and then the other."""
        options = ("--reconcile",) if number % 2 else ()
        end = self.end(OF_WRITER)
        await self.note(await self.write(end, *options), end[0])
        end = self.end(OF_READER)
        if end[0].startswith("register"):
            end[1] = 1
            await self.forget()
        await self.note(await self.read(end=end), end[0])

    async def forget(self):
        """The consumer is to begin anew, and every batch to come again."""
        anew(self.copy)
        async with Archive.open(self.place, read_only=True) as store:
            for each in await store.consumers():
                await store.drop_consumer(each.name)

    async def in_one(self, _):
        """They run in one process, which dies at a place of either."""
        end = self.end(OF_WRITER + OF_READER)
        await self.note(await self.read("sync", end), end[0])


@pytest.mark.timeout(600)
async def test_a_copy_equals_the_archive_whenever_writer_and_consumer_are_killed(new_place, tmp_path):
    place, copy = await new_place(), tmp_path / "copy.db"
    answers = Answers(max_page=12, cursor_on_last_page=False)
    async with (
        Sandbox(World(40, messages=lambda number: number % 16), answers=answers) as box,
        command_runner() as writers,
        command_runner("feed_consumer:run") as readers,
    ):
        pair = Pair(box, place, copy, writers, readers)
        box.clock = pair.clock
        run = await pair.write(["begin: after commit", 1])
        assert await run.ended() == -signal.SIGKILL
        box.faults, number = FAULTS, 0
        while pair.died.total() < KILLS:
            pair.live()
            for play in (pair.at_random, pair.at_failpoints, pair.in_one):
                await play(number)
                await settled(box)
            number += 1
        box.faults = Faults()
        run = await pair.write(None, "--reconcile", "--retry-failed")
        assert await run.ended() == 0, run.err
        run = await pair.read()
        assert await run.ended() == 0, run.err
    async with Archive.open(place, read_only=True) as store:
        archive = copy_of([each async for each in store.transcripts()])
        assert await store.pending() == []
        [consumer] = await store.consumers()
    ours, batches, again = stored(copy)
    LOG.warning("%s in %s rounds: %s", pair.died.total(), number, dict(pair.died))
    LOG.warning(
        "%s batches, %s again; %s sessions, %s messages",
        *(batches, again, len(ours.sessions), len(ours.messages)),
    )
    assert_same(ours, archive)
    assert consumer.behind == 0
    assert again <= pair.died.total()
    assert KILLS < 100 or all(pair.died[each] for each in OF_WRITER + OF_READER)
