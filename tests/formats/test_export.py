"""A store handed on as files."""

import asyncio
import hashlib
import json
import os
import sqlite3
import stat
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from snapshots import files_in

from navtalk_async import LexiconClient, NavTalkClient
from navtalk_async.archive import Archive, failpoints
from navtalk_async.archive.records import FailedSession, RunReport
from navtalk_async.errors import StoreError, StoreMismatch, StoreUnreachable
from navtalk_async.formats import export, read_manifest
from navtalk_async.formats._folder import candidates, canonical, label_of
from navtalk_async.formats._whole_file import WholeFile
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
            "format": "jsonl",
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
    async with WholeFile(path.parent, path.name) as file:
        await file.write(lambda: b"first\n", rows=1)
    with pytest.raises(LookupError):
        async with WholeFile(path.parent, path.name) as file:
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
        label = label_of(project, owners)
        owners[label] = project
        assert label in candidates(project)
        name = f"transcripts{label}.jsonl"
        assert Path(name).name == name
        assert len(name.encode()) < 200
        assert name.isascii()
    assert len({label.lower() for label in owners}) == len(projects)
    assert {project: label_of(project, owners) for project in projects} == {
        owner: label for label, owner in owners.items()
    }


# An export with nothing new.


@pytest.fixture
async def kept(address):
    """A store of two projects, with sessions that go on and one that failed."""
    async with Archive.open(address) as store:
        for project in ("alpha", "beta"):
            await synced_to(store, World(4), project)
            await store.record_failures(project, [FailedSession("some-id", "ServerError: 500", 8)])
        yield store


def exported_in(folder):
    """All files of an export; those beside an archive that is open come and go."""
    return {name: each for name, each in files_in(folder).items() if not name.endswith(("-wal", "-shm"))}


async def synced_to(store, world, project):
    async with Sandbox(world) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        await sync(nt, store, project=project, server="sandbox")


@pytest.mark.parametrize("projects", [["alpha"], ["alpha", "beta"]], ids=len)
@pytest.mark.parametrize("is_beside", [True, False], ids=["beside the archive", "elsewhere"])
async def test_an_export_with_nothing_new_touches_no_file(kept, tmp_path, projects, is_beside):
    folder = tmp_path if is_beside else tmp_path / "out"
    for project in projects:
        first = await export(kept, folder, project=project)
    if len(projects) > 1:
        # The second project's file has taken over the digest of the archive.
        first = await export(kept, folder, project="alpha")
    before, changed_at = exported_in(folder), (tmp_path / "out").exists() and folder.stat().st_mtime_ns
    for project in (*projects, *projects):
        assert await export(kept, folder, project=project, overwrite=project == "beta") == first
        assert exported_in(folder) == before
    # Nothing is made and removed again, either.
    assert is_beside or folder.stat().st_mtime_ns == changed_at


HARM = {
    "an edit": lambda data: data.replace(b'"user"', b'"USER"', 1),
    "a byte more": lambda data: data + b"x",
    "its end lost": lambda data: data[:-100],
    "all lost": lambda data: data[:0],
    "its first byte lost": lambda data: data[1:],
}


@pytest.mark.parametrize("is_beside", [True, False], ids=["beside the archive", "elsewhere"])
async def test_a_file_that_was_edited_is_written_again_and_one_that_was_touched_is_not(
    kept, tmp_path, is_beside
):
    folder = tmp_path if is_beside else tmp_path / "out"
    first = await export(kept, folder, project="alpha")
    path = folder / "transcripts.jsonl"
    good = path.read_bytes()
    os.utime(path, ns=(7, 7))
    assert await export(kept, folder, project="alpha") == first
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (good, 7)
    for harm in HARM.values():
        path.write_bytes(harm(good))
        # Neither its size nor its time says what is in it.
        os.utime(path, ns=(7, 7))
        assert await export(kept, folder, project="alpha") == first
        assert path.read_bytes() == good
    path.unlink()
    assert await export(kept, folder, project="alpha") == first
    assert path.read_bytes() == good
    assert read_manifest((folder / "manifest.json").read_bytes()) == first


async def test_a_file_is_written_again_only_when_something_in_it_changed(kept, tmp_path):
    for project in ("alpha", "beta"):
        await export(kept, tmp_path, project=project)
    before = exported_in(tmp_path)
    world = World(4)
    world.add_session()
    await synced_to(kept, world, "beta")
    for project in ("alpha", "beta"):
        await export(kept, tmp_path, project=project)
    # What is recorded of a run is in no file.
    await kept.record_run("alpha", RunReport(error="stopped"))
    manifest = await export(kept, tmp_path, project="alpha")
    after = exported_in(tmp_path)
    changed = {name for name in before if before[name] != after[name]} - {"archive0.db"}
    assert changed == {"manifest.json", "transcripts.beta.jsonl"}
    about = {each.project: each.changes for each in await kept.projects()}
    assert {each.project: each.changes for each in manifest.projects} == about


async def test_a_manifest_of_another_version_or_a_damaged_one_is_replaced_alone(kept, tmp_path):
    first = await export(kept, tmp_path, project="alpha")
    path, before = tmp_path / "manifest.json", exported_in(tmp_path)
    for content in (
        canonical(msgspec.structs.replace(first, tool="navtalk-async 0")),
        b"",
        path.read_bytes()[9:],
    ):
        path.write_bytes(content)
        await export(kept, tmp_path, project="alpha", overwrite=True)
        assert (
            msgspec.structs.replace(
                read_manifest(path.read_bytes()), written_at=first.written_at, digest=first.digest
            )
            == first
        )
    after = exported_in(tmp_path)
    assert {name for name in before if before[name] != after[name]} <= {"manifest.json"}


class Stopped(Exception):
    pass


async def test_an_export_that_ends_anywhere_leaves_no_manifest_of_files_that_are_not_there(kept, tmp_path):
    await export(kept, tmp_path, project="alpha")
    world, number, is_done = World(4), 0, False
    while not is_done:
        number += 1
        world.add_session()
        await synced_to(kept, world, "alpha")
        arrived = count(1)

        def stop(_name, arrived=arrived, number=number):
            if next(arrived) == number:
                raise Stopped

        failpoints.arm(stop)
        try:
            await export(kept, tmp_path, project="alpha")
            is_done = True
        except Stopped:
            pass
        finally:
            failpoints.arm(None)
        if (tmp_path / "manifest.json").exists():
            for each in read_manifest((tmp_path / "manifest.json").read_bytes()).files:
                content = (tmp_path / each.name).read_bytes()
                assert hashlib.sha256(content).hexdigest() == each.sha256
    assert number > 10
    assert not list(tmp_path.glob("*.partial"))


async def test_damage_in_the_archive_is_found_though_nothing_is_new(tmp_path):
    async with Archive.open(tmp_path / "archive.db") as store:
        for project in ("alpha", "beta"):
            await export_of(store, tmp_path, project, 5)
    with closing(sqlite3.connect(tmp_path / "archive.db")) as db, db:
        db.execute("UPDATE messages SET content = 'wrong' WHERE project = 'beta'")
    async with Archive.open(tmp_path / "archive.db") as store:
        for project, is_complete in (("alpha", True), ("beta", False), ("alpha", False), ("beta", False)):
            assert (await export(store, tmp_path, project=project)).complete == is_complete


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
    async with WholeFile(tmp_path, "some.jsonl") as file:
        assert stat.S_IMODE((tmp_path / "some.jsonl.partial").lstat().st_mode) == 0o600
        await file.write(lambda: b"ours\n", rows=1)
    assert (tmp_path / "mine").read_text() == "mine"
