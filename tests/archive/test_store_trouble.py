"""Whatever is wrong with an archive or its place: a clear sentence, the right exit code, and no harm done."""

import asyncio
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from archive_contents import assert_finished
from command_runs import command_runner

from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive
from navtalk_async.errors import StoreError
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox, World


class Ended(NamedTuple):
    code: int
    out: str
    err: str


async def navtalk(*arguments, box, before=None, key="k"):
    """The command as a process; *before* is done in it at first."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "navtalk_async.cli", *map(str, arguments), "--progress", "none"),
        env={**os.environ, "NAVTALK_API_KEY": key, "NAVTALK_BASE_URL": box.navtalk_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=before,
    )
    out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


def assert_sentence(done, code, words):
    assert done.code == code, done
    assert words in done.err
    assert "Traceback" not in done.err
    assert all(line.startswith("navtalk: ") for line in done.err.splitlines())


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


@pytest.fixture
async def box():
    async with Sandbox(World(60, messages=3)) as box:
        yield box


@pytest.fixture
async def archive(box, tmp_path):
    """A good archive."""
    assert (await navtalk("sync", tmp_path / "a" / "archive.db", box=box)).code == 0
    return tmp_path / "a" / "archive.db"


@pytest.fixture
def open_to_all(archive):
    """A copy of the archive where anybody may come, though not write."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = shutil.copytree(archive.parent, Path(folder, "a"))
        place.chmod(0o755)
        yield place
        place.chmod(0o755)


@pytest.fixture
async def as_nobody(box):
    """Runs the command without root's rights."""
    async with command_runner() as commands:

        async def run(*arguments):
            env = {"NAVTALK_API_KEY": "k", "NAVTALK_BASE_URL": box.navtalk_url}
            run = await commands.run(*arguments, "--progress", "none", env=env, as_nobody=True)
            return Ended(run.code, "", run.err)

        yield run


def files_of_at_most(size):
    def limit():
        # Without the signal, a write beyond it fails as one on a full disk does.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [0, 40_000])
async def test_a_disk_that_takes_no_more_ends_the_run_and_the_same_command_goes_on(size, box, tmp_path):
    done = await navtalk("export", tmp_path, box=box, before=files_of_at_most(size))
    assert_sentence(done, 5, "cannot be used")
    assert "the same command" in done.err
    assert not (tmp_path / "manifest.json").exists()
    assert (await navtalk("export", tmp_path, box=box)).code == 0
    await assert_finished(tmp_path / "archive.db", box.world)


async def test_a_full_disk_under_the_files_leaves_the_earlier_ones(box, tmp_path):
    assert (await navtalk("export", tmp_path, box=box)).code == 0
    before = (tmp_path / "transcripts.jsonl").read_bytes()
    box.world.add_message(box.world.sessions[-1]["id"], "x" * 300_000)
    box.world.change_session(box.world.sessions[-1]["id"], status=2)
    assert (await navtalk("sync", tmp_path / "archive.db", box=box)).code == 0
    room = len(before) + 1000
    done = await navtalk("export", tmp_path, box=box, before=files_of_at_most(room))
    assert done.code in (2, 5)
    assert "Traceback" not in done.err
    assert (tmp_path / "transcripts.jsonl").read_bytes() == before
    assert (await navtalk("export", tmp_path, box=box)).code == 0
    await assert_finished(tmp_path / "archive.db", box.world)


async def test_a_folder_that_may_not_be_written_to_is_reported_and_left_alone(open_to_all, as_nobody):
    before = bytes_of(open_to_all)
    open_to_all.chmod(0o555)
    archive = open_to_all / "archive.db"
    for command in (("sync", archive), ("export", open_to_all), ("sync", open_to_all / "new.db")):
        assert_sentence(await as_nobody(*command), 2, "cannot be used")
        assert bytes_of(open_to_all) == before
    assert (await as_nobody("doctor", "--store", archive)).code == 2


async def test_an_archive_that_may_only_be_read_is_reported_and_left_alone(open_to_all, as_nobody):
    archive = open_to_all / "archive.db"
    before = archive.read_bytes()
    open_to_all.chmod(0o777)
    archive.chmod(0o444)
    assert_sentence(await as_nobody("sync", archive), 2, "cannot be used")
    assert archive.read_bytes() == before


