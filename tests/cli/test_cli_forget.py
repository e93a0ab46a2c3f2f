"""`navtalk forget` and `verify --forgotten`, as people and scripts meet them."""

from hashlib import sha256

import msgspec
import pytest
from command_runs import command_runner
from postgres_box import new_schema

from navtalk_async.archive import Archive
from navtalk_async.archive._forget import digest_of
from navtalk_async.formats._media_index import Link, MediaEntry, MediaIndex
from navtalk_async.sandbox import Sandbox, World

KEY = {"NAVTALK_API_KEY": "k"}


@pytest.fixture
async def commands():
    async with command_runner() as commands:
        yield commands


def canary_world():
    world = World(6, messages=2)
    for each in world.sessions:
        world.add_message(each["id"], f"canary {each['id']}")
    return world


async def with_media(folder, *sessions):
    """Recordings of these *sessions*."""
    async with MediaIndex(folder / "media") as index:
        for each in sessions:
            link = Link("default", each, None, f"https://v.example/{each}")
            name = f"{link.folder}/{'0' * 16}.mp4"
            file = folder / "media" / name
            file.parent.mkdir()
            file.write_bytes(b"said " + each.encode())
            facts = {"bytes": file.stat().st_size, "sha256": sha256(file.read_bytes()).hexdigest()}
            index.add(msgspec.structs.replace(MediaEntry.of(link), name=name, **facts))


def files_with(folder, text):
    return {
        str(each.relative_to(folder))
        for each in folder.rglob("*")
        if each.is_file() and text.encode() in str(each).encode() + each.read_bytes()
    }


async def test_what_was_exported_of_it_is_named_and_then_removed(commands, tmp_path):
    out = tmp_path / "out"
    async with Sandbox(canary_world()) as box:
        export = ("export", out, "--base-url", box.url)
        assert (await commands.run(*export, env=KEY)).code == 0
        transcripts = (out / "transcripts.jsonl").read_bytes()
        gone, stays = (box.world.sessions[number]["id"] for number in (1, 2))
        await with_media(out, gone, stays)
        # What an export that was killed left, and what is none of ours.
        (out / "transcripts.jsonl.partial").write_text(f"canary {gone}")
        for name in ("video.partial", "transcripts.mine.jsonl", "notes.txt"):
            (out / name).write_text("mine")

        would = await commands.run("forget", out, "--session", gone, "--dry-run", "--json", env={})
        assert (would.code, would.rows[0]["sessions"], would.rows[0]["messages"]) == (0, [gone], 3)
        assert "Would erase 1 session with 3 messages." in would.err
        named = await commands.run("forget", out, "--session", gone, "--json", env={})
        held = {"manifest.json", "transcripts.jsonl", "transcripts.jsonl.partial", "media/media.jsonl"}
        assert named.code == 3
        assert {each.removeprefix(f"{out}/") for each in named.rows[0]["files"]} == held | {f"media/{gone}"}
        checked = await commands.run("verify", out, "--forgotten", "--json", env={})
        found = {each["where"].removeprefix(f"{out}/") for each in checked.rows[0]["findings"]}
        assert (checked.code, held - found) == (6, set())
        assert "`navtalk forget" in checked.err

        removed = await commands.run("forget", out, "--session", gone, "--files", env={})
        assert removed.code == 0, removed.err
        assert "Removed 5 files:" in removed.err
        assert files_with(out, gone) == set()
        assert files_with(out, "mine") == {"video.partial", "transcripts.mine.jsonl", "notes.txt"}
        assert f"media/{stays}/{'0' * 16}.mp4" in files_with(out, stays)
        checked = await commands.run("verify", out, "--forgotten", env={})
        assert (checked.code, "There is no manifest.json" in checked.err) == (0, True), checked.err
        (out / "transcripts.jsonl").write_bytes(transcripts)
        checked = await commands.run("verify", out, env={})
        assert (checked.code, "manifest.json: is missing" in checked.err) == (6, True), checked.err

        assert (await commands.run(*export, env=KEY)).code == 0
        checked = await commands.run("verify", out, "--forgotten", env={})
        assert checked.code == 0, checked.err
        assert "Searched for 1 forgotten session." in checked.err
        assert files_with(out, gone) == set()
        assert (out / "transcripts.jsonl").read_bytes().count(b"\n") == 5


