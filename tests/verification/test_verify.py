"""A good archive passes, and a change of any byte, row or session of it is found."""

import asyncio
import json
import random
import shutil
import signal
import sqlite3
import sys
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_box import new_schema
from profiles import examples

from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive, failpoints
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker
from navtalk_async.archive.rows import digest
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.errors import ServerError, StoreBroken, StoreMismatch, StoreUnreachable
from navtalk_async.formats import export
from navtalk_async.formats._folder import canonical, read_manifest
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import Remedy, Report, verify
from navtalk_async.verification._local import compare_digest
from navtalk_async.verification._remote import MANY, differences, sample_places
from navtalk_async.wire.retry import Retry

SESSIONS = 24
FLIPS = 120
FILES = ("manifest.json", "transcripts.jsonl", "archive.db")


def world():
    return World(SESSIONS, seed=5, unknown_fields=True)


async def export_to(folder, box, **options):
    async with (
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
        Archive.open(folder / "archive.db") as store,
    ):
        await sync(nt, store, server="sandbox", **options)
        await export(store, folder)


async def sync_to(folder, box, **options):
    async with (
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
        Archive.open(folder / "archive.db") as store,
    ):
        return await sync(nt, store, server="sandbox", **options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export, to be copied."""
    folder = tmp_path_factory.mktemp("exported")

    async def export():
        async with Sandbox(world()) as box:
            await export_to(folder, box)

    asyncio.run(export())
    return folder


@pytest.fixture
def out(exported, tmp_path):
    """A good export of one's own."""
    return shutil.copytree(exported, tmp_path / "out")


async def verified_alone(folder):
    return await verify(folder / "archive.db")


def findings_of(report):
    return [str(each) for each in report.findings]


def change(folder, *statements):
    """Do something to the archive that no sync would."""
    with sqlite3.connect(folder / "archive.db") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def flipped(data, offset, by):
    return data[:offset] + bytes([data[offset] ^ by]) + data[offset + 1 :]


# Nothing is found where nothing is wrong.


@pytest.mark.parametrize("quick", [True, False])
async def test_nothing_is_wrong_with_a_good_export(out, quick):
    report = await verify(out, quick=quick)
    assert findings_of(report) == report.notes == []
    assert report.checked.files == 2
    assert report.checked.sessions == (0 if quick else SESSIONS)
    assert {each.name for each in out.iterdir()} == {*FILES}


async def test_nothing_is_wrong_with_an_archive_alone(out):
    report = await verified_alone(out)
    assert findings_of(report) == []
    assert report.checked.messages == world().total_messages


@pytest.mark.parametrize("quick", [True, False])
async def test_nothing_is_wrong_with_an_export_whose_archive_was_synced_since(out, quick):
    async with Sandbox(world()) as box:
        fresh = box.world.add_session()
        box.world.add_message(fresh["id"], "the news")
        await sync_to(out, box)
        report = await verify(out, quick=quick)
        assert findings_of(report) == []
        assert "synced since" in report.notes[0]
        await export_to(out, box)
        assert findings_of(await verify(out)) == []


async def test_nothing_is_wrong_after_a_sync_that_found_nothing_new(out):
    async with Sandbox(world()) as box:
        await sync_to(out, box)
        await sync_to(out, box)
    assert findings_of(await verify(out)) == []


async def test_nothing_is_wrong_after_syncs_of_another_project_that_found_nothing(out):
    async with Archive.open(out / "archive.db") as store:
        await store.begin("other", api="navtalk", scope="{}")
    assert findings_of(await verify(out)) == []
    async with Archive.open(out / "archive.db") as store:
        await store.begin("other", api="navtalk", scope='{"role":1}')
        await export(store, out)
    async with Archive.open(out / "archive.db") as store:
        await store.begin("other", api="navtalk", scope='{"role":0}')
    assert findings_of(await verify(out)) == []


KILLED = """
import asyncio, os, signal, sys
from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive, failpoints
from navtalk_async.ingest import sync

left = int(sys.argv[3])

def reached(name):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with NavTalkClient("k", base_url=sys.argv[1]) as nt, Archive.open(sys.argv[2]) as store:
        failpoints.arm(reached)
        await sync(nt, store, server="sandbox")

asyncio.run(main())
"""


@pytest.mark.parametrize("place", [1, 3, 4, 7, 8, 9, 11, 14, 19])
async def test_nothing_is_wrong_after_a_sync_that_was_killed_half_way(out, place):
    async with Sandbox(world()) as box:
        for _ in range(5):
            fresh = box.world.add_session()
            box.world.add_message(fresh["id"], "the news")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, box.navtalk_url, out / "archive.db", str(place)
        )
        assert await process.wait() == -signal.SIGKILL
        assert findings_of(await verify(out)) == []
        await export_to(out, box)
    assert findings_of(await verify(out)) == []


