"""Every format is read back by readers that are not ours, and equals the archive."""

import csv
import gzip
import hashlib
import itertools
import json
import sys
from collections import defaultdict
from datetime import datetime

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from profiles import examples

from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient, NavTalkClient
from navtalk_async.archive import Archive, failpoints
from navtalk_async.errors import StoreUnreachable
from navtalk_async.formats import FORMATS, export, read_manifest
from navtalk_async.formats._markdown import escaped
from navtalk_async.formats._tables import TABLES
from navtalk_async.ingest import sync
from navtalk_async.lenient_json import decode_json
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import verify

APIS = {
    "navtalk": (NavTalkClient, {}),
    "kodey": (KodeyClient, {}),
    "lexicon": (LexiconClient, {"user_id": "user-0"}),
    "llamacloud": (LlamaCloudClient, {}),
}


@pytest.fixture(params=APIS)
async def archive(request, tmp_path):
    """An archive of one API, with the nastiest texts there are."""
    make, filters = APIS[request.param]
    world = World(25, unknown_fields=True, long_messages=1)
    async with Sandbox(world) as box, make("key", base_url=getattr(box, f"{request.param}_url")) as client:
        async with Archive.open(tmp_path / "archive.db") as archive:
            await sync(client, archive, **filters)
            yield archive


async def tables_of(archive):
    """The rows of both tables, made of the archive's rows one by one."""
    sessions, messages = [], []
    async for kept in archive.transcripts():
        own = kept.session
        row = {name: getattr(own, name) for name in TABLES["sessions"] if name not in ("extra", "messages")}
        sessions.append(row | {"status": as_text(row["status"]), "messages": len(kept.messages)})
        for each in kept.messages:
            row = {name: getattr(each, name) for name in TABLES["messages"] if name != "extra"}
            messages.append(row | {"role": as_text(row["role"]), "type": as_text(row["type"])})
    return {"sessions": sessions, "messages": messages}


def as_text(value):
    return None if value is None else str(value)


def as_moment(value):
    return None if value is None else datetime.fromisoformat(value)


def with_moments(table, rows):
    """*rows* with times for what are times, and without `extra`."""
    times = [name for name, kind in TABLES[table].items() if kind == "timestamp"]
    return [row | {name: as_moment(row[name]) for name in times} for row in rows]


def without_extra(rows):
    return [{name: value for name, value in row.items() if name != "extra"} for row in rows]


async def test_csv_equals_the_archive_for_every_reader(archive, tmp_path):
    await export(archive, tmp_path, formats="csv")
    for table, expected in (await tables_of(archive)).items():
        path = tmp_path / f"{table}.csv"
        columns = list(TABLES[table])
        said = [[as_text(row.get(name)) for name in columns if name != "extra"] for row in expected]
        said = [[value if value is None else value.replace("\0", "\ufffd") for value in row] for row in said]
        how = """all_varchar=true, allow_quoted_nulls=false, quote='"', escape='"', max_line_size=9000000"""
        read = f"read_csv('{path}', header=true, {how})"
        assert duckdb.sql(f"SELECT * EXCLUDE extra FROM {read}").fetchall() == list(map(tuple, said))
        empty = [["" if value is None else value for value in row] for row in said]
        read = pd.read_csv(path, dtype=str, keep_default_na=False, lineterminator="\n").drop(columns="extra")
        assert read.to_numpy().tolist() == empty
        frame = pl.read_csv(path, infer_schema=False).drop("extra").fill_null("")
        assert frame.rows() == list(map(tuple, empty))
        csv.field_size_limit(sys.maxsize)
        with path.open(newline="", encoding="utf-8") as file:
            assert [row[:-1] for row in list(csv.reader(file))[1:]] == empty


