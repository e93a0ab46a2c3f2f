"""A process that dies anywhere between two steps to the disk, and the same command again."""

import copy
import logging
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from archive_contents import assert_finished
from command_runs import command_runner, settled
from postgres_box import copy_schema, new_schema
from profiles import PROFILE

from navtalk_async.archive import Archive
from navtalk_async.errors import StoreUnreachable
from navtalk_async.sandbox import Answers, Sandbox, World

LOG = logging.getLogger(__name__)
CONCURRENCY = 4
KILLED = -9

ANSWERS = Answers(max_page=12, cursor_on_last_page=False)
"""Pages so short that a small world takes several of them, and many a session more than one."""


@dataclass
class Scene:
    """What there is when the run begins that will be killed."""

    world: World
    arguments: tuple = ()
    failing: str = ""
    """A session whose messages cannot be had."""
    is_done: bool = True
    """Whether everything is fetched in the end."""
    reread: set = field(default_factory=set)
    """Sessions that are watched, which every round may read again."""


def a_world(**options):
    return World(28, messages=lambda number: number % 16, **options)


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
    for number in range(20):
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

PLAYED = [
    (phase, database)
    for phase in PHASES
    # A schema takes long to copy, and the steps are the same.
    for database in ["sqlite", *(["postgres"] if PROFILE == "thorough" or phase is after_changes else [])]
]


class Files:
    """An archive in a folder, with the files that `navtalk export` makes of it."""

    def __init__(self, folder):
        self._before = folder / "before"
        self._copied = folder / "copied"
        self._folder = folder / "run"
        self.address = self._folder / "archive.db"
        self.command = ("export", self._folder)

    async def keep(self):
        """Remember it as it stands."""
        shutil.copytree(self._folder, self._before)

    async def rewind(self):
        """Make it as it was."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._before.exists():
            shutil.copytree(self._before, self._folder)

    async def left(self):
        """What a kill left behind; it stays untouched."""
        shutil.rmtree(self._copied, ignore_errors=True)
        if self._folder.exists():
            shutil.copytree(self._folder, self._copied)
        if any(self._copied.glob("*.partial")):
            yield "a file half written"
        log = self._copied / f"{self.address.name}-wal"
        if log.exists() and log.stat().st_size > 0:
            yield "a log to play back"
        if (self._copied / self.address.name).exists():
            async with Archive.open(self._copied / self.address.name) as store:
                async for each in unfinished(store):
                    yield each

    def assert_tidy(self):
        assert not list(self._folder.glob("*.partial"))
        assert (self._folder / "manifest.json").exists()


class Schema:
    """An archive in PostgreSQL, as `navtalk sync` makes it."""

    def __init__(self, before, address):
        self._before = before
        self.address = address
        self.command = ("sync", address)

    async def keep(self):
        """See `Files.keep`."""
        await copy_schema(self.address, self._before)

    async def rewind(self):
        """See `Files.rewind`."""
        await copy_schema(self._before, self.address)

    async def left(self):
        """See `Files.left`."""
        with suppress(StoreUnreachable):
            async with Archive.open(self.address, read_only=True) as store:
                async for each in unfinished(store):
                    yield each

    def assert_tidy(self):
        pass


async def unfinished(store):
    """What there is to go on with."""
    if (await store.counts("default")).pending:
        yield "sessions pending"
    if any(each.round for each in await store.projects()):
        yield "a round left open"


@pytest.fixture(params=["sqlite", "postgres"])
async def archive(request, tmp_path):
    """What is to be killed at, in each kind of store in turn."""
    if request.param == "sqlite":
        return Files(tmp_path)
    server = request.getfixturevalue("postgres")
    return Schema(await new_schema(server), await new_schema(server))


class Stage:
    """Where one phase is played again and again, each time with the same archive and the same world."""

    def __init__(self, box, commands, archive):
        self.box = box
        self.commands = commands
        self.archive = archive
        self.left = Counter()

    async def play(self, scene, **options):
        self.box.world = copy.deepcopy(scene.world)
        self.box.forget_planned()
        if scene.failing:
            self.box.fail_next("400", times=10_000, path=f"messages?sessionId={scene.failing}")
        self.box.counts.reset()
        run = await self.commands.run(
            *(*self.archive.command, "--progress", "none", "--base-url", self.box.url),
            *("--concurrency", CONCURRENCY, *scene.arguments),
            env={"NAVTALK_API_KEY": "k"},
            **options,
        )
        await settled(self.box)
        return run, Counter(self.box.counts.messages_by_session), self.box.counts.by_kind["sessions"]

    async def sync(self, world, *, failing=""):
        """A run that comes to its end."""
        run, _, _ = await self.play(Scene(world, failing=failing))
        assert run.code == (3 if failing else 0), run.err
        await self.archive.keep()


def moments(arrivals):
    """The failpoints, and at which of their arrivals to die: the first or the last in turn, or both where
    there is time. The last may not be reached again; then it is the first.
    """
    counts = Counter(arrivals).items()
    if PROFILE == "thorough":
        return [(name, [number]) for name, last in counts for number in sorted({1, last})]
    return [(name, [last, 1] if at % 2 else [1]) for at, (name, last) in enumerate(counts)]


async def assert_recovers(stage, scene, end, pages):
    """Die at *end*, and run the same command again: everything is there, and little was asked for twice."""
    await stage.archive.rewind()
    killed, before, pages_before = await stage.play(scene, end=end)
    # Commits are as large as chance will have it, so the last of many may not be reached again.
    if killed.code != KILLED:
        assert killed.code == (0 if scene.is_done else 3), killed.err
        return False
    stage.left.update([each async for each in stage.archive.left()])
    done, after, pages_after = await stage.play(scene)
    assert done.code == (0 if scene.is_done else 3), done.err
    await assert_finished(stage.archive.address, stage.box.world, failed=0 if scene.is_done else 1)
    stage.archive.assert_tidy()
    twice = before.keys() & after.keys() - scene.reread - {scene.failing}
    # Those under way, and as many that were fetched and waited for their commit.
    assert len(twice) <= 2 * CONCURRENCY, (end, twice)
    # One page for each walker, and the overlap's, if the run had come to the end of its round.
    assert pages_before + pages_after <= 2 * pages + CONCURRENCY, (end, pages_before, pages_after, pages)
    return True


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("phase", "archive"), PLAYED, indirect=["archive"])
async def test_whatever_step_a_run_dies_at_the_same_command_finishes_it(phase, archive):
    async with Sandbox(World(0), answers=ANSWERS) as box, command_runner() as commands:
        stage = Stage(box, commands, archive)
        scene = await phase(stage.sync)
        await archive.rewind()
        recording, _, pages = await stage.play(scene, armed=True)
        assert recording.code == (0 if scene.is_done else 3), recording.err
        arrivals = recording.arrivals
        died = []
        for name, numbers in moments(arrivals):
            for number in numbers:
                if await assert_recovers(stage, scene, [name, number], pages):
                    died.append(name)
                    break
    LOG.info(
        "%s in %s: %s failpoints, %s deaths, of which left %s",
        *(phase.__name__, type(archive).__name__, len(set(arrivals)), len(died), dict(stage.left)),
    )
    assert set(died) == set(arrivals)
    assert len(set(arrivals)) >= 12
    assert isinstance(archive, Schema) or stage.left["a log to play back"] >= len(died) // 3