async def test_an_archive_in_use_is_read_all_the_same(out):
    async with Archive.open(out / "archive.db") as store:
        assert findings_of(await verify(out)) == []
        await store.begin("other", api="navtalk", scope="{}")
        assert findings_of(await verify(out)) == []


async def test_an_archive_elsewhere_has_no_checksum(tmp_path):
    async with Sandbox(world()) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with Archive.open(tmp_path / "archive.db") as store:
            await sync(nt, store)
            manifest = await export(store, tmp_path / "out")
    assert manifest.archive is None
    assert findings_of(await verify(tmp_path / "out")) == []


# Damage to files.


@pytest.mark.parametrize("name", FILES)
async def test_every_flipped_byte_is_found(out, name):
    path = out / name
    good = path.read_bytes()
    # The header and the last bytes, and any others.
    offsets = {*range(0, 100, 3), len(good) - 1}
    while len(offsets) < min(FLIPS, len(good)):
        offsets.add(random.randrange(len(good)))
    unseen = []
    for offset in sorted(offsets):
        by = random.randrange(1, 256)
        path.write_bytes(flipped(good, offset, by))
        report = await verify(out, quick=offset % 4 > 0)
        if all(each.where.split(",")[0] != name for each in report.findings):
            unseen.append((offset, by))
    assert unseen == []


async def test_a_flipped_byte_is_found_where_the_archive_counts_its_changes(out):
    # What looks like a sync and is none: every byte of the project's row, and of what stands around it.
    path = out / "archive.db"
    good = path.read_bytes()
    begin = good.index(b"navtalksandbox{}") - 30
    for offset in range(begin, begin + 330):
        by = random.randrange(1, 256)
        path.write_bytes(flipped(good, offset, by))
        assert (await verify(out, quick=True)).findings, (offset, by)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
async def test_a_truncated_file_is_found(out, name, share):
    path = out / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    for quick in (True, False):
        assert any(each.where == name for each in (await verify(out, quick=quick)).findings)


@pytest.mark.parametrize("name", FILES)
async def test_a_missing_or_foreign_file_is_found(out, name):
    (out / name).unlink()
    assert any(each.where == name for each in (await verify(out)).findings)
    (out / name).write_bytes(b"something else altogether\n" * 99)
    assert any(each.where == name for each in (await verify(out)).findings)
    (out / name).unlink()
    (out / name).mkdir()
    assert any(each.where == name for each in (await verify(out)).findings)


async def test_an_older_copy_of_the_archive_is_found(out, tmp_path):
    shutil.copy(out / "archive.db", tmp_path / "older.db")
    async with Sandbox(world()) as box:
        box.world.add_session()
        await export_to(out, box)
    shutil.copy(tmp_path / "older.db", out / "archive.db")
    [finding] = (await verify(out, quick=True)).findings
    assert "older than the export by" in finding.what


LINES = {
    "is missing": lambda lines: lines[:5] + lines[6:],
    "a second time": lambda lines: [*lines[:5], lines[4], *lines[5:]],
    "out of order": lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]],
    "differs from the archive": lambda lines: [
        *lines[:5],
        lines[5].replace(b'"role":"user"', b'"role":"assistant"', 1),
        *lines[6:],
    ],
    "cannot be parsed": lambda lines: [*lines[:5], lines[5][:-30], *lines[6:]],
    "breaks off": lambda lines: [*lines[:-1], lines[-1] + b" "],
}


@pytest.mark.parametrize("what", LINES)
async def test_lines_that_differ_from_the_archive_are_found_though_the_manifest_lists_them(out, what):
    path = out / "transcripts.jsonl"
    lines = LINES[what](path.read_bytes().split(b"\n")[:-1])
    data = b"".join(each + b"\n" for each in lines)
    path.write_bytes(data.removesuffix(b"\n") if what == "breaks off" else data)
    await list_as_they_are(out)
    assert not [each for each in findings_of(await verify(out, quick=True)) if "SHA-256" in each]
    assert any(what in each for each in findings_of(await verify(out)))


