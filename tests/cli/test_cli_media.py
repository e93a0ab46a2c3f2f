"""`navtalk media`: what it says, and its exit codes."""

import json
import signal

import pytest
from media_server import MediaServer
from shell import KEY, NO_KEY, navtalk, result_of, start_command

from navtalk_async.cli._media import WHEN_STOPPED
from navtalk_async.sandbox import Sandbox, World

pytestmark = pytest.mark.subprocess


@pytest.fixture
async def media():
    async with MediaServer() as media:
        yield media


@pytest.fixture
async def box(media):
    async with Sandbox(World(0)) as box:
        for number in range(3):
            session = box.world.add_session(video_url=media.plan(f"v{number}.mp4"))
            box.world.add_message(session["id"])
        yield box


async def test_recordings_are_downloaded_beside_the_archive(box, media, out):
    media.plan("v1.mp4", "404")
    ended = await navtalk("media", out, "--allow-private-media", box=box)
    assert ended.code == 3
    assert f"{out}/media: downloaded 2 files, 200.0 kB." in ended.err
    assert "No file of session" in ended.err
    assert "its server answered 404, and the API has no other link." in ended.err
    ended = await navtalk("media", out, "--allow-private-media", "--retry-failed", "--json", box=box)
    assert ended.code == 0
    [report] = ended.rows
    assert (report["fetched"], report["kept"], report["failed"], report["left"]) == (1, 2, [], 0)
    assert len(list(out.glob("media/*/*.mp4"))) == 3


async def test_without_a_key_and_into_another_folder(box, out, tmp_path):
    where = ("--dest", tmp_path / "there")
    ended = await navtalk("media", out / "archive.db", *where, "--allow-private-media", box=box, env=NO_KEY)
    assert ended.code == 0
    assert len(list(tmp_path.glob("there/media/*/*.mp4"))) == 3


async def test_private_addresses_are_refused_unless_allowed(box, media, out):
    ended = await navtalk("media", out, box=box)
    assert ended.code == 3
    assert ended.err.count("127.0.0.1 is a private address") == 3
    assert not media.requests


async def test_bounds_leave_links_for_the_next_run(box, out):
    ended = await navtalk("media", out, "--allow-private-media", "--max-media-files", 2, box=box)
    assert (ended.code, "Left for the next run: 1 link." in ended.err) == (3, True)


async def test_wrong_arguments_are_refused_before_any_request(box, media, out, tmp_path):
    box.counts.reset()
    (tmp_path / "none.pem").write_text("none")
    for arguments, why in (
        ((out, "--api", "lexicon"), "--api navtalk"),
        ((out, "--cacert", tmp_path / "none.pem"), "--cacert"),
        ((out, "--max-media-size", "0"), "is not a size"),
        (("postgresql://user@localhost/chats",), "--dest"),
    ):
        env = {"LEXICON_API_KEY": KEY, "LEXICON_BASE_URL": box.lexicon_url}
        ended = await navtalk("media", *arguments, "--json", box=box, env=env)
        assert ended.code == 2, ended.err
        assert why in ended.err
        assert json.loads(ended.err.splitlines()[-1])["exit_code"] == 2
    assert (box.counts.total, media.requests.total()) == (0, 0)


async def test_what_is_stopped_goes_on_where_it_was(box, media, out):
    media.plan("v1.mp4", "hang")
    async with start_command("media", out, "--allow-private-media", box=box) as process:
        await media.hanging.wait()
        process.send_signal(signal.SIGINT)
        ended = await result_of(process)
    assert (ended.code, ended.err.splitlines()[-1]) == (130, f"navtalk: {WHEN_STOPPED}")
    ended = await navtalk("media", out, "--allow-private-media", "--json", box=box)
    assert (ended.code, ended.rows[0]["fetched"] + ended.rows[0]["kept"]) == (0, 3)


async def test_an_export_with_media_lists_each_file_in_its_manifest(box, media, tmp_path):
    media.plan("v1.mp4", "404")
    where = ("export", tmp_path / "all", "--media", "--allow-private-media")
    ended = await navtalk(*where, box=box)
    assert ended.code == 3
    assert f"{tmp_path}/all/media: downloaded 2 files" in ended.err
    manifest = json.loads((tmp_path / "all/manifest.json").read_bytes())
    listed = [each["name"] for each in manifest["files"] if each["format"] == "media"]
    assert len(listed) == 2
    assert all((tmp_path / "all" / name).is_file() for name in listed)
    assert (await navtalk("verify", tmp_path / "all")).code == 0
    ended = await navtalk(*where, "--retry-failed", "--json", box=box)
    assert (ended.code, ended.rows[0]["media"]["fetched"]) == (0, 1)
    manifest = json.loads((tmp_path / "all/manifest.json").read_bytes())
    assert len([each for each in manifest["files"] if each["format"] == "media"]) == 3
    (tmp_path / "all" / listed[0]).write_bytes(b"another")
    assert (await navtalk("verify", tmp_path / "all")).code == 6
