"""What the links of an archive lead to, downloaded beside it."""

import asyncio
import errno
import json
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_server import MediaServer

from navtalk_async import LexiconClient, NavTalkClient
from navtalk_async.archive import Archive, failpoints
from navtalk_async.errors import StoreError, StoreLocked, StoreMismatch, StoreUnreachable
from navtalk_async.formats import export
from navtalk_async.formats._download import Begun, LinkExpired, begun, extension
from navtalk_async.formats._media_index import Link, MediaIndex
from navtalk_async.formats.media import fetch_media, media_files
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import Remedy, verify
from navtalk_async.wire.download import DownloadLost, DownloadRefused, is_public

KEY = "sk-very-secret-key"


def name_of(number):
    return f"{number:08x}-dede-11f0-92bc-000e1eed4a72"


class Scene:
    """A sandbox with sessions that have recordings, an archive of it, and the folder beside."""

    def __init__(self, box, media, client, archive, folder):
        self.box, self.media, self.client, self.archive, self.folder = box, media, client, archive, folder

    async def fetch(self, **how):
        how = {"client": self.client, "allow_private": True, **how}
        return await fetch_media(self.archive, self.folder, **how)

    def files(self):
        """The files there, by path, without the list of them."""
        media = self.folder / "media"
        return {str(path.relative_to(media)): path.read_bytes() for path in media.glob("*/*")}

    def entries(self):
        lines = (self.folder / "media" / "media.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines]

    def assert_all_right(self):
        """Each file is there whole, under the hash of what it holds, and nothing else is."""
        files = self.files()
        there = {each["name"]: each for each in self.entries() if "name" in each}
        assert files.keys() == there.keys()
        for name, content in files.items():
            digest = sha256(content).hexdigest()
            assert (len(content), digest) == (there[name]["bytes"], there[name]["sha256"])
            assert name.partition("/")[2].startswith(digest[:16] + ".")


@asynccontextmanager
async def a_scene(folder, *plans):
    """A session for each of *plans*: the faults that its file meets, or the URL that it has."""
    world = World(0)
    async with (
        Sandbox(world) as box,
        MediaServer() as media,
        NavTalkClient(KEY, base_url=box.navtalk_url) as client,
        Archive.open(folder / "archive.db") as archive,
    ):
        for number, plan in enumerate(plans):
            url = plan if isinstance(plan, str) else media.plan(f"v{number}.mp4", *plan)
            session = world.add_session(id=name_of(number), video_url=url)
            world.add_message(session["id"])
        await sync(client, archive)
        yield Scene(box, media, client, archive, folder)


async def test_each_recording_is_a_file_named_by_its_session_and_its_hash(tmp_path):
    async with a_scene(tmp_path, [], []) as scene:
        report = await scene.fetch()
        contents = [scene.media.content(f"v{number}.mp4") for number in range(2)]
        assert (report.fetched, report.failed, report.left) == (2, [], 0)
        assert report.bytes == sum(map(len, contents))
        scene.assert_all_right()
        for number, content in enumerate(contents):
            name = f"{name_of(number)}/{sha256(content).hexdigest()[:16]}.mp4"
            assert scene.files()[name] == content
        assert [each.name for each in media_files(tmp_path)] == sorted(scene.files())


async def test_the_next_run_asks_only_for_what_is_new(tmp_path):
    async with a_scene(tmp_path, [], []) as scene:
        await scene.fetch()
        before = (tmp_path / "media" / "media.jsonl").stat()
        report = await scene.fetch()
        assert (report.fetched, report.kept) == (0, 2)
        assert scene.media.requests == {"v0.mp4": 1, "v1.mp4": 1}
        assert (tmp_path / "media" / "media.jsonl").stat().st_mtime_ns == before.st_mtime_ns
        # A file that somebody removed or cut is downloaded again.
        next((tmp_path / "media").glob("*/*.mp4")).write_bytes(b"half")
        assert (await scene.fetch()).fetched == 1
        scene.assert_all_right()
        # One of the same size has to be looked for.
        damaged = next((tmp_path / "media").glob("*/*.mp4"))
        damaged.write_bytes(bytes(damaged.stat().st_size))
        assert [(await scene.fetch(retry_failed=each)).fetched for each in (False, True)] == [0, 1]
        scene.assert_all_right()


RESUMED = [
    ("cut",),
    ("reset",),
    ("slow", "cut"),
    ("cut", "cut", "cut", "cut", "cut", "cut", "cut"),
    ("cut", "416", "cut"),
    ("cut", "changed", "cut", "changed", "cut"),
    ("cut", "no-range"),
    ("cut", "wrong-range"),
    ("no-validator", "cut", "no-validator"),
    ("weak", "cut"),
    ("chunked-cut", "chunked"),
    ("500", "429", "cut", "500"),
    ("empty", "cut"),
]


async def test_what_is_cut_off_or_changes_on_the_way_is_whole_in_the_end(tmp_path):
    async with a_scene(tmp_path, *RESUMED) as scene:
        report = await scene.fetch(concurrency=len(RESUMED))
        assert (report.fetched, report.failed) == (len(RESUMED), [])
        found = {name.partition("/")[0]: content for name, content in scene.files().items()}
        for number, faults in enumerate(RESUMED):
            assert found[name_of(number)] == scene.media.content(f"v{number}.mp4"), faults
        scene.assert_all_right()


async def test_what_is_there_is_not_sent_again(tmp_path):
    async with a_scene(tmp_path, ["cut", "cut"]) as scene:
        report = await scene.fetch()
        asked = [headers for _, headers in scene.media.asked]
        assert [each.get("Range") for each in asked] == [None, "bytes=50000-", "bytes=75000-"]
        assert [each.get("If-Range") is not None for each in asked] == [False, True, True]
        assert report.bytes == 100_000


REFUSED = {
    "redirect": "its server redirects, which is not followed",
    "gzip": "its server compresses it, though asked not to",
}


async def test_a_redirect_and_a_compressed_file_are_refused_without_another_request(tmp_path):
    async with a_scene(tmp_path, *([fault] for fault in REFUSED)) as scene:
        report = await scene.fetch()
        assert {each.failed for each in report.failed} == set(REFUSED.values())
        assert (scene.files(), set(scene.media.requests.values())) == ({}, {1})


async def test_a_session_whose_link_has_expired_is_asked_for_a_new_one(tmp_path):
    async with a_scene(tmp_path, [], []) as scene:
        media, world = scene.media, scene.box.world
        media.expired |= {"v0.mp4", "v1.mp4"}
        world.change_session(name_of(0), videoUrl=media.signed("v0.mp4"))
        scene.box.counts.reset()
        report = await scene.fetch()
        assert (report.fetched, [each.session for each in report.failed]) == (1, [name_of(1)])
        assert report.failed[0].failed == "its server answered 403, and the API has no other link"
        assert scene.box.counts.by_kind == {"session": 2}
        # Neither is asked for again; a dead link only if it is wanted.
        for retry, requests in ((False, 0), (True, 1)):
            media.requests.clear()
            report = await scene.fetch(retry_failed=retry)
            assert (report.kept, len(report.failed), media.requests.total()) == (1, 1, requests)
        scene.assert_all_right()


async def test_a_link_that_expires_half_way_is_gone_on_with_by_the_new_one(tmp_path):
    async with a_scene(tmp_path, ["cut", "403"], ["cut", "403"]) as scene:
        scene.box.world.change_session(name_of(0), videoUrl=scene.media.signed("v0.mp4"))
        report = await scene.fetch(concurrency=1)
        assert (report.fetched, len(report.failed)) == (1, 1)
        asked = [headers.get("Range") for path, headers in scene.media.asked if "v0" in path]
        assert asked == [None, "bytes=50000-", "bytes=50000-"]
        # Of a dead link, nothing stays.
        assert not list((tmp_path / "media" / name_of(1)).iterdir())
        scene.assert_all_right()


async def test_a_server_that_asks_for_a_long_wait_is_left_for_another_run(tmp_path):
    async with a_scene(tmp_path, ["busy"]) as scene:
        assert [each.failed for each in (await scene.fetch()).failed] == ["its server answered 429"]
        assert (await scene.fetch()).fetched == 1


async def test_a_dead_link_that_the_api_signs_anew_is_asked_for_again(tmp_path):
    async with a_scene(tmp_path, []) as scene:
        scene.media.expired.add("v0.mp4")
        assert len((await scene.fetch()).failed) == 1
        scene.box.world.change_session(name_of(0), videoUrl=scene.media.signed("v0.mp4"))
        await sync(scene.client, scene.archive)
        assert (await scene.fetch()).fetched == 1
        assert len(scene.entries()) == 1


async def test_without_a_client_a_dead_link_is_tried_in_each_run(tmp_path):
    async with a_scene(tmp_path, ["404", "404"]) as scene:
        for _ in range(2):
            assert [each.failed for each in (await scene.fetch(client=None)).failed] == [
                "its server answered 404"
            ]
        report = await scene.fetch()
        assert (report.fetched, report.failed) == (1, [])


def test_a_file_whose_url_is_signed_anew_is_the_same_one():
    one, other = (Link("p", "s", None, f"https://x/v.mp4?id=1&X-Amz-Signature={each}&se=2") for each in "ab")
    assert one.id == other.id
    assert Link("p", "s", None, "https://x/v.mp4?id=2").id != Link("p", "s", None, "https://x/v.mp4?id=1").id


async def test_the_key_is_on_no_request_for_media(tmp_path):
    async with a_scene(tmp_path, ["cut"], ["403"], ["redirect"], ["500"]) as scene:
        await scene.fetch()
        asked = scene.media.asked
        assert len(asked) > 4
        for path, headers in asked:
            assert KEY not in path + str(list(headers.items()))
            assert headers.keys() <= {"Host", "Accept", "Accept-Encoding", "User-Agent", "Range", "If-Range"}


async def test_a_larger_file_is_refused_and_one_run_has_its_bounds(tmp_path):
    async with a_scene(tmp_path, [], [], []) as scene:
        scene.media.sizes["v1.mp4"] = 200_000
        report = await scene.fetch(max_file_bytes=150_000)
        assert [each.failed for each in report.failed] == ["it has more than 150,000 bytes"]
        report = await scene.fetch(max_total_bytes=150_000)
        assert (report.fetched, report.left, report.failed) == (0, 1, [])
        assert not list(tmp_path.glob("media/*/*.mp4"))[2:]
        assert (await scene.fetch()).fetched == 1
        scene.assert_all_right()


async def test_the_next_run_goes_on_with_links_that_one_left(tmp_path):
    async with a_scene(tmp_path, [], [], []) as scene:
        left = [(await scene.fetch(max_files=1)).left for _ in range(3)]
        assert left == [2, 1, 0]
        scene.assert_all_right()


async def test_a_bound_that_allows_nothing_is_refused(tmp_path):
    async with a_scene(tmp_path, []) as scene:
        for bound in ("max_file_bytes", "max_total_bytes", "max_files"):
            with pytest.raises(ValueError, match=f"{bound}=0"):
                await scene.fetch(**{bound: 0})
        with pytest.raises(StoreMismatch):
            await scene.fetch(project="other")
        assert not scene.media.requests


HOSTS = [
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1"),
    *("::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::127.0.0.1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001::1"),
]


@pytest.mark.parametrize("host", HOSTS)
def test_private_addresses_are_not_public_in_any_spelling(host):
    assert not is_public(host)


@pytest.mark.parametrize(
    "host", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_of_the_internet_are_public(host):
    assert is_public(host)


URLS = [
    *("http://{local}/", "http://localhost:{port}/", "http://127.1:{port}/", "http://2130706433:{port}/"),
    *("http://0x7f.0.0.1:{port}/", "http://0177.0.0.1:{port}/", "http://[::ffff:127.0.0.1]:{port}/"),
    *(
        "http://①②⑦.0.0.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://localhost.:{port}/",
        "HTTP://{local}/",
    ),
    *("http://user:pw@{local}/", "ftp://{local}/", "file:///etc/passwd", "//x/y", "no url", "http://"),
    *(
        "http://{local}/a\r\nX: y",
        "http://[::1",
        "http://x:99999/",
        "http://" + "x" * 9000,
        "gopher://{local}/",
    ),
]


async def test_no_private_address_is_connected_to_however_it_is_written(tmp_path):
    connected = []
    async with await asyncio.start_server(lambda *_: connected.append(1), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        urls = [each.format(local=f"127.0.0.1:{port}", port=port) for each in URLS]
        async with a_scene(tmp_path, *urls) as scene:
            report = await scene.fetch(client=None, allow_private=False)
    assert len(report.failed) == len(URLS)
    assert not connected
    assert not any("pw" in str(each) for each in scene.entries())


async def test_what_messages_show_is_downloaded_too(tmp_path):
    world = World(0)
    session = world.add_session(id="chat")
    said = [world.add_message(session["id"], f"{number}") for number in range(3)]
    async with (
        Sandbox(world) as box,
        MediaServer() as media,
        LexiconClient(KEY, base_url=box.lexicon_url) as client,
        Archive.open(tmp_path / "archive.db") as archive,
    ):
        world.note(session["id"], user="u")
        world.note(said[0]["id"], media_type="image/png", media_url=media.plan("a.png"))
        world.note(said[2]["id"], media_type="image/png", media_url=media.plan("b.png", "404"))
        await sync(client, archive, user_id="u")
        world.note(said[2]["id"], media_url=media.plan("c.png"))
        scene = Scene(box, media, client, archive, tmp_path)
        report = await scene.fetch()
        assert (report.fetched, report.failed) == (2, [])
        assert {each["message"] for each in scene.entries()} == {said[0]["id"], said[2]["id"]}
        assert set(scene.files().values()) == {media.content("a.png"), media.content("c.png")}
        scene.assert_all_right()


async def test_two_runs_do_not_download_to_one_folder(tmp_path):
    async with a_scene(tmp_path, []) as scene:
        async with MediaIndex(tmp_path / "media"):
            with pytest.raises(StoreLocked):
                await scene.fetch()
        assert (await scene.fetch()).fetched == 1


async def test_a_list_of_media_that_is_not_ours_stays(tmp_path):
    async with a_scene(tmp_path, []) as scene:
        (tmp_path / "media").mkdir()
        listed = tmp_path / "media" / "media.jsonl"
        for text in ("{}\n", "mine", '{"link":"1","project":"p","session":"s","url":"","name":"../x"}'):
            listed.write_text(text)
            with pytest.raises(StoreUnreachable, match="Move it away"):
                await scene.fetch()
            assert listed.read_text() == text


async def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path):
    async with a_scene(tmp_path, []) as scene:
        (tmp_path / "media").write_text("")
        with pytest.raises(StoreError, match="media"):
            await scene.fetch()


async def test_what_another_put_in_the_place_of_a_part_is_not_written_to(tmp_path):
    async with a_scene(tmp_path, []) as scene:
        link = Link("default", name_of(0), None, scene.media.plan("v0.mp4"))
        (tmp_path / "media" / link.folder).mkdir(parents=True)
        (tmp_path / "other").write_text("theirs")
        (tmp_path / "media" / link.folder / f"{link.id}.partial").symlink_to(tmp_path / "other")
        with pytest.raises(StoreError):
            await scene.fetch()
        assert (tmp_path / "other").read_text() == "theirs"


@given(project=st.text(), session=st.text())
@settings(max_examples=50)
def test_the_folder_of_a_session_is_one_plain_name_and_no_other_session_has_it(project, session):
    folder = Link(project, session, None, "").folder
    assert folder.isascii()
    assert not set(folder) & set('/\\:*?"<>|. \0')
    assert len(folder) <= 64
    assert folder == session or folder != Link(project, session + "x", None, "").folder
    assert (folder == session) <= (project == "default")


HEADERS = {"Content-Length": "50", "ETag": '"a"', "Content-Range": "bytes 50-99/100"}


@pytest.mark.parametrize(
    ("status", "changed", "found"),
    [
        (200, {"Content-Length": "100"}, Begun(0, 100, '"a"')),
        (200, {"ETag": 'W/"a"', "Content-Length": ""}, Begun(0, None, "")),
        (206, {}, Begun(50, 100, '"a"')),
        (206, {"Content-Range": "bytes 50-99/*"}, Begun(50, None, '"a"')),
        (206, {"ETag": '"b"'}, None),
        (206, {"ETag": ""}, None),
        (206, {"Content-Range": "bytes 49-99/100"}, None),
        (206, {"Content-Range": "bytes 50-98/100"}, None),
        (206, {"Content-Range": ""}, None),
        (416, {}, None),
        (204, {}, DownloadRefused),
        (302, {}, DownloadRefused),
        (400, {}, DownloadRefused),
        (200, {"Content-Encoding": "br"}, DownloadRefused),
        (401, {}, LinkExpired),
        (410, {}, LinkExpired),
        (429, {}, DownloadLost),
        (503, {}, DownloadLost),
    ],
)
def test_an_answer_goes_on_with_a_file_only_if_it_is_surely_of_the_same_one(status, changed, found):
    headers = HEADERS | changed
    if isinstance(found, type):
        with pytest.raises(found):
            begun(status, headers, 50, '"a"')
    else:
        assert begun(status, headers, 50, '"a"') == found


def test_a_date_shows_that_a_file_is_the_same_only_if_it_is_older_than_the_answer():
    made = "Sat, 01 Nov 2025 00:00:00 GMT"
    for date, validator in (
        ("Sat, 01 Nov 2025 00:00:00 GMT", ""),
        ("Sat, 01 Nov 2025 00:00:01 GMT", made),
        ("", ""),
    ):
        found = begun(200, {"Last-Modified": made, "Date": date}, 0, "")
        assert found is not None
        assert found.validator == validator


@pytest.mark.parametrize(
    ("kind", "url", "end"),
    [
        ("video/mp4; codecs=x", "https://x/v", "mp4"),
        ("image/jpeg", "https://x/v.php", "jpg"),
        ("application/octet-stream", "https://x/a/v.MOV?sig=1.2", "mov"),
        ("", "https://x/a.b/v", "bin"),
        ("", "https://x/v.tar-gz..", "bin"),
        ("", "https://x/v.x%2f..%2fy", "bin"),
    ],
)
def test_the_end_of_a_name_is_by_what_the_file_is_or_else_by_its_url(kind, url, end):
    assert extension({"Content-Type": kind}, url) == end


async def test_the_manifest_lists_every_file_and_verify_finds_one_that_is_damaged(tmp_path):
    async with a_scene(tmp_path, [], []) as scene:
        await scene.fetch()
        manifest = await export(scene.archive, tmp_path)
        listed = {each.name: each.sha256 for each in manifest.files if each.format == "media"}
        files = {f"media/{name}": sha256(content).hexdigest() for name, content in scene.files().items()}
        assert listed == files
        name = min(files)
        (tmp_path / name).write_bytes(bytes(100_000))
        [finding] = (await verify(tmp_path)).findings
        assert (finding.where, finding.remedy) == (name, Remedy.MEDIA)
        await scene.fetch(retry_failed=True)
        assert (await verify(tmp_path)).findings == []


@pytest.fixture
def armed():
    yield failpoints.arm
    failpoints.arm(None)


async def test_a_full_disk_is_an_error_in_words_and_the_next_run_goes_on(tmp_path, armed):
    def fill(name):
        if name == "media: before write" and next(counted) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    counted = count()
    async with a_scene(tmp_path, ["cut", "cut"]) as scene:
        armed(fill)
        with pytest.raises(StoreError, match="No space left on device") as raised:
            await scene.fetch()
        assert type(raised.value) is StoreError
        armed(None)
        assert (await scene.fetch()).fetched == 1
        assert [headers.get("Range") for _, headers in scene.media.asked][-1] == "bytes=50000-"
        scene.assert_all_right()
