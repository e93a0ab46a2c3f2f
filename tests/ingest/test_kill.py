"""`kill -9` at any moment: nothing lost, nothing doubled, nothing finished asked for again."""

import asyncio
import json
import logging
import os
import random
import signal
from collections import Counter

import pytest
from archive_contents import assert_finished
from command_runs import command_runner, settled
from postgres_box import new_schema

from navtalk_async.sandbox import Answers, Sandbox, World

LOG = logging.getLogger(__name__)
CONCURRENCY = 8
BARE = Answers(cursor_on_last_page=False)
AT_ONCE = 16


async def begin_export(box, commands, folder):
    return await commands.begin(
        *("export", folder, "--format", "jsonl", "--progress", "none"),
        *("--base-url", box.url, "--concurrency", CONCURRENCY),
        env={"NAVTALK_API_KEY": "k"},
    )


async def killed_after(box, commands, folder, requests):
    """Kill an export as soon as *requests* more have arrived; False if it ended before."""
    killed = await killed_at(box, await begin_export(box, commands, folder), requests)
    await settled(box)
    return killed


async def finished(box, commands, folder):
    run = await begin_export(box, commands, folder)
    assert await run.ended() == 0, run.err
    return lines_of(folder)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "transcripts.jsonl").read_bytes().splitlines()]


def assert_everything_once(lines, world):
    assert [line["id"] for line in lines] == [session["id"] for session in world.sessions]
    for line in lines:
        wanted = [(each["id"], each["content"]) for each in world.messages(line["id"])]
        assert [(each["id"], each["content"]) for each in line["messages"]] == wanted


def asked_again(box):
    """The sessions whose messages were asked for after they had been given, and that were final."""
    going_on = {session["id"] for session in box.world.sessions if session["status"] == 0}
    return {each for each, times in box.counts.messages_by_session.items() if times > 1} - going_on


@pytest.mark.parametrize("requests", [1, 3, 60, 170, 245])
async def test_an_export_killed_at_any_request_is_finished_by_the_same_command(tmp_path, requests):
    async with (
        Sandbox(World(250, messages=3), answers=BARE) as box,
        command_runner() as commands,
    ):
        assert await killed_after(box, commands, tmp_path, requests)
        assert_everything_once(await finished(box, commands, tmp_path), box.world)
        assert len(asked_again(box)) <= 2 * CONCURRENCY


async def test_an_export_killed_again_and_again_loses_nothing_and_never_starts_over(tmp_path):
    dice = random.Random(7)
    kills = 0
    async with (
        Sandbox(World(250, messages=3), answers=BARE) as box,
        command_runner() as commands,
    ):
        while kills < 8 and await killed_after(box, commands, tmp_path, dice.randint(1, 60)):
            kills += 1
        assert_everything_once(await finished(box, commands, tmp_path), box.world)
        assert kills >= 4
        assert len(asked_again(box)) <= kills * 2 * CONCURRENCY


async def test_a_finished_export_run_again_asks_only_for_the_overlap(tmp_path):
    async with (
        Sandbox(World(250, messages=3), answers=BARE) as box,
        command_runner() as commands,
    ):
        first = await finished(box, commands, tmp_path)
        box.counts.reset()
        assert await finished(box, commands, tmp_path) == first
        going_on = {session["id"] for session in box.world.sessions if session["status"] == 0}
        assert set(box.counts.messages_by_session) == going_on
        assert box.counts.by_kind["sessions"] + box.counts.by_kind["session"] <= 4 + len(going_on)


async def killed_at(box, run, requests, turns=0):
    """Kill *run* when *requests* more have arrived, and so many turns later; False if it ended before."""
    arrival = asyncio.create_task(box.arrived(box.counts.total + requests))
    ended = asyncio.create_task(run.ended())
    await asyncio.wait([arrival, ended], return_when=asyncio.FIRST_COMPLETED)
    for _ in range(turns):
        await asyncio.sleep(0)
    arrival.cancel()
    if not ended.done():
        os.kill(run.pid, signal.SIGKILL)
    return await ended == -signal.SIGKILL


