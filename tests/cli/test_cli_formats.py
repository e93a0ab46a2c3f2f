"""`navtalk export` in several formats, and from an archive that is there."""

import json

import pytest
from shell import NO_KEY, navtalk

pytestmark = pytest.mark.subprocess


async def test_an_archive_is_exported_without_the_api(box, out, tmp_path):
    box.counts.reset()
    formats = "csv,parquet,duckdb,markdown,openai-jsonl"
    ended = await navtalk("export", tmp_path / "tables", "--from", out, "--format", formats, env=NO_KEY)
    assert (ended.code, ended.out) == (0, "")
    assert f"{tmp_path}/tables/sessions.csv: " in ended.err
    assert "files of the format markdown" in ended.err
    assert box.counts.total == 0
    ended = await navtalk("export", tmp_path / "tables", "--from", out / "archive.db", "--json", env=NO_KEY)
    assert ended.rows[0]["complete"] is True
    assert {each["format"] for each in ended.rows[0]["files"]} == {*formats.split(","), "jsonl"}
    assert (await navtalk("verify", tmp_path / "tables")).code == 0


async def test_what_is_removed_is_counted_in_the_manifest(out, tmp_path):
    (tmp_path / "key").write_bytes(b"0123456789abcdef\n")
    (tmp_path / "key").chmod(0o600)
    privacy = ("--redact", "all", "--pseudonymize", tmp_path / "key")
    ended = await navtalk("export", tmp_path / "clean", "--from", out, *privacy, env=NO_KEY)
    assert ended.code == 0
    manifest = json.loads((tmp_path / "clean/manifest.json").read_bytes())
    run = manifest["projects"][0]["formats"]["jsonl"]
    assert run["privacy"]["pseudonymize"]
    assert "0123456789abcdef" not in json.dumps(manifest)
    assert (await navtalk("verify", tmp_path / "clean")).code == 0


async def test_wrong_arguments_are_refused_before_anything_is_written(out, tmp_path):
    new = tmp_path / "new"
    for arguments, why in (
        (("--from", out, "--api", "kodey"), "--api asks the API, and --from does not"),
        (("--from", out, "--media"), "--media asks the API"),
        (("--from", out, "--project", "other"), "no project 'other'"),
        (("--from", tmp_path / "none"), "There is nothing at"),
        (("--sandbox", "--partition", "day"), "--partition is an option of the format parquet"),
        (("--sandbox", "--format", "duckdb", "--compress", "zstd"), "duckdb cannot be compressed"),
        (("--sandbox", "--redact", "names"), "'names' is not a kind"),
        (("--sandbox", "--pseudonymize", tmp_path / "none"), "cannot be read"),
    ):
        ended = await navtalk("export", new, *arguments, env=NO_KEY)
        assert (ended.code, ended.out) == (2, "")
        assert why in ended.err
        assert not new.exists()
