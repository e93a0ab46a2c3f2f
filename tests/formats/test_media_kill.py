"""A process that dies anywhere while it downloads, and the same command again."""

from hashlib import sha256
from random import Random

import pytest
from command_runs import command_runner, settled
from media_server import MediaServer
from profiles import examples

from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox, World

KEY = "CANARY-7f3a5c91d2"
KILLED = -9

PLACES = (
    *("media: before truncate", "media: after truncate", "media: before write", "media: after write"),
    *("media: before journal", "media: after journal", "media: before rename", "media: after rename"),
)
AT_THE_END = ("file: after fsync", "file: before rename", "file: after rename", "media: after index")

FAULTS = ("cut", "cut", "reset", "416", "changed", "no-range", "500", "wrong-range", "chunked-cut")


async def scene(box, media, folder, count, dice):
    """An archive of sessions with recordings that meet faults; some expire, redirect, or are gone."""
    dead = 0
    for number in range(count):
        name = f"v{number}.mp4"
        media.sizes[name] = dice.choice((1, 1000, 100_000, 300_000))
        faults = [dice.choice(FAULTS) for _ in range(dice.randrange(4))]
        if number % 25 == 7:
            dead, faults = dead + 1, ["redirect"] * 100
        elif number % 25 == 8:
            dead, faults = dead + 1, ["404"] * 100
        box.world.add_session(
            id=f"{number:08x}-dede-11f0-92bc-000e1eed4a72", video_url=media.plan(name, *faults)
        )
    async with (
        NavTalkClient(KEY, base_url=box.navtalk_url) as client,
        Archive.open(folder / "archive.db") as archive,
    ):
        await sync(client, archive)
    for number in range(9, count, 25):
        # The archive's link is no longer good, and the API has a new one.
        media.expired.add(f"v{number}.mp4")
        row = box.world.sessions[number]["id"]
        box.world.change_session(row, videoUrl=media.signed(f"v{number}.mp4"))
    return dead


def files_under_their_names(folder):
    """What is there under final names, each of which must be whole."""
    found = [each for each in (folder / "media").glob("*/*") if each.suffix != ".partial"]
    for path in found:
        assert path.stem == sha256(path.read_bytes()).hexdigest()[:16], path
    return found


async def downloaded_with_kills(folder, count, kills, furthest):
    dice = Random(count)
    async with Sandbox(World(0)) as box, MediaServer() as media, command_runner() as commands:
        dead = await scene(box, media, folder, count, dice)
        env = {"NAVTALK_API_KEY": KEY, "NAVTALK_BASE_URL": box.navtalk_url}
        command = ("media", folder / "archive.db", "--allow-private-media", "--json", "--progress", "none")
        for number in range(kills):
            is_last = number >= kills - len(AT_THE_END)
            place = AT_THE_END[number - kills] if is_last else dice.choice(PLACES)
            end = [place, 1 if is_last else dice.randint(1, furthest)]
            run = await commands.run(*command, env=env, end=end)
            assert run.code == KILLED, (end, run.code, run.err)
            files_under_their_names(folder)
            await settled(box)
        run = await commands.run(*command, env=env)
        assert run.code == 3, run.err
        [report] = run.rows
        assert (len(report["failed"]), report["left"]) == (dead, 0)
        found = {path.parent.name: path.read_bytes() for path in files_under_their_names(folder)}
        assert len(found) == count - dead == report["kept"] + report["fetched"]
        for number, row in enumerate(box.world.sessions):
            if row["id"] in found:
                assert found[row["id"]] == media.content(f"v{number}.mp4")
        assert not list((folder / "media").glob("*/*.partial"))
        assert not list((folder / "media").glob("*.journal"))
        for path, headers in media.asked:
            assert KEY not in path + str(list(headers.items()))


@pytest.mark.slow
@pytest.mark.subprocess
async def test_after_any_kills_the_same_command_downloads_every_file_whole(tmp_path):
    # Thorough: 500 files and 140 kills.
    await downloaded_with_kills(tmp_path, count=examples(50), kills=examples(14), furthest=examples(4))
