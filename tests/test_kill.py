"""`kill -9` at any moment: nothing lost, nothing doubled, nothing finished asked for again."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter

import pytest
from forks import forking
from truth import assert_finished

from navtalk_async.sandbox import Answers, Sandbox, World

CONCURRENCY = 8
AT_ONCE = 16


async def begin_export(box, folder):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "navtalk_async.cli", "export", str(folder), "--format", "jsonl"),
        *("--base-url", box.url, "--concurrency", str(CONCURRENCY), "--progress", "none"),
        env={**os.environ, "NAVTALK_API_KEY": "k"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def killed_after(box, folder, requests):
    """Kill an export as soon as *requests* more have arrived; False if it ended before."""
    process = await begin_export(box, folder)
    arrival = asyncio.create_task(box.arrived(box.counts.total + requests))
    ended = asyncio.create_task(process.communicate())
    await asyncio.wait([arrival, ended], return_when=asyncio.FIRST_COMPLETED)
    killed = not ended.done()
    arrival.cancel()
    if killed:
        process.kill()
    await ended
    return killed


async def finished(box, folder):
    process = await begin_export(box, folder)
    _, talk = await process.communicate()
    assert process.returncode == 0, talk.decode()
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
    async with Sandbox(World(250, messages=3), answers=Answers(cursor_on_last_page=False)) as box:
        assert await killed_after(box, tmp_path, requests)
        assert_everything_once(await finished(box, tmp_path), box.world)
        assert len(asked_again(box)) <= CONCURRENCY


async def test_an_export_killed_again_and_again_loses_nothing_and_never_starts_over(tmp_path):
    dice = random.Random(7)
    kills = 0
    async with Sandbox(World(250, messages=3), answers=Answers(cursor_on_last_page=False)) as box:
        while kills < 8 and await killed_after(box, tmp_path, dice.randint(1, 60)):
            kills += 1
        assert_everything_once(await finished(box, tmp_path), box.world)
        assert kills >= 4
        assert len(asked_again(box)) <= kills * CONCURRENCY


async def test_a_finished_export_run_again_asks_only_for_the_overlap(tmp_path):
    async with Sandbox(World(250, messages=3), answers=Answers(cursor_on_last_page=False)) as box:
        first = await finished(box, tmp_path)
        box.counts.reset()
        assert await finished(box, tmp_path) == first
        going_on = {session["id"] for session in box.world.sessions if session["status"] == 0}
        assert set(box.counts.messages_by_session) == going_on
        assert box.counts.by_kind["sessions"] + box.counts.session_gets <= 4 + len(going_on)


async def killed_at(box, run, requests, dice):
    """Kill *run* when *requests* more have arrived, at once or a moment later; False if it ended before."""
    arrival = asyncio.create_task(box.arrived(box.counts.total + requests))
    ended = asyncio.create_task(run.ended())
    await asyncio.wait([arrival, ended], return_when=asyncio.FIRST_COMPLETED)
    for _ in range(dice.randrange(200)):
        await asyncio.sleep(0)
    arrival.cancel()
    if not ended.done():
        os.kill(run.pid, signal.SIGKILL)
    return await ended == -signal.SIGKILL


async def settled(box):
    """Until the server has read all that a dead process had sent, and seen its connections closed."""
    while box._door.connections or box.counts.in_flight:  # noqa: ASYNC110 - nothing tells us of it
        await asyncio.sleep(0)


class Export:
    """One export of *box*, killed again and again until it is finished."""

    def __init__(self, box, forks, folder):
        self.box = box
        self.forks = forks
        self.folder = folder
        self.kills = self.pages = 0
        self._asked_in = {}
        self._again = Counter()

    async def begin(self):
        return await self.forks.begin(
            *("export", self.folder, "--progress", "none", "--base-url", self.box.url),
            *("--concurrency", AT_ONCE),
            env={"NAVTALK_API_KEY": "k"},
        )

    def assert_little_was_asked_again(self):
        """Of what each kill interrupted, and was asked for again, there is no more than ran at once.

        Sessions that go on are read in every round, and the kill may have come when one had just ended.
        """
        going_on = {session["id"] for session in self.box.world.sessions if session["status"] == 0}
        for each in self.box.counts.messages_by_session.keys() - going_on:
            if each in self._asked_in:
                self._again[self._asked_in[each]] += 1
            self._asked_in[each] = self.kills
        self.pages += self.box.counts.by_kind["sessions"]
        self.box.counts.reset()
        assert max(self._again.values(), default=0) <= AT_ONCE

    async def kill(self, dice):
        """Run it until it is killed; False if it came to its end."""
        if not await killed_at(self.box, await self.begin(), dice.randint(1, 50), dice):
            return False
        await settled(self.box)
        self.assert_little_was_asked_again()
        self.kills += 1
        return True

    async def finish(self):
        run = await self.begin()
        assert await run.ended() == 0, run.err
        self.assert_little_was_asked_again()
        await assert_finished(self.folder / "archive.db", self.box.world)
        lines = [json.loads(line) for line in (self.folder / "transcripts.jsonl").read_bytes().splitlines()]
        assert_everything_once(lines, self.box.world)


@pytest.mark.timeout(400)
async def test_a_hundred_kills_of_large_exports_lose_nothing_and_double_nothing(tmp_path):
    # Other processes are watched here, and the server is to be no slower than they are.
    asyncio.get_running_loop().set_debug(False)
    dice = random.Random(23)
    kills = exports = 0
    async with forking() as forks:
        while kills < 100:
            answers = Answers(cursor_on_last_page=exports % 2 == 1)
            async with Sandbox(World(2000, seed=exports, mean_messages=4), answers=answers) as box:
                export = Export(box, forks, tmp_path / str(exports))
                while export.kills < 50 and await export.kill(dice):
                    pass
                await export.finish()
                # Every page of the listing once, and after a kill those that were under way.
                assert export.pages <= 21 + export.kills * AT_ONCE
            exports += 1
            kills += export.kills
    assert exports >= 2