@pytest.mark.parametrize("options", [{}, {"partition": "month"}, {"partition": "day", "compress": "snappy"}])
async def test_parquet_equals_the_archive_for_every_reader(archive, tmp_path, options):
    manifest = await export(archive, tmp_path, formats="parquet", **options)
    rows = defaultdict(int)
    for table, expected in (await tables_of(archive)).items():
        files = [each for each in manifest.files if each.name.endswith(f"{table}.parquet")]
        wanted = with_moments(table, expected)
        found = defaultdict(list)
        for each in files:
            path = tmp_path / each.name
            schema = pyarrow.parquet.read_schema(path)
            for name, kind in TABLES[table].items():
                if kind == "timestamp":
                    assert schema.field(name).type == pyarrow.timestamp("us", tz="UTC")
            read = pyarrow.parquet.ParquetFile(path).read().to_pylist()
            assert len(read) == each.rows
            rows[table] += each.rows
            found["pyarrow"] += read
            found["polars"] += pl.read_parquet(path, hive_partitioning=False).to_dicts()
        for read in found.values():
            assert sorted(without_extra(read), key=key_of) == sorted(wanted, key=key_of)
            if not options:
                assert without_extra(read) == wanted
        [(count,)] = duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/**/{table}.parquet'").fetchall()
        assert count == len(expected) == rows[table]


async def test_duckdb_equals_the_archive(archive, tmp_path):
    await export(archive, tmp_path, formats="duckdb")
    with duckdb.connect(str(tmp_path / "transcripts.duckdb"), read_only=True) as db:
        for table, expected in (await tables_of(archive)).items():
            read = db.sql(f"SELECT * EXCLUDE extra FROM {table} ORDER BY rowid").fetchall()
            assert read == [tuple(row.values()) for row in with_moments(table, in_order(table, expected))]


def key_of(row):
    return tuple(row.get(name, "") for name in ("project", "session_id", "id"))


def in_order(table, rows):
    return [{name: row[name] for name in TABLES[table] if name != "extra"} for row in rows]


async def test_extra_is_the_json_of_the_fields_without_a_column(archive, tmp_path):
    await export(archive, tmp_path, formats=["jsonl", "parquet"])
    lines = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_bytes().splitlines()]
    read = {name: pyarrow.parquet.read_table(tmp_path / f"{name}.parquet").to_pylist() for name in TABLES}
    decoded = {
        name: [None if row["extra"] is None else decode_json(row["extra"]) for row in rows]
        for name, rows in read.items()
    }
    assert decoded["sessions"] == [line.get("extra") for line in lines]
    assert decoded["messages"] == [each.get("extra") for line in lines for each in line["messages"]]


async def test_markdown_is_rendered_as_the_archive_s_texts(archive, tmp_path):
    manifest = await export(archive, tmp_path, formats="markdown")
    pages = {each.name: each for each in manifest.files}
    index = rendered((tmp_path / "markdown/index.md").read_text(encoding="utf-8"))
    links = [each.attrs["href"] for each in index if each.type == "link_open"]
    read = []
    async for kept in archive.transcripts():
        read.append(kept)
    assert len(links) == len(read) == len(pages) - 1
    for link, kept in zip(links, read, strict=True):
        tokens = rendered((tmp_path / "markdown" / link).read_bytes().decode())
        assert not [
            each for each in tokens if each.type.startswith(("html", "code", "fence", "image", "em_"))
        ]
        assert texts_in(tokens) == [shown(each.content or "") for each in kept.messages]


def rendered(text):
    return list(flat(MarkdownIt("commonmark").enable("table").parse(text)))


def flat(tokens):
    for each in tokens:
        yield each
        yield from flat(each.children or [])


def texts_in(tokens):
    """The text of each paragraph below a heading of the second level."""
    texts, current = [], None
    for each in tokens:
        if each.type == "heading_open" and each.tag == "h2":
            texts.append("")
        elif each.type == "hr":
            break
        elif each.type == "paragraph_open" and texts:
            current = len(texts) - 1
        elif each.type == "paragraph_close":
            current = None
        elif current is not None and each.type in ("text", "text_special"):
            texts[current] += each.content
        elif current is not None and each.type in ("hardbreak", "softbreak"):
            texts[current] += "\n"
    return texts


def shown(text):
    return "".join(
        "\ufffd" if (ord(each) < 32 and each not in "\t\n\r") or 127 <= ord(each) < 160 else each
        for each in text
    )


# One run, many formats.


@pytest.fixture
async def small(tmp_path):
    world = World(6)
    async with Sandbox(world) as box, NavTalkClient("key", base_url=box.navtalk_url) as client:
        async with Archive.open(tmp_path / "archive.db") as archive:
            await sync(client, archive)

            async def grow():
                world.add_session()
                await sync(client, archive)

            yield archive, grow