async def list_as_they_are(folder):
    """Make the manifest say what the files are, as a program with a bug would have."""
    manifest = read_manifest((folder / "manifest.json").read_bytes())
    path = folder / "transcripts.jsonl"
    data = path.read_bytes()
    [file] = manifest.files
    file = msgspec.structs.replace(
        file, bytes=len(data), rows=data.count(b"\n"), sha256=sha256(data).hexdigest()
    )
    projects = [msgspec.structs.replace(each, files=[file]) for each in manifest.projects]
    manifest = msgspec.structs.replace(manifest, files=[file], projects=projects)
    (folder / "manifest.json").write_bytes(canonical(manifest))


@pytest.mark.parametrize("what", LINES)
async def test_the_same_export_mends_the_files(out, what):
    path = out / "transcripts.jsonl"
    path.write_bytes(b"".join(each + b"\n" for each in LINES[what](path.read_bytes().split(b"\n"))))
    findings = (await verify(out)).findings
    assert {each.remedy for each in findings} == {Remedy.EXPORT}
    async with Sandbox(world()) as box:
        await export_to(out, box)
    assert findings_of(await verify(out)) == []


# Damage to the archive.


A_MESSAGE = "(SELECT id FROM messages ORDER BY session_id, position LIMIT 1)"
A_SESSION = "(SELECT session_id FROM sync_sessions WHERE messages > 3 ORDER BY session_id LIMIT 1)"

HARM = {
    "a message is missing": f"DELETE FROM messages WHERE id = {A_MESSAGE}",
    "a last message is missing": f"""DELETE FROM messages WHERE session_id = {A_SESSION}
        AND position = (SELECT MAX(position) FROM messages WHERE session_id = {A_SESSION})""",
    "a session is missing": f"DELETE FROM sessions WHERE id = {A_SESSION}",
    "nothing is known of a session": f"DELETE FROM sync_sessions WHERE session_id = {A_SESSION}",
    "a message is doubled": f"""INSERT INTO messages
        (project, id, session_id, position, role, type, content, created_at, raw)
        SELECT project, id || '-2', session_id, position + 1, role, type, content, created_at, raw
        FROM messages WHERE session_id = {A_SESSION} AND position = 2""",
    "two messages are swapped": f"""UPDATE messages SET position = 1 - position
        WHERE session_id = {A_SESSION} AND position < 2""",
    "a position is skipped": f"UPDATE messages SET position = 99 WHERE id = {A_MESSAGE}",
    "a message is in another session": f"""UPDATE messages SET session_id = {A_SESSION}
        WHERE session_id <> {A_SESSION} AND position = 0""",
    "a text is another": f"UPDATE messages SET content = content || '!' WHERE id = {A_MESSAGE}",
    "a role is another": f"UPDATE messages SET role = 'nobody' WHERE id = {A_MESSAGE}",
    "a time is another": f"UPDATE messages SET created_at = '2020-01-01T00:00:00Z' WHERE id = {A_MESSAGE}",
    "a raw object is another": f"UPDATE messages SET raw = replace(raw, ':', ' :') WHERE id = {A_MESSAGE}",
    "a raw object is none": f"UPDATE messages SET raw = 'x' WHERE id = {A_MESSAGE}",
    "a raw object is bytes": f"UPDATE messages SET raw = x'ff00' WHERE id = {A_MESSAGE}",
    "a session's raw object is another": f"UPDATE sessions SET raw = '{{}}' WHERE id = {A_SESSION}",
    "a session's begin is another": f"UPDATE sessions SET start_time = NULL WHERE id = {A_SESSION}",
    "a session's begin is a number": f"UPDATE sessions SET start_time = 7 WHERE id = {A_SESSION}",
    "a session's status is another": f"UPDATE sessions SET status = 9 WHERE id = {A_SESSION}",
    "a session's hash is another": f"UPDATE sessions SET content_hash = 'x' WHERE id = {A_SESSION}",
    "an API is none": "UPDATE sync_projects SET api = 'smoke signals'",
    "a note is none": "UPDATE sync_projects SET last_run = 'yesterday'",
}


