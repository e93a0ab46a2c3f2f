"""A process that dies anywhere between two steps to the disk, and the same command again."""

import asyncio
import copy
import logging
import shutil
from collections import Counter
from dataclasses import dataclass, field

import pytest
from forks import forking
from truth import assert_finished, opened

from navtalk_async.sandbox import Answers, Sandbox, World

LOG = logging.getLogger(__name__)
CONCURRENCY = 4
KILLED = -9

ANSWERS = Answers(max_page=12, cursor_on_last_page=False)
"""Pages so short that a small world takes several of them, and many a session more than one."""

STORES = ["archive.db"]
"""The stores to be killed at, as `navtalk sync` is given them; a path is one in the test's own folder."""


@dataclass
class Scene:
    """What there is when the run begins that will be killed."""

    world: World
    arguments: tuple = ()
    failing: str = ""
    """A session whose messages cannot be had."""
    is_done: bool = True
    """Whether everything is had in the end."""
    reread: set = field(default_factory=set)
    """Sessions that are watched, which every round may read again."""


def a_world(**options):
    return World(40, messages=lambda number: number % 16, **options)


def going_on(world):
    return {session["id"] for session in world.sessions if session["status"] == 0}


async def at_first(_sync):
    return Scene(world := a_world(), reread=going_on(world))


async def after_changes(sync):
    """A later run, with something of every sort to find."""
    world = a_world()
    gone, talks, ends = (world.add_session() for _ in range(3))
    for each in (gone, talks, ends):
        for number in range(14):
            world.add_message(each["id"], f"said {number}")
    await sync(world)
    world.remove_session(gone["id"])
    world.change_session(ends["id"], status=2, videoUrl="https://example.org/video")
    world.change_session(talks["id"], title="again")
    for said in world.messages(talks["id"])[:3]:
        world.remove_message(talks["id"], said["id"])
    for number in range(30):
        new = world.add_session(start_time=ends["startTime"])
        for said in range(number % 16):
            world.add_message(new["id"], f"new {said}")
    return Scene(world, reread=going_on(world) | {ends["id"], talks["id"]})


async def with_a_session_that_fails(_sync):
    world = a_world()
    return Scene(world, failing=world.sessions[7]["id"], is_done=False, reread=going_on(world))


async def trying_again_what_failed(sync):
    world = a_world()
    await sync(world, failing=world.sessions[7]["id"])
    return Scene(world, arguments=("--retry-failed",), reread=going_on(world))


async def with_messages_behind_short_pages(_sync):
    world = a_world()
    return Scene(world, arguments=("--short-pages", "audit"), reread={s["id"] for s in world.sessions})


PHASES = [
    at_first,
    after_changes,
    with_a_session_that_fails,
    trying_again_what_failed,
    with_messages_behind_short_pages,
]


class Stage:
    """Where one phase is played again and again, each time with the same archive and the same world."""

    def __init__(self, box, forks, folder, address):
        self.box = box
        self.forks = forks
        self.folder = folder
        self.is_url = "://" in address
        self.address = address if self.is_url else folder / "run" / address
        self.before = folder / "before"
        self.left = Counter()

    def command(self, scene):
        """What is killed, and run again: with files, where the archive is one."""
        where = ("sync", self.address) if self.is_url else ("export", self.address.parent)
        return (
            *(*where, "--progress", "none", "--base-url", self.box.url),
            *("--concurrency", CONCURRENCY, *scene.arguments),
        )

    async def play(self, scene, **options):
        self.box.world = copy.deepcopy(scene.world)
        self.box._script.clear()
        if scene.failing:
            self.box.fail_next("400", times=10_000, path=f"messages?sessionId={scene.failing}")
        self.box.counts.reset()
        env = {"NAVTALK_API_KEY": "k"}
        run = await self.forks.run(*self.command(scene), env=env, **options)
        while self.box._door.connections or self.box.counts.in_flight:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0)
        return run, Counter(self.box.counts.messages_by_session), self.box.counts.by_kind["sessions"]

    async def sync(self, world, *, failing=""):
        """A run that comes to its end."""
        run, _, _ = await self.play(Scene(world, failing=failing))
        assert run.code == (3 if failing else 0), run.err

    def rewind(self):
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        if self.before.exists():
            shutil.copytree(self.before, self.folder / "run")

    def keep(self):
        if (self.folder / "run").exists():
            shutil.copytree(self.folder / "run", self.before)

    async def look(self):
        """Note what the kill left behind, without touching it."""
        if self.is_url:
            return
        copied = self.folder / "copied"
        shutil.rmtree(copied, ignore_errors=True)
        if self.address.parent.exists():
            shutil.copytree(self.address.parent, copied)
        self.left["a file half written"] += any(copied.glob("*.partial"))
        log = copied / f"{self.address.name}-wal"
        self.left["a log to play back"] += log.exists() and log.stat().st_size > 0
        if not (copied / self.address.name).exists():
            return
        async with opened(copied / self.address.name) as store:
            self.left["sessions pending"] += bool((await store.counts("default")).pending)
            self.left["a round left open"] += any(each.round for each in await store.projects())


def moments(arrivals):
    """The failpoints and arrivals to die at: the first, one in the middle and the last of each."""
    counts = Counter(arrivals)
    return [[name, number] for name, last in counts.items() for number in sorted({1, (last + 1) // 2, last})]


async def assert_recovers(stage, scene, end, pages):
    """Die at *end*, and run the same command again: everything is there, and little was asked for twice."""
    stage.rewind()
    killed, before, pages_before = await stage.play(scene, end=end)
    # Commits are as large as chance will have it, so the last of many may not be reached again.
    if killed.code != KILLED:
        assert killed.code == (0 if scene.is_done else 3), killed.err
        return False
    await stage.look()
    done, after, pages_after = await stage.play(scene)
    assert done.code == (0 if scene.is_done else 3), done.err
    await assert_finished(stage.address, stage.box.world, failed=0 if scene.is_done else 1)
    if not stage.is_url:
        assert not list(stage.address.parent.glob("*.partial"))
        assert (stage.address.parent / "manifest.json").exists()
    twice = before.keys() & after.keys() - scene.reread - {scene.failing}
    assert len(twice) <= CONCURRENCY, (end, twice)
    # One page for each walker, and the overlap's, if the run had come to the end of its round.
    assert pages_before + pages_after <= 2 * pages + CONCURRENCY, (end, pages_before, pages_after, pages)
    return True


@pytest.mark.timeout(300)
@pytest.mark.parametrize("address", STORES)
@pytest.mark.parametrize("phase", PHASES)
async def test_whatever_step_a_run_dies_at_the_same_command_finishes_it(phase, address, tmp_path):
    # Other processes are watched here, and the server is to be no slower than they are.
    asyncio.get_running_loop().set_debug(False)
    async with Sandbox(World(0), answers=ANSWERS) as box, forking() as forks:
        stage = Stage(box, forks, tmp_path, address)
        scene = await phase(stage.sync)
        stage.keep()
        stage.rewind()
        recording, _, pages = await stage.play(scene, armed=True)
        assert recording.code == (0 if scene.is_done else 3), recording.err
        arrivals = recording.arrivals
        died = [
            name
            for name, number in moments(arrivals)
            if await assert_recovers(stage, scene, [name, number], pages)
        ]
    LOG.info(
        "%s: %s failpoints, %s deaths, of which left %s",
        *(phase.__name__, len(set(arrivals)), len(died), dict(stage.left)),
    )
    assert set(died) == set(arrivals)
    assert len(died) >= 20
    assert stage.is_url or stage.left["a log to play back"] >= len(died) // 3
