"""`kill -9` at any moment: nothing lost, nothing doubled, nothing finished asked for again."""

import asyncio
import json
import os
import random
import sys

import pytest

from navtalk_async.sandbox import Answers, Sandbox, World

CONCURRENCY = 8


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
        final = {session["id"] for session in box.world.sessions if session["status"] != 0}
        assert not final & set(box.counts.messages_by_session)
        assert box.counts.by_kind["sessions"] + box.counts.session_gets <= 4
