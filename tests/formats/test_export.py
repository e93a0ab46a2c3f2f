"""A store handed on as files."""

import asyncio
import hashlib
import json
import os
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import LexiconClient, NavTalkClient
from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession
from navtalk_async.errors import StoreError, StoreMismatch, StoreUnreachable
from navtalk_async.formats import export, read_manifest
from navtalk_async.formats._folder import candidates, name_of
from navtalk_async.formats._format import WholeFile
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import verify

SESSION = {"id": "id", "startTime": "start_time", "endTime": "end_time", "videoUrl": "video_url"}
MESSAGE = {"id": "id", "content": "content", "createdAt": "created_at", "messageType": "type"}


@pytest.fixture
async def exported(tmp_path):
    """Export a world; gives the lines of transcripts.jsonl and the manifest."""

    async def run(world, **scope):
        async with (
            Sandbox(world) as box,
            NavTalkClient("k", base_url=box.navtalk_url) as nt,
            Archive.open(tmp_path / "archive.db") as store,
        ):
            await sync(nt, store, server="sandbox", **scope)
            await export(store, tmp_path)
        lines = (tmp_path / "transcripts.jsonl").read_bytes().split(b"\n")
        assert lines.pop() == b""
        return [json.loads(line) for line in lines], json.loads((tmp_path / "manifest.json").read_bytes())

    return run


@asynccontextmanager
async def opened_empty(path):
    """An archive of one project that was never listed."""
    async with Archive.open(path) as store:
        await store.begin("default", api="navtalk", scope="{}")
        yield store


def format_api_time(text):
    return text and text.replace(" ", "T") + "Z"


async def test_every_session_is_a_line_in_listed_order_with_all_its_fields(exported):
    world = World(120)
    lines, _ = await exported(world)
    words = {0: "active", 1: "completed", 2: "failed"}
    for line, session in zip(lines, world.sessions, strict=True):
        assert {name: line[name] for name in ("id", "status", "start_time", "end_time", "video_url")} == {
            "id": session["id"],
            "status": words[session["status"]],
            "start_time": format_api_time(session["startTime"]),
            "end_time": format_api_time(session["endTime"]),
            "video_url": session["videoUrl"],
        }
        assert "extra" not in line


async def test_every_message_stands_in_its_session_in_order_with_its_text_intact(exported):
    world = World(60, long_messages=2)
    lines, _ = await exported(world)
    roles = {0: "user", 1: "assistant"}
    for line in lines:
        assert line["messages"] == [
            {
                "id": message["id"],
                "position": position,
                "role": roles[message["role"]],
                "type": message["messageType"],
                "content": message["content"],
                "created_at": format_api_time(message["createdAt"]),
            }
            for position, message in enumerate(world.messages(line["id"]))
        ]
    assert max(len(m["content"]) for line in lines for m in line["messages"]) > 900_000


async def test_unknown_fields_stand_under_extra_and_unknown_numbers_stay_numbers(exported):
    world = World(60, unknown_fields=True)
    lines, _ = await exported(world)
    for line, session in zip(lines, world.sessions, strict=True):
        assert line["extra"] == {"language": session["language"], "device": session["device"]}
        for message, original in zip(line["messages"], world.messages(session["id"]), strict=True):
            assert message["extra"] == {"sentiment": original["sentiment"]}
    assert 7 in {line["status"] for line in lines}
    assert 7 in {message["role"] for line in lines for message in line["messages"]}


async def test_the_user_and_the_time_of_the_last_change_are_columns_where_the_api_has_them(tmp_path):
    async with Sandbox(World(5)) as box, LexiconClient("sk_live_1", base_url=box.lexicon_url) as client:
        async with Archive.open(tmp_path / "archive.db") as archive:
            await sync(client, archive, user_id="user-0")
            await export(archive, tmp_path)
        chats = {each.id: each async for each in client.list_sessions(user_id="user-0")}
    lines = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_bytes().splitlines()]
    assert {line["id"]: (line["user_id"], line["updated_at"], line["title"]) for line in lines} == {
        each.id: (each.user_id, f"{each.updated_at:%Y-%m-%dT%H:%M:%SZ}", each.title)
        for each in chats.values()
    }
    for line in lines:
        assert list(line)[4:10] == ["start_time", "end_time", "updated_at", "title", "user_id", "video_url"]
        assert not {"user_id", "updated_at", "title"} & line["extra"].keys()