@pytest.mark.parametrize("harm", HARM)
async def test_harm_to_an_archive_is_found_with_and_without_its_files(out, harm):
    change(out, HARM[harm])
    assert (await verified_alone(out)).findings
    assert any("archive.db" in each for each in findings_of(await verify(out, quick=True)))
    findings = (await verify(out)).findings
    is_lost = harm in ("an API is none", "a note is none")
    assert (Remedy.COPY if is_lost else Remedy.REPAIR) in {each.remedy for each in findings}


async def test_a_wrong_order_is_found_where_no_digest_was_noted(out):
    change(out, "UPDATE sync_sessions SET digest = NULL")
    assert findings_of(await verified_alone(out)) == []
    change(out, HARM["two messages are swapped"])
    assert "order of their times" in " ".join(findings_of(await verified_alone(out)))


async def test_flipped_bytes_in_an_archive_alone_are_never_a_traceback(out):
    path = out / "archive.db"
    good = path.read_bytes()
    for offset in random.sample(range(len(good)), 60):
        path.write_bytes(flipped(good, offset, 1 << random.randrange(8)))
        try:
            await verified_alone(out)
        except (StoreBroken, StoreMismatch):
            continue


async def test_an_export_of_a_damaged_archive_leaves_out_and_names_what_is_damaged(out):
    change(out, HARM["a raw object is none"])
    async with Archive.open(out / "archive.db") as store:
        manifest = await export(store, out)
    [damaged] = manifest.failed
    assert damaged.damaged
    assert "raw object" in damaged.reason
    assert (manifest.complete, manifest.sessions) == (False, SESSIONS - 1)
    assert damaged.id not in (out / "transcripts.jsonl").read_text()
    # The files are what the manifest says, and the archive is not as it should be.
    assert {each.where.split(",")[0] for each in (await verify(out)).findings} == {"archive.db"}


columns = st.tuples(st.text(max_size=3), st.integers(0, 2), st.none() | st.text(max_size=3))


@given(rows=st.lists(columns, max_size=6, unique_by=lambda row: row[0]), data=st.data())
def test_a_digest_shows_an_added_a_lost_and_a_moved_row(rows, data):
    other = data.draw(
        st.permutations(rows) | st.lists(st.sampled_from(rows), max_size=7) if rows else st.just([])
    )
    assert (digest(rows) == digest(other)) == (rows == other)


@given(st.integers(0, 9), st.integers(0, 9), st.booleans(), st.booleans())
def test_a_sync_leaves_both_its_traces_and_every_other_change_is_found(exported, now, same_state, same_bytes):
    digest = ArchiveDigest(name="archive.db", bytes=1, sha256="a", changes=exported, state="s")
    marker = ChangeMarker(now, "s" if same_state else "t")
    was_synced, what = compare_digest(digest, (1, "a" if same_bytes else "b"), marker)
    assert was_synced == (now > exported and not same_state)
    if not was_synced:
        assert bool(what) == (now != exported or not same_bytes)


# The manifest.


@settings(max_examples=examples(50))
@given(st.data())
def test_a_manifest_with_an_added_lost_or_changed_byte_is_refused(exported, data):
    good = (exported / "manifest.json").read_bytes()
    read_manifest(good)
    place = data.draw(st.integers(0, len(good) - 1))
    byte = bytes([data.draw(st.integers(0, 255))])
    for bad in (good[:place] + byte + good[place:], good[:place] + good[place + 1 :], good + byte):
        if bad != good:
            with pytest.raises(ValueError, match=r"^(is no manifest|has no digest|does not match)"):
                read_manifest(bad)


async def test_a_manifest_of_the_first_version_is_reported_as_such(out):
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["digest"], manifest["archive"]
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    [finding] = (await verify(out)).findings
    assert "no digest" in finding.what
    assert finding.remedy is Remedy.EXPORT


async def test_nothing_is_written_to_the_archive_after_its_digest(tmp_path):
    seen = []
    async with Sandbox(world()) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with Archive.open(tmp_path / "archive.db") as store:
            await sync(nt, store)
            manifest = await export(store, tmp_path)
            seen.append((tmp_path / "archive.db").read_bytes())
            await store.counts("default")
            async with Archive.open(tmp_path / "archive.db", read_only=True) as reader:
                await reader.flaws("default")
    seen.append((tmp_path / "archive.db").read_bytes())
    assert seen[0] == seen[1]
    assert len(seen[0]) == manifest.archive.bytes