class Job:
    """One export or sync of *box*, killed again and again until it is finished."""

    def __init__(self, box, commands, command, where):
        self.box = box
        self.commands = commands
        self.command = command, where
        self.kills = self.pages = 0
        self._asked_in = {}
        self._again = Counter()

    @property
    def again(self):
        """How many sessions were asked for again, of all that a kill interrupted."""
        return self._again.total()

    async def begin(self):
        return await self.commands.begin(
            *(*self.command, "--progress", "none", "--base-url", self.box.url),
            *("--concurrency", AT_ONCE),
            env={"NAVTALK_API_KEY": "k"},
        )

    def assert_little_was_asked_again(self):
        """Of what each kill interrupted, and was asked for again, there is no more than ran at once, and as
        much that waited for its commit.

        Sessions that go on are read in every round, and the kill may have come when one had just ended.
        """
        going_on = {session["id"] for session in self.box.world.sessions if session["status"] == 0}
        for each in self.box.counts.messages_by_session.keys() - going_on:
            if each in self._asked_in:
                self._again[self._asked_in[each]] += 1
            self._asked_in[each] = self.kills
        self.pages += self.box.counts.by_kind["sessions"]
        self.box.counts.reset()
        assert max(self._again.values(), default=0) <= 2 * AT_ONCE

    async def kill(self, dice):
        """Run it until it is killed; False if it came to its end."""
        if not await killed_at(self.box, await self.begin(), dice.randint(1, 50), dice.randrange(200)):
            return False
        await settled(self.box)
        self.assert_little_was_asked_again()
        self.kills += 1
        return True

    async def finish(self):
        run = await self.begin()
        assert await run.ended() == 0, run.err
        self.assert_little_was_asked_again()
        # Every page of the listing once, and after a kill those that were under way.
        assert self.pages <= 21 + self.kills * AT_ONCE


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_hundred_kills_of_large_exports_lose_nothing_and_double_nothing(tmp_path):
    dice = random.Random(23)
    kills = exports = 0
    async with command_runner() as commands:
        while kills < 100:
            answers = Answers(cursor_on_last_page=exports % 2 == 1)
            async with Sandbox(World(2000, seed=exports, mean_messages=4), answers=answers) as box:
                folder = tmp_path / str(exports)
                export = Job(box, commands, "export", folder)
                while export.kills < 50 and await export.kill(dice):
                    pass
                await export.finish()
                await assert_finished(folder / "archive.db", box.world)
                assert_everything_once(lines_of(folder), box.world)
            exports += 1
            kills += export.kills
    assert exports >= 2


@pytest.mark.timeout(200)
async def test_twenty_kills_of_large_syncs_into_postgresql_lose_nothing_and_double_nothing(postgres):
    dice = random.Random(29)
    kills = 0
    async with command_runner() as commands:
        while kills < 20:
            async with Sandbox(World(2000, seed=kills, mean_messages=4)) as box:
                job = Job(box, commands, "sync", place := await new_schema(postgres))
                while kills + job.kills < 20 and await job.kill(dice):
                    pass
                await job.finish()
                await assert_finished(place, box.world)
            kills += job.kills
    LOG.info("%s kills, %s sessions asked for again", kills, job.again)


async def test_two_workers_on_one_database_exclude_each_other_until_one_is_killed(postgres):
    place = await new_schema(postgres)
    async with (
        Sandbox(World(20, messages=3)) as box,
        command_runner() as commands,
        command_runner() as others,
    ):
        # The first one has the right to write before it asks for anything.
        box.hold()
        first = await Job(box, commands, "sync", place).begin()
        await box.arrived(1)
        second = await Job(box, others, "sync", place).begin()
        assert await second.ended() == 11
        assert "Another run is writing to" in second.err
        assert box.counts.total == 1
        os.kill(first.pid, signal.SIGKILL)
        assert await first.ended() == -signal.SIGKILL
        box.release()
        third = await Job(box, others, "sync", place).begin()
        assert await third.ended() == 0, third.err
        await assert_finished(place, box.world)