async def test_the_manifest_lists_what_was_written_with_its_checksums(exported, tmp_path):
    world = World(60)
    lines, manifest = await exported(world)
    content = (tmp_path / "transcripts.jsonl").read_bytes()
    assert manifest["files"] == [
        {
            "name": "transcripts.jsonl",
            "bytes": len(content),
            "rows": 60,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    ]
    assert manifest["complete"] is True
    assert (manifest["sessions"], manifest["messages"]) == (len(lines), world.total_messages)
    assert manifest["filters"] == {}


async def test_the_manifest_writes_filters_like_the_files(exported):
    _, manifest = await exported(World(20), start_time="2025-11-01 00:00:00", status=1, role=7)
    assert manifest["filters"] == {"start": "2025-11-01T00:00:00Z", "status": "completed", "role": 7}


async def test_a_project_that_is_not_there_is_refused_and_those_there_are_named(tmp_path):
    async with opened_empty(tmp_path / "archive.db") as store:
        with pytest.raises(StoreMismatch, match="no project 'other'; it has 'default'"):
            await export(store, tmp_path / "out", project="other")
    assert not (tmp_path / "out").exists()


async def test_the_same_archive_is_exported_to_the_same_bytes(exported, tmp_path):
    await exported(World(60))
    first = (tmp_path / "transcripts.jsonl").read_bytes()
    await exported(World(60))
    assert (tmp_path / "transcripts.jsonl").read_bytes() == first


async def test_a_file_whose_content_stays_the_same_is_left_alone(exported, tmp_path):
    written = []
    for sessions in (20, 20, 21):
        await exported(World(sessions))
        written.append((tmp_path / "transcripts.jsonl").stat().st_ino)
        assert not list(tmp_path.glob("*.partial"))
    assert written[0] == written[1] != written[2]


async def test_failed_sessions_are_listed_and_the_files_are_not_called_complete(tmp_path):
    async with opened_empty(tmp_path / "archive.db") as store:
        await store.record_failures("default", [FailedSession("some-id", "ServerError: 500", 8)])
        manifest = await export(store, tmp_path)
    assert not manifest.complete
    [failure] = manifest.failed
    assert (failure.id, failure.reason, failure.attempts) == ("some-id", "ServerError: 500", 8)


async def test_a_project_that_was_not_listed_to_its_end_is_not_called_complete(tmp_path):
    async with opened_empty(tmp_path / "archive.db") as store:
        assert not (await export(store, tmp_path)).complete


async def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    async with opened_empty(tmp_path / "archive.db") as store:
        with pytest.raises(ValueError, match="jsonl"):
            await export(store, tmp_path / "out", formats=["xls"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("formats", ["jsonl", ["jsonl"]])
async def test_a_format_may_be_named_alone_or_in_a_list(tmp_path, formats):
    async with opened_empty(tmp_path / "archive.db") as store:
        manifest = await export(store, tmp_path / "out", formats=formats)
        with pytest.raises(ValueError, match="'xls' is no format; choose from jsonl"):
            await export(store, tmp_path / "out", formats="xls")
    assert [each.name for each in manifest.files] == ["transcripts.jsonl"]


async def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    async with opened_empty(tmp_path / "archive.db") as store:
        with pytest.raises(
            StoreError, match=f"(Not a directory|File exists): {tmp_path / 'file'}. Use another folder"
        ):
            await export(store, tmp_path / "file")


async def test_a_file_that_is_not_finished_leaves_the_earlier_one_unchanged(tmp_path):
    path = tmp_path / "some.jsonl"
    async with WholeFile(path) as file:
        await file.write(lambda: b"first\n", rows=1)
    with pytest.raises(LookupError):
        async with WholeFile(path) as file:
            await file.write(lambda: b"second", rows=1)
            raise LookupError
    assert path.read_bytes() == b"first\n"
    assert list(tmp_path.iterdir()) == [path]


# Several projects in one folder.


async def export_of(store, folder, project, count, **options):
    """Sync and export *count* sessions of a world of its own as *project*."""
    async with Sandbox(World(count, seed=count)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        await sync(nt, store, project=project)
        return await export(store, folder, project=project, **options)


def ids_in(path):
    return {json.loads(line)["project"] for line in path.read_bytes().split(b"\n")[:-1]}


async def test_each_project_of_a_folder_has_a_file_of_its_own_and_all_are_in_the_manifest(tmp_path):
    async with Archive.open(tmp_path / "archive.db") as store:
        await export_of(store, tmp_path, "alpha", 5)
        manifest = await export_of(store, tmp_path, "beta", 7)
        assert (manifest.project, manifest.sessions, manifest.complete) == ("alpha", 12, True)
        assert [each.name for each in manifest.files] == ["transcripts.jsonl", "transcripts.beta.jsonl"]
        assert [(each.project, each.sessions) for each in manifest.projects] == [("alpha", 5), ("beta", 7)]
        again = await export(store, tmp_path, project="alpha")
    assert again.projects[1] == manifest.projects[1]
    assert ids_in(tmp_path / "transcripts.jsonl") == {"alpha"}
    assert ids_in(tmp_path / "transcripts.beta.jsonl") == {"beta"}
    report = await verify(tmp_path)
    assert (report.findings, report.notes) == ([], [])


@pytest.mark.parametrize("lost", ["transcripts.jsonl", "transcripts.beta.jsonl"])
async def test_a_lost_file_of_another_project_is_written_anew(tmp_path, lost):
    async with Archive.open(tmp_path / "archive.db") as store:
        await export_of(store, tmp_path, "alpha", 5)
        before = await export_of(store, tmp_path, "beta", 7)
        (tmp_path / lost).unlink()
        other = "alpha" if lost == "transcripts.jsonl" else "beta"
        own = "beta" if other == "alpha" else "alpha"
        manifest = await export(store, tmp_path, project=own)
    assert manifest.projects == before.projects
    assert ids_in(tmp_path / lost) == {other}


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
async def test_without_a_manifest_each_file_shows_its_project(tmp_path, content):
    async with Archive.open(tmp_path / "archive.db") as store:
        await export_of(store, tmp_path, "alpha", 5)
        await export_of(store, tmp_path, "beta", 7)
        (tmp_path / "manifest.json").unlink()
        if content is not None:
            (tmp_path / "manifest.json").write_bytes(content)
        manifest = await export(store, tmp_path, project="beta", overwrite=bool(content))
    assert [(each.project, each.sessions) for each in manifest.projects] == [("alpha", 5), ("beta", 7)]
    assert ids_in(tmp_path / "transcripts.jsonl") == {"alpha"}
    report = await verify(tmp_path)
    assert report.findings == []


async def test_verify_compares_a_project_after_another_one_was_synced(tmp_path):
    async with Archive.open(tmp_path / "archive.db") as store:
        await export_of(store, tmp_path, "alpha", 5)
        await export_of(store, tmp_path, "beta", 7)
        async with Sandbox(World(9, seed=5)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
            await sync(nt, store, project="alpha", server_moved=True, reconcile=True)
        report = await verify(tmp_path)
        assert report.findings == []
        assert ["alpha was synced since" in note for note in report.notes] == [True]
        # Whose file is written next does not matter.
        await export(store, tmp_path, project="beta")
    lines = (tmp_path / "transcripts.beta.jsonl").read_bytes()
    (tmp_path / "transcripts.beta.jsonl").write_bytes(lines.replace(b"user", b"uzer", 1))
    report = await verify(tmp_path)
    assert {each.where for each in report.findings} == {"transcripts.beta.jsonl"}
    report = await verify(tmp_path, project="alpha")
    assert report.findings == []


@given(st.lists(st.text(max_size=300) | st.sampled_from(["a", "A", "a~", "%61", ".", "../x"]), unique=True))
def test_no_two_projects_share_a_file_and_none_leaves_the_folder(projects):
    owners = {}
    for project in projects:
        name = name_of(project, owners)
        owners[name] = project
        assert name in candidates(project)
        assert Path(name).name == name
        assert len(name.encode()) < 200
        assert name.isascii()
    assert len({name.lower() for name in owners}) == len(projects)
    assert {project: name_of(project, owners) for project in projects} == {
        owner: name for name, owner in owners.items()
    }


# Files that are not ours.


NOT_OURS = {
    "some rows": ("transcripts.jsonl", lambda path: path.write_text('{"my": "own"}\n')),
    "no JSON": ("transcripts.jsonl", lambda path: path.write_bytes(b"\xff\xfe\0")),
    "a link": ("transcripts.jsonl", lambda path: path.symlink_to(path.parent / "elsewhere")),
    "a pipe": ("transcripts.jsonl", os.mkfifo),
    "a folder": ("manifest.json", os.mkdir),
    "a pipe as manifest": ("manifest.json", os.mkfifo),
    "a web app's manifest": ("manifest.json", lambda path: path.write_text('{"name": "app", "icons": []}')),
    "another tool's manifest": (
        "manifest.json",
        lambda path: path.write_text('{\n  "api": "x",\n  "project": "y",\n  "tool": "other 1.0"\n}\n'),
    ),
    "a manifest with a comment": (
        "manifest.json",
        lambda path: path.write_text('{\n  "api": "x", // mine\n  "project": "y"\n}\n'),
    ),
    "long rows of another": (
        "transcripts.jsonl",
        lambda path: path.write_text(f'{{"id":"1","messages":["{"x" * 200_000}"]}}\n'),
    ),
    "rows with names like ours": (
        "transcripts.jsonl",
        lambda path: path.write_text('{"project":"x","id":"1","api":"y","messages":[]}\n'),
    ),
    "a manifest with names like ours": (
        "manifest.json",
        lambda path: path.write_text('{\n  "complete": true,\n  "api": "x",\n  "project": "y"\n}\n'),
    ),
    "a log": ("transcripts.jsonl", lambda path: path.write_text('INFO "id": "x" "project": "y"\n')),
}


@pytest.mark.parametrize("what", NOT_OURS)
async def test_a_file_that_no_export_wrote_is_replaced_only_with_overwrite(tmp_path, what):
    name, make = NOT_OURS[what]
    (tmp_path / "elsewhere").write_text("mine")
    make(tmp_path / name)
    before = sorted(path.name for path in tmp_path.iterdir())
    async with opened_empty(tmp_path.with_name("elsewhere.db")) as store:
        with pytest.raises(StoreUnreachable, match="overwrite=True"):
            await export(store, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        if what != "a folder":
            await export(store, tmp_path, overwrite=True)
            assert (tmp_path / name).is_file()
            assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "mine"


@given(st.data())
@settings(max_examples=examples(30))
def test_exported_files_are_replaced_whichever_byte_of_them_is_damaged(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("out")
    asyncio.run(export_small(folder))
    path = folder / data.draw(st.sampled_from(["transcripts.jsonl", "manifest.json"]))
    good = path.read_bytes()
    place, byte = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 255))
    flipped = good[:place] + bytes([byte]) + good[place + 1 :]
    path.write_bytes(data.draw(st.sampled_from([good[: max(100, place)], flipped, b""])))
    asyncio.run(export_small(folder))
    assert (folder / "transcripts.jsonl").stat().st_size > 0
    read_manifest((folder / "manifest.json").read_bytes())


async def export_small(folder):
    async with Archive.open(folder / "archive.db") as store, Sandbox(World(2)) as box:
        async with NavTalkClient("k", base_url=box.navtalk_url) as nt:
            await sync(nt, store, server="sandbox")
            await export(store, str(folder))


async def test_an_empty_path_is_refused(tmp_path):
    async with opened_empty(tmp_path / "archive.db") as store:
        with pytest.raises(ValueError, match="empty"):
            await export(store, "")


# Modes.


async def test_new_files_and_folders_are_for_their_owner_alone_and_others_keep_their_modes(tmp_path):
    mode = lambda path: stat.S_IMODE(path.stat().st_mode)  # noqa: E731
    before = os.umask(0o022)
    try:
        async with opened_empty(tmp_path / "archive.db") as store:
            out = tmp_path / "new" / "folder"
            await export(store, out)
            assert [mode(each) for each in (out, out.parent)] == [0o700, 0o700]
            assert {mode(each) for each in out.iterdir()} == {0o600}
            for each in out.iterdir():
                each.chmod(0o640)
            out.chmod(0o755)
            await export(store, out)
            assert mode(out) == 0o755
            assert {mode(each) for each in out.iterdir()} == {0o640}
    finally:
        os.umask(before)


async def test_an_unfinished_file_is_for_its_owner_alone_and_follows_no_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "some.jsonl.partial").symlink_to(tmp_path / "mine")
    async with WholeFile(tmp_path / "some.jsonl") as file:
        assert stat.S_IMODE((tmp_path / "some.jsonl.partial").lstat().st_mode) == 0o600
        await file.write(lambda: b"ours\n", rows=1)
    assert (tmp_path / "mine").read_text() == "mine"