async def test_every_step_of_a_file_to_the_disk_has_a_name(tmp_path):
    async with Sandbox(world()) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with Archive.open(tmp_path / "archive.db") as store:
            await sync(nt, store)
            names = []
            failpoints.arm(names.append)
            try:
                await export(store, tmp_path)
            finally:
                failpoints.arm(None)
    first = names.index("file: before rename")
    assert names[first - 2 : first] == ["manifest: before unlink", "manifest: after unlink"]
    assert names.count("file: after fsync of the folder") == 2
    for name in ("file: before write", "file: after write", "file: before fsync", "file: before rename"):
        assert names.count(name) >= 2
    assert names.index("digest: before checkpoint") > names.index("file: after rename")


# The API, asked again.


async def remote(folder, box, **options):
    retry = Retry(attempts=2, base_seconds=0.01)
    async with NavTalkClient("k", base_url=box.navtalk_url, retry=retry) as nt:
        return await verify(folder / "archive.db", client=nt, remote=1, server="sandbox", **options)


def completed(box):
    """Sessions that are final, and long ago."""
    return [each["id"] for each in box.world.sessions if each["status"] == 1 and each["endTime"]]


async def test_an_archive_that_is_up_to_date_is_as_the_api_has_it(out):
    async with Sandbox(world()) as box:
        report = await remote(out, box)
        assert findings_of(report) == report.notes == []
        assert report.checked.asked == SESSIONS


@pytest.mark.parametrize("count", [1, 5])
async def test_a_session_that_cannot_be_fetched_keeps_no_other_from_being_compared(out, count):
    async with Sandbox(world()) as box:
        bad, stale = completed(box)[:count], completed(box)[-1]
        box.world.add_message(stale, "too late")
        for each in bad:
            box.fail_next("500", 1000, each)
        report = await remote(out, box)
        assert [stale in each for each in findings_of(report)] == [True]
        assert (report.checked.asked, report.checked.unasked) == (SESSIONS - count, count)
        [note] = report.notes
        assert f"{count} of {SESSIONS} sessions could not be fetched" in note
        assert sum(each in note for each in bad) == min(count, 3)
        assert "ServerError" in note
        assert ("and 2 more" in note) == (count == 5)


async def test_a_server_that_fails_for_every_session_is_an_error(out):
    async with Sandbox(world()) as box:
        box.fail_next("500", 1000)
        with pytest.raises(ServerError):
            await remote(out, box)


@pytest.mark.parametrize("failing", [MANY - 1, MANY])
async def test_a_server_that_fails_for_many_in_a_row_is_asked_no_more(tmp_path, failing):
    async with (
        Sandbox(World(2 * MANY + 2, messages=1)) as box,
        NavTalkClient("k", base_url=box.navtalk_url, retry=Retry(attempts=1)) as nt,
    ):
        async with Archive.open(tmp_path / "archive.db") as store:
            await sync(nt, store)
            ids = [each.session.id async for each in store.transcripts()]
        # One that can be fetched stands before either row of failures.
        for each in (*ids[1:MANY], *ids[MANY + 1 : MANY + 1 + failing]):
            box.fail_next("500", 1000, each)
        report = Report()
        wish = verify(tmp_path, client=nt, remote=1, concurrency=1, report=report)
        if failing < MANY:
            await wish
            assert report.checked.asked == len(ids) - 2 * (MANY - 1)
        else:
            with pytest.raises(ServerError):
                await wish
            assert report.checked.asked == 2
        assert report.checked.unasked == MANY - 1 + failing


STALE = {
    "its session changed at the API": lambda box, each: box.world.change_session(each, status=2),
    "is missing here": lambda box, each: box.world.add_message(each, "too late"),
    "stale: the API no longer has it": lambda box, each: box.world.remove_session(each),
}


@pytest.mark.parametrize("what", STALE)
async def test_a_session_that_changed_at_the_api_is_found_and_named(out, what):
    async with Sandbox(world()) as box:
        stale = completed(box)[3]
        STALE[what](box, stale)
        report = await remote(out, box)
        assert [stale in each and what in each for each in findings_of(report)] == [True]
        assert {each.remedy for each in report.findings} == {Remedy.SYNC}