@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
async def test_compressed_texts_are_the_same_texts(small, tmp_path, compress):
    archive, _ = small
    names = ["jsonl", "csv", "openai-jsonl"]
    await export(archive, tmp_path / "plain", formats=names)
    await export(archive, tmp_path / "small", formats=names, compress=compress)
    suffix, read = {
        "none": ("", bytes),
        "gzip": (".gz", gzip.decompress),
        "zstd": (".zst", zstd.decompress),
    }[compress]
    for name in ("transcripts.jsonl", "sessions.csv", "messages.csv", "training.jsonl"):
        packed = (tmp_path / "small" / f"{name}{suffix}").read_bytes()
        assert read(packed) == (tmp_path / "plain" / name).read_bytes()
    assert (await verify(tmp_path / "small")).findings == []


async def test_an_export_of_all_formats_that_ends_anywhere_leaves_whole_files_and_can_be_repeated(
    small, tmp_path
):
    archive, grow = small
    out, number, is_done = tmp_path / "out", 0, False
    await export(archive, out, formats=list(FORMATS))
    while not is_done:
        number += 7
        await grow()
        parts = {} if number % 2 else {"partition": "day"}
        is_done = await stopped_at(number, export(archive, out, formats=list(FORMATS), **parts))
        if (out / "manifest.json").exists():
            for each in read_manifest((out / "manifest.json").read_bytes()).files:
                assert hashlib.sha256((out / each.name).read_bytes()).hexdigest() == each.sha256
        for each in out.rglob("*.parquet"):
            pyarrow.parquet.read_table(each)
    assert number > 30
    assert not [each for each in out.rglob("*") if ".partial" in each.name]
    assert (await verify(out)).findings == []


async def stopped_at(number, work):
    """Whether *work* ended before its failpoint of this *number*, at which it is stopped."""
    arrived = itertools.count(1)

    def stop(_name):
        if next(arrived) == number:
            raise Stopped

    failpoints.arm(stop)
    try:
        await work
    except Stopped:
        return False
    finally:
        failpoints.arm(None)
    return True


class Stopped(Exception):
    pass


async def test_what_a_format_no_longer_writes_is_removed_and_other_formats_stay(small, tmp_path):
    archive, grow = small
    out = tmp_path / "out"
    await export(archive, out, formats=["parquet", "csv"], partition="month")
    assert list(out.glob("messages/month=*/messages.parquet"))
    await grow()
    manifest = await export(archive, out, formats="parquet")
    assert not (out / "messages").exists()
    assert {each.format for each in manifest.files} == {"parquet", "csv"}
    runs = manifest.projects[0].formats
    assert runs["csv"].changes < runs["parquet"].changes == manifest.projects[0].changes
    assert (await verify(out)).findings == []


APART = [("transcripts", "jsonl"), ("sessions", "csv"), ("messages", "csv")]
APART += [("sessions", "parquet"), ("messages", "parquet")]


