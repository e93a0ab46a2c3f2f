"""A store handed on as files."""

import hashlib
import json

import pytest

from navtalk_async import NavTalkClient
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.errors import StoreError
from navtalk_async.export.export import write_files
from navtalk_async.export.files import WholeFile
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.store.sqlite import SqliteStore
from navtalk_async.store.store import Failed
from navtalk_async.sync import sync

SESSION = {"id": "id", "startTime": "start_time", "endTime": "end_time", "videoUrl": "video_url"}
MESSAGE = {"id": "id", "content": "content", "createdAt": "created_at", "messageType": "type"}


@pytest.fixture
async def exported(tmp_path):
    """Export a world; gives the lines of transcripts.jsonl and the manifest."""

    async def export(world, **options):
        async with (
            Sandbox(world) as box,
            NavTalkClient("k", base_url=box.navtalk_url) as nt,
            SqliteStore(tmp_path / "archive.db") as store,
        ):
            await sync(nt, store)
            await write_files(store, tmp_path, dialect=nt.dialect, **options)
        lines = (tmp_path / "transcripts.jsonl").read_bytes().split(b"\n")
        assert lines.pop() == b""
        return [json.loads(line) for line in lines], json.loads((tmp_path / "manifest.json").read_bytes())

    return export


def iso(text):
    return text and text.replace(" ", "T") + "Z"


async def test_every_session_is_a_line_in_listed_order_with_all_its_fields(exported):
    world = World(120)
    lines, _ = await exported(world)
    words = {0: "active", 1: "completed", 2: "failed"}
    for line, session in zip(lines, world.sessions, strict=True):
        assert {name: line[name] for name in ("id", "status", "start_time", "end_time", "video_url")} == {
            "id": session["id"],
            "status": words[session["status"]],
            "start_time": iso(session["startTime"]),
            "end_time": iso(session["endTime"]),
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
                "created_at": iso(message["createdAt"]),
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


async def test_the_manifest_vouches_for_what_was_written(exported, tmp_path):
    world = World(60)
    lines, manifest = await exported(world, filters={"status": "completed"})
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
    assert manifest["filters"] == {"status": "completed"}


async def test_the_same_store_gives_the_same_bytes(exported, tmp_path):
    await exported(World(60))
    first = (tmp_path / "transcripts.jsonl").read_bytes()
    await exported(World(60))
    assert (tmp_path / "transcripts.jsonl").read_bytes() == first


async def test_failed_sessions_are_told_and_the_files_are_not_called_complete(tmp_path):
    async with SqliteStore(tmp_path / "archive.db") as store:
        await store.claim("default", api="navtalk", scope="{}")
        await store.fail("default", [Failed("some-id", "ServerError: 500", 8)])
        manifest = await write_files(store, tmp_path, dialect=NavTalk())
    assert not manifest.complete
    [failure] = manifest.failed
    assert (failure.id, failure.reason, failure.attempts) == ("some-id", "ServerError: 500", 8)


async def test_what_was_never_listed_to_its_end_is_not_called_complete(tmp_path):
    async with SqliteStore(tmp_path / "archive.db") as store:
        assert not (await write_files(store, tmp_path, dialect=NavTalk())).complete


async def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    async with SqliteStore(tmp_path / "archive.db") as store:
        with pytest.raises(ValueError, match="jsonl"):
            await write_files(store, tmp_path / "out", dialect=NavTalk(), formats=["xls"])
    assert not (tmp_path / "out").exists()


async def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    async with SqliteStore(tmp_path / "archive.db") as store:
        with pytest.raises(StoreError, match="cannot be written to"):
            await write_files(store, tmp_path / "file", dialect=NavTalk())


async def test_a_file_that_is_broken_off_leaves_the_earlier_one_as_it_was(tmp_path):
    path = tmp_path / "some.jsonl"
    async with WholeFile(path) as file:
        await file.write(lambda: b"first\n", rows=1)
    with pytest.raises(LookupError):
        async with WholeFile(path) as file:
            await file.write(lambda: b"second", rows=1)
            raise LookupError
    assert path.read_bytes() == b"first\n"
    assert list(tmp_path.iterdir()) == [path]
