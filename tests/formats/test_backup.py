"""A backup is one state of the archive, whatever writes to it, and replaces nothing but an earlier one."""

import shutil

import pytest
from command_runs import command_runner
from looked_at import synced
from shell import navtalk

from navtalk_async import Archive, NavTalkClient, backup, sync, verify
from navtalk_async.errors import StoreBroken, StoreMismatch, StoreUnreachable
from navtalk_async.sandbox import Sandbox, World


@pytest.fixture
async def place(tmp_path):
    return await synced(tmp_path / "archive.db")


async def contents(place):
    async with Archive.open(place, read_only=True) as archive:
        return [
            (each.session.id, [(one.id, one.content) for one in each.messages])
            async for each in archive.transcripts()
        ]


async def test_a_backup_beside_a_sync_is_whole_and_can_be_gone_on_with(tmp_path):
    copies = []
    async with Sandbox(World(60, messages=3)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with Archive.open(tmp_path / "archive.db") as writer:

            async def copied(*_):
                async with Archive.open(tmp_path / "archive.db", read_only=True) as reader:
                    copies.append(tmp_path / f"copy{len(copies)}.db")
                    await backup(reader, copies[-1])

            await copied()
            await sync(nt, writer)
            await copied()
            for _ in range(5):
                box.world.add_message(box.world.add_session()["id"], "Later")
            await sync(nt, writer)
        for copy in copies:
            async with Archive.open(copy) as archive:
                await sync(nt, archive)
            assert not (await verify(copy)).findings
            assert await contents(copy) == await contents(tmp_path / "archive.db")


async def test_a_later_backup_replaces_an_earlier_one_and_nothing_else(place, tmp_path):
    copy, other = tmp_path / "copy.db", await synced(tmp_path / "other.db")
    async with Archive.open(place, read_only=True) as archive:
        for _ in range(2):
            made = await backup(archive, copy)
            assert made.bytes == copy.stat().st_size
        assert copy.stat().st_mode & 0o777 == 0o600
        (tmp_path / "notes.txt").write_text("mine" * 100)
        before = other.read_bytes()
        notes = tmp_path / "notes.txt"
        for wrong, kind in ((other, StoreMismatch), (notes, StoreBroken), (tmp_path, StoreUnreachable)):
            with pytest.raises(kind):
                await backup(archive, wrong)
        with pytest.raises(ValueError, match="the archive itself"):
            await backup(archive, place)
    assert (other.read_bytes(), (tmp_path / "notes.txt").read_text()) == (before, "mine" * 100)
    assert not list(tmp_path.glob("*.partial"))


async def test_a_copy_that_went_on_by_itself_is_not_replaced(place, tmp_path):
    copy = tmp_path / "copy.db"
    async with Archive.open(place, read_only=True) as archive:
        await backup(archive, copy)
        async with Sandbox(sessions=3) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
            async with Archive.open(copy) as further:
                await sync(nt, further, project="more")
        with pytest.raises(StoreMismatch, match="written to since"):
            await backup(archive, copy)


async def test_a_backup_killed_anywhere_leaves_the_earlier_one(place, tmp_path):
    copy = tmp_path / "copy.db"
    assert (await navtalk("backup", place, copy)).code == 0
    before = copy.read_bytes()
    async with Sandbox(sessions=3) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with Archive.open(place) as archive:
            await sync(nt, archive, project="more")
    async with command_runner() as commands:
        shutil.copy(copy, tmp_path / "kept.db")
        recording = await commands.run("backup", place, copy, env={}, armed=True)
        arrivals, after = list(dict.fromkeys(recording.arrivals)), copy.read_bytes()
        assert (recording.code, after == before) == (0, False)
        for name in arrivals:
            shutil.copy(tmp_path / "kept.db", copy)
            killed = await commands.run("backup", place, copy, env={}, end=[name, 1])
            assert killed.code == -9
            assert copy.read_bytes() in {before, after}
        done = await commands.run("backup", place, copy, env={})
        assert (done.code, copy.read_bytes() == after) == (0, True)
    assert len(arrivals) >= 5


async def test_a_damaged_archive_is_not_copied_and_postgresql_is_left_to_its_own_program(place, tmp_path):
    data = bytearray(place.read_bytes())
    data[4096 * 5 : 4096 * 9] = b"\xff" * 4096 * 4
    place.write_bytes(data)
    result = await navtalk("backup", place, tmp_path / "copy.db", "--json")
    assert result.code != 0
    assert not (tmp_path / "copy.db").exists()
    for wrong in ("s3://bucket/copy.db", tmp_path):
        assert (await navtalk("backup", place, wrong)).code == 2
    refused = await navtalk("backup", "postgresql://u:secretpw@127.0.0.1:1/d", tmp_path / "copy.db")
    assert refused.code == 2
    assert "secretpw" not in refused.out + refused.err