async def test_projects_share_their_files_where_that_is_asked_for(tmp_path):
    out = tmp_path / "out"
    async with Archive.open(tmp_path / "archive.db") as archive:
        for name, count in (("alpha", 3), ("beta", 4)):
            async with Sandbox(World(count, seed=count)) as box:
                async with NavTalkClient("key", base_url=box.navtalk_url) as client:
                    await sync(client, archive, project=name)
        apart = await export(archive, out, formats=["jsonl", "csv"], project=None)
        assert [each.name for each in apart.files if each.format == "jsonl"] == [
            "transcripts.jsonl",
            "transcripts.beta.jsonl",
        ]
        assert (await verify(out)).findings == []
        merged = await export(archive, out, formats=["jsonl", "csv", "parquet"], merge_projects=True)
        assert [each.project for each in merged.projects] == ["alpha", "beta"]
        assert sorted(each.name for each in out.iterdir()) == sorted(
            ["manifest.json", *(each.name for each in merged.files)]
        )
        lines = [json.loads(line) for line in (out / "transcripts.jsonl").read_bytes().splitlines()]
        assert [line["project"] for line in lines] == ["alpha"] * 3 + ["beta"] * 4
        report = await verify(out)
        assert (report.findings, report.notes) == ([], [])
        (out / "transcripts.jsonl").write_bytes(b"")
        assert (await verify(out)).findings
        again = await export(archive, out, formats="jsonl", project="beta")
        names = {each.project: [file.name for file in each.files] for each in again.projects}
        assert names["beta"] == ["transcripts.jsonl"]
        assert set(names["alpha"]) == {f"{each}.alpha.{end}" for each, end in APART}
        assert (await verify(out)).findings == []


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"formats": "csv", "compress": "snappy"}, "csv cannot be compressed with snappy"),
        ({"formats": "duckdb", "compress": "gzip"}, "duckdb cannot be compressed"),
        ({"formats": "jsonl", "partition": "month"}, "partition= is an option of the format parquet"),
        ({"formats": "parquet", "partition": "year"}, "partition: Invalid enum value 'year'"),
        ({"formats": "openai-jsonl", "max_messages": -1}, "max_messages"),
        ({"formats": "csv", "colour": True}, "unknown field `colour`"),
    ],
)
async def test_options_that_cannot_be_are_refused_before_anything_is_written(small, tmp_path, options, what):
    with pytest.raises(ValueError, match=what):
        await export(small[0], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


async def test_files_of_a_format_that_no_export_wrote_are_not_replaced(small, tmp_path):
    out = tmp_path / "out"
    (out / "markdown").mkdir(parents=True)
    (out / "markdown" / "notes.md").write_text("mine")
    (out / "sessions.csv").write_text("mine")
    for name in ("csv", "markdown"):
        with pytest.raises(StoreUnreachable, match="No export wrote"):
            await export(small[0], out, formats=name)
    await export(small[0], out, formats=["csv", "markdown"], overwrite=True)
    assert (out / "markdown" / "notes.md").read_text() == "mine"
    assert (out / "sessions.csv").read_text() != "mine"


async def test_training_data_has_both_roles_and_ends_with_the_assistant(small, tmp_path):
    archive, _ = small
    await export(archive, tmp_path / "all", formats="openai-jsonl")
    few = await export(archive, tmp_path / "few", formats="openai-jsonl", min_messages=4, max_messages=30)
    lines = [json.loads(line) for line in (tmp_path / "all/training.jsonl").read_bytes().splitlines()]
    for line in lines:
        assert line.keys() == {"messages"}
        assert all(each.keys() == {"role", "content"} and each["content"] for each in line["messages"])
        assert {each["role"] for each in line["messages"]} == {"user", "assistant"}
        assert line["messages"][-1]["role"] == "assistant"
    chosen = [line for line in lines if 4 <= len(line["messages"]) <= 30]
    assert [
        json.loads(line) for line in (tmp_path / "few/training.jsonl").read_bytes().splitlines()
    ] == chosen
    left_out = few.projects[0].formats["openai-jsonl"].replaced["conversations left out"]
    assert left_out == few.sessions - len(chosen)


async def test_no_spreadsheet_runs_what_a_cell_begins_with(small, tmp_path):
    manifest = await export(small[0], tmp_path, formats="csv", spreadsheet_safe=True)
    content = (tmp_path / "messages.csv").read_text(encoding="utf-8")
    assert content.startswith("\ufeff")
    rows = list(csv.DictReader(content[1:].splitlines(keepends=True)))
    assert not [each for each in rows if each["content"].lstrip()[:1] in "=+-@|%" and each["content"]]
    assert all(datetime.strptime(each["created_at"], "%Y-%m-%d %H:%M:%S") for each in rows)  # noqa: DTZ007
    defused = manifest.projects[0].formats["csv"].replaced.get("' before a formula", 0)
    assert defused == sum(each["content"].startswith("'") for each in rows)


async def test_with_nothing_new_no_file_of_any_format_is_written(small, tmp_path):
    out = tmp_path / "out"
    first = await export(small[0], out, formats=list(FORMATS))
    before = {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()}
    assert await export(small[0], out, formats=list(FORMATS)) == first
    assert {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()} == before
    assert await export(small[0], out, formats="jsonl") == first


@given(
    st.text(
        st.sampled_from("a1 \t\n\r#*_`~<>&[](){}|\\-+=.!:\"'$@/\0\x85\u2028\u3000\u202e😀")
        | st.characters(codec="utf-8")
    )
)
@settings(max_examples=examples(400))
def test_any_text_is_rendered_as_it_is(text):
    tokens = rendered("## 1\\. user\n\n" + escaped(text) + "\n\n***\n")
    assert texts_in(tokens)[0] == shown(text)