async def test_other_files_beside_an_archive_are_left_alone(commands, tmp_path):
    async with Archive.open(tmp_path / "a.db") as archive:
        await archive.begin("default", api="navtalk", scope="{}")
    for name in ("transcripts.jsonl.partial", "notes.md.partial", "manifest.json", "transcripts.jsonl"):
        (tmp_path / name).write_text("mine")
    done = await commands.run("forget", tmp_path / "a.db", "--session", "x", "--files", env={})
    assert done.code == 0, done.err
    assert len(files_with(tmp_path, "mine")) == 4


async def test_a_change_says_that_a_session_was_forgotten(commands, tmp_path):
    place = tmp_path / "a.db"
    async with Sandbox(World(3, messages=2)) as box:
        sync = ("sync", place, "--base-url", box.url)
        assert (await commands.run(*sync, env=KEY)).code == 0
        token = (await commands.run("changes", place, env={})).rows[-1]["token"]
        gone = box.world.sessions[1]["id"]
        assert (await commands.run("forget", place, "--before", "2100-01-01", env={})).code == 0
        for how in ((), ("--transcripts",)):
            rows = (await commands.run("changes", place, "--after", token, *how, env={})).rows
            assert [each["what"] for each in rows] == ["forgotten"] * 3
            hashes = {each["session"]["sha256"] for each in rows}
            assert digest_of(rows[0]["session"]["salt"], "default", gone) in hashes
        assert gone not in (await commands.run("changes", place, env={})).out


async def test_what_cannot_be_right_is_refused_in_words(commands, tmp_path):
    async with Archive.open(tmp_path / "a.db") as archive:
        await archive.begin("default", api="navtalk", scope="{}")
    for options, why in (
        ((), "Give one of --session, --user and --before."),
        (("--user", "ann", "--before", "2025-01-01"), "Give one of --session, --user and --before."),
        (("--before", "soon"), "'soon' is not a time"),
        (("--user", "ann", "--project", "none"), "no project 'none'"),
    ):
        refused = await commands.run("forget", tmp_path / "a.db", *options, env={})
        assert (refused.code, why in refused.err) == (2, True), refused.err
    missing = await commands.run("forget", tmp_path / "b.db", "--user", "ann", env={})
    assert missing.code == 2
    assert not (tmp_path / "b.db").exists()


async def test_an_option_for_users_says_so_where_an_api_has_none(commands, tmp_path):
    for api, has_users in (("navtalk", False), ("lexicon", True)):
        place = tmp_path / f"{api}.db"
        async with Archive.open(place) as archive:
            await archive.begin("default", api=api, scope="{}")
        for command in (
            ("forget", place, "--dry-run"),
            ("search", place, "hi"),
            ("sessions", "--store", place),
        ):
            done = await commands.run(*command, "--user", "4711", env={})
            assert (done.code, "have no user: --user finds none" in done.err) == (0, not has_users), done.err


async def test_a_server_has_no_folder_and_a_log_of_its_own(commands, postgres):
    place = await new_schema(postgres)
    async with Archive.open(place) as archive:
        await archive.begin("default", api="navtalk", scope="{}")
    refused = await commands.run("forget", place, "--user", "ann", "--files", env={})
    assert (refused.code, "give --dest" in refused.err) == (2, True)
    done = await commands.run("forget", place, "--user", "ann", env={})
    assert (done.code, "Erased 0 sessions" in done.err, "(WAL)" in done.err) == (0, True, True)
