"""What is removed is removed in every format, and what only looks like it stays."""

import json

import duckdb
import pyarrow.parquet
import pytest

from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive
from navtalk_async.formats import FORMATS, export
from navtalk_async.ingest import sync
from navtalk_async.privacy import KINDS, Privacy
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import verify

PERSONAL = {
    "emails": "ada.lovelace+chat@analytical.example",
    "phones": "+44 20 7946 0958",
    "cards": "4111 1111 1111 1111",
    "ibans": "GB82 WEST 1234 5698 7654 32",
    "ips": "203.0.113.77",
    "urls": "https://analytical.example/private?token=s3cr3t",
}
HARMLESS = ["order 4111 1111 1111 1112", "GB82 WEST 1234 5698 7654 33", "version 10.2", "2025-11-12 18:20:38"]


@pytest.fixture
async def archive(tmp_path):
    world = World(3, unknown_fields=True)
    session_id = world.sessions[0]["id"]
    for number, text in enumerate([*PERSONAL.values(), *HARMLESS]):
        world.add_message(
            session_id, f"{number} see {text}, please", role=number % 2, sentiment={"of": [text]}
        )
    world.add_message(session_id, "done", role=1)
    async with Sandbox(world) as box, NavTalkClient("key", base_url=box.navtalk_url) as client:
        async with Archive.open(tmp_path / "archive.db") as archive:
            await sync(client, archive)
            yield archive


def everything_in(folder):
    """All texts in the files of *folder*, as other readers read them."""
    texts = []
    for each in sorted(folder.rglob("*")):
        if each.suffix == ".parquet":
            texts += [json.dumps(row, default=str) for row in pyarrow.parquet.read_table(each).to_pylist()]
        elif each.suffix == ".duckdb":
            with duckdb.connect(str(each), read_only=True) as db:
                for table in ("sessions", "messages"):
                    texts += [json.dumps(row, default=str) for row in db.table(table).fetchall()]
        elif each.is_file():
            texts.append(each.read_text(encoding="utf-8"))
    return "\n".join(texts).replace("\\", "")


@pytest.mark.parametrize("name", FORMATS)
async def test_no_format_holds_what_is_redacted_and_all_hold_the_rest(archive, tmp_path, name):
    await export(archive, tmp_path / "plain", formats=name)
    plain = everything_in(tmp_path / "plain")
    manifest = await export(archive, tmp_path / "clean", formats=name, privacy=Privacy(redact=KINDS))
    clean = everything_in(tmp_path / "clean")
    for kind, text in PERSONAL.items():
        assert text in plain, kind
        assert text not in clean, kind
        assert manifest.projects[0].formats[name].redacted[kind.removesuffix("s")] >= 1
    for text in HARMLESS:
        assert text in clean
    assert (await verify(tmp_path / "clean")).findings == []


async def test_each_format_keeps_its_own_note_of_what_was_removed(archive, tmp_path):
    clean = Privacy(redact="emails", pseudonymize=b"0123456789abcdef")
    await export(archive, tmp_path / "out", formats="csv", privacy=clean)
    manifest = await export(archive, tmp_path / "out", formats="jsonl")
    runs = manifest.projects[0].formats
    assert (runs["csv"].privacy, runs["jsonl"].privacy) == (clean.description(), {})
    assert b"0123456789abcdef" not in (tmp_path / "out/manifest.json").read_bytes()
    # Only one of two ways to write a format is the current one.
    again = await export(archive, tmp_path / "out", formats="csv")
    assert again.projects[0].formats["csv"].privacy == {}