@given(st.data())
def test_what_differs_at_the_api_is_reported_message_by_message(exported, data):
    kept = longest(exported)
    there = [NavTalk().message_of(row.raw.encode(), row.session_id, row.position) for row in kept.messages]
    session = NavTalk().session_of(kept.session.raw.encode())
    assert differences(kept, session, there) == []
    place = data.draw(st.integers(0, len(there) - 1))
    one = there[place]
    other = msgspec.structs.replace(one, content="something else", kept=msgspec.UNSET)
    fresh = msgspec.structs.replace(one, id="new", kept=msgspec.UNSET)
    cases = {
        "1 of its messages is gone at the API": there[:place] + there[place + 1 :],
        "1 of its messages is changed at the API": [*there[:place], other, *there[place + 1 :]],
        "1 of its messages is missing here": [*there[:place], fresh, *there[place:]],
    }
    for what, messages in cases.items():
        assert differences(kept, session, messages) == [what]
    assert differences(kept, session, there[::-1]) == ["its messages are in another order at the API"]


def longest(folder):
    async def read():
        async with Archive.open(folder / "archive.db", immutable=True, read_only=True) as reader:
            kept = [each async for block in reader.transcript_batches("default") for each in block]
        return max(kept, key=lambda each: len(each.messages))

    return asyncio.run(read())


async def test_an_open_session_may_be_behind(out):
    async with Sandbox(world()) as box:
        active = next(each["id"] for each in box.world.sessions if each["status"] == 0)
        box.world.add_message(active, "and on it goes")
        report = await remote(out, box)
        assert findings_of(report) == []
        assert "1 of 24 sessions" in report.notes[0]
        assert "still open" in report.notes[0]


async def test_a_session_that_was_deleted_at_the_api_is_not_fetched(out):
    async with Sandbox(world()) as box:
        box.world.remove_session(completed(box)[3])
        await sync_to(out, box, reconcile=True)
        report = await remote(out, box)
        assert findings_of(report) == []
        assert report.checked.asked == SESSIONS - 1


async def test_only_messages_in_the_scope_are_compared(tmp_path):
    async with Sandbox(world()) as box:
        await export_to(tmp_path, box, role=1)
        assert findings_of(await remote(tmp_path, box)) == []


async def test_another_projects_key_is_suspected(out):
    async with Sandbox(World(3, seed=99)) as box:
        report = await remote(out, box)
        assert len(report.findings) >= SESSIONS - 3
        assert "another project" in report.notes[-1]


async def test_a_project_that_is_not_there_is_refused(out):
    async with Sandbox(world()) as box:
        with pytest.raises(StoreMismatch, match="'default'"):
            await remote(out, box, project="nobody")
    with pytest.raises(StoreMismatch, match="'nobody'"):
        await verify(out, project="nobody")


@given(st.integers(0, 5000), st.floats(0.00001, 1))
def test_a_sample_is_as_large_as_was_asked_for_and_never_empty(count, share):
    places = sample_places(count, share)
    assert set(places) <= set(range(count))
    if count:
        assert max(1, count * share) <= len(places) <= count * share + 1


async def test_wrong_arguments_are_refused_before_anything_is_read(tmp_path):
    for share in (0, -1, 1.5, 5):
        with pytest.raises(ValueError, match="no share"):
            await verify(tmp_path, remote=share)
    for wish in ({"remote": 0.5}, {"repair": True}):
        with pytest.raises(ValueError, match="client="):
            await verify(tmp_path, **wish)


async def test_a_place_without_an_archive_is_refused(tmp_path):
    for place in (tmp_path, str(tmp_path / "nowhere")):
        with pytest.raises(StoreUnreachable, match="no export or archive"):
            await verify(place)
    assert list(tmp_path.iterdir()) == []


# PostgreSQL.


async def test_a_database_is_verified_in_the_same_way(postgres):
    address = await new_schema(postgres)
    async with Sandbox(world()) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with Archive.open(address) as store:
            await sync(nt, store)
        stale = completed(box)[3]
        box.world.add_message(stale, "too late")
        report = await verify(address)
        assert findings_of(report) == []
        assert report.checked.messages == world().total_messages
        report = await verify(address, client=nt, remote=1)
        assert [stale in each for each in findings_of(report)] == [True]
        async with Archive.open(address) as store:
            await store._driver._connection.execute(HARM["a last message is missing"])
            await store._driver._connection.execute(HARM["a role is another"])
        assert len((await verify(address)).findings) == 2