BROKEN = {
    "noise": lambda good: Random(1).randbytes(len(good)),
    "noise over its begin": lambda good: Random(1).randbytes(200) + good[200:],
    "cut": lambda good: good[: len(good) // 2],
    "cut off a page": lambda good: good[: 3 * 4096 + 100],
    "a text": lambda _: b"Dear diary, " * 999,
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_archive_is_reported_and_left_alone(how, box, archive):
    broken = BROKEN[how](archive.read_bytes())
    archive.write_bytes(broken)
    for command in (("sync", archive), ("export", archive.parent)):
        done = await navtalk(*command, box=box)
        assert_sentence(done, 2, "damaged")
        assert archive.read_bytes() == broken


async def test_an_archive_of_a_newer_version_is_reported_and_left_alone(box, archive):
    with closing(sqlite3.connect(archive)) as db:
        db.execute("PRAGMA user_version = 99")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = bytes_of(archive.parent)
    done = await navtalk("sync", archive, box=box)
    assert_sentence(done, 2, "newer version")
    assert bytes_of(archive.parent) == before


@pytest.mark.parametrize("more", [(), ("--retry-failed",)])
async def test_another_projects_key_is_reported_and_leaves_the_archive_as_it_was(more, box, archive):
    before = bytes_of(archive.parent)
    box.keys = {"theirs": World(60, seed=5)}
    done = await navtalk("sync", archive, *more, box=box, key="theirs")
    assert_sentence(done, 2, "another project")
    assert bytes_of(archive.parent) == before


async def test_another_apis_archive_is_reported_and_left_alone(box, archive):
    with closing(sqlite3.connect(archive)) as db:
        db.execute("UPDATE sync_projects SET api = 'kodey'")
        db.commit()
    before = bytes_of(archive.parent)
    done = await navtalk("sync", archive, "--retry-failed", box=box)
    assert_sentence(done, 2, "is of the API kodey")
    assert bytes_of(archive.parent) == before


async def test_of_two_runs_at_once_the_second_is_reported_and_the_first_is_not_disturbed(box, tmp_path):
    box.hold()
    first = asyncio.create_task(navtalk("export", tmp_path, "--json", box=box))
    await box.arrived(1)
    asked = box.counts.total
    for command in (("export", tmp_path), ("sync", tmp_path / "archive.db")):
        assert_sentence(await navtalk(*command, box=box), 11, "Another run")
    assert box.counts.total == asked
    box.release()
    done = await first
    assert (done.code, json.loads(done.out)["complete"]) == (0, True)
    await assert_finished(tmp_path / "archive.db", box.world)


async def synced(box, path):
    async with NavTalkClient("k", base_url=box.navtalk_url) as nt, Archive.open(path) as store:
        await sync(nt, store)


@pytest.mark.parametrize("seed", range(2))
async def test_noise_in_any_page_is_reported_as_a_sentence_or_does_no_harm_at_all(seed, box, archive):
    """SQLite notices much, and not everything; what it does not is what `verify` is for."""
    good, dice = archive.read_bytes(), Random(seed)
    refused = 0
    for page in range(len(good) // 4096):
        begin = page * 4096 + (dice.randrange(3000) if dice.random() < 0.5 else 0)
        noise = dice.randbytes(dice.choice([4, 100, 1000]))
        broken = archive.with_name("broken.db")
        for each in archive.parent.glob("broken.db*"):
            each.unlink()
        broken.write_bytes(good[:begin] + noise + good[begin + len(noise) :])
        try:
            await synced(box, broken)
        except StoreError:
            refused += 1
    assert refused
    shutil.rmtree(archive.parent)


@pytest.mark.parametrize("command", ["verify", "doctor --store"])
async def test_a_folder_that_may_not_be_read_is_reported(command, open_to_all, as_nobody):
    open_to_all.chmod(0o700)
    for place in (open_to_all, open_to_all / "archive.db"):
        assert_sentence(await as_nobody(*command.split(), place), 2, "Permission denied")
