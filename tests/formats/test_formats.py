"""Every format is read back by readers that are not ours, and equals the archive."""

import csv
import json
import sys
from collections import defaultdict
from datetime import datetime

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from profiles import examples

from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient, NavTalkClient
from navtalk_async.archive import Archive
from navtalk_async.formats import export
from navtalk_async.formats._format import TABLES
from navtalk_async.formats._markdown import escaped
from navtalk_async.ingest import sync
from navtalk_async.lenient_json import decode_json
from navtalk_async.sandbox import Sandbox, World

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
