"""`navtalk verify` as people and scripts meet it."""

import pytest
from damaged import change, damage
from shell import NO_KEY, navtalk


async def test_a_good_export_is_verified_without_a_key(out):
    done = await navtalk("verify", out, env=NO_KEY)
    assert (done.code, done.out) == (0, "")
    assert f"{out}: nothing is wrong. Checked: 2 files" in done.err
    assert "40 sessions with 120 messages" in done.err
    quick = await navtalk("verify", out, "--quick", "--json", "--progress", "none", env=NO_KEY)
    [reported] = quick.rows
    assert (quick.code, reported["exit_code"], reported["findings"], reported["quick"]) == (0, 0, [], True)
    assert reported["checked"]["files"] == 2


async def test_findings_are_reported_with_the_remedy_and_exit_code_6_and_the_same_export_repairs_them(
    out, box
):
    damage(out / "transcripts.jsonl")
    done = await navtalk("verify", out, "--json", env=NO_KEY)
    assert (done.code, done.rows[0]["exit_code"]) == (6, 6)
    assert {each["where"] for each in done.rows[0]["findings"]} == {"transcripts.jsonl"}
    assert "its SHA-256 is another" in done.err
    assert "The same `navtalk export` writes the files again" in done.err
    assert (await navtalk("export", out, box=box)).code == 0
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0


async def test_the_first_findings_are_reported_and_the_others_counted(out):
    change(out / "archive.db", "UPDATE messages SET content = 'x'")
    done = await navtalk("verify", out / "archive.db", "--json", env=NO_KEY)
    assert done.code == 6
    assert len(done.rows[0]["findings"]) == 120
    assert done.err.count("content differ") == 20
    assert "100 more; --json lists them all." in done.err


@pytest.mark.parametrize("name", ["manifest.json", "transcripts.jsonl", "archive.db"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe\x00nothing of ours", None])
async def test_a_file_of_other_content_is_a_finding_and_never_a_traceback(out, name, content):
    (out / name).unlink()
    if content is not None:
        (out / name).write_bytes(content)
    done = await navtalk("verify", out, env=NO_KEY)
    assert done.code == 6
    assert f"navtalk: {name}: " in done.err


async def test_a_file_that_is_no_archive_is_a_finding(tmp_path):
    (tmp_path / "some.db").write_bytes(b"no database " * 100)
    done = await navtalk("verify", tmp_path / "some.db", env=NO_KEY)
    assert done.code == 6
    assert "some.db" in done.err
    assert "no archive" in done.err


async def test_a_place_without_an_archive_is_wrong_usage(tmp_path):
    for command in ("verify", "status"):
        done = await navtalk(command, tmp_path / "nowhere", env=NO_KEY)
        assert done.code == 2
        assert "There is nothing at" in done.err
        done = await navtalk(command, tmp_path, env=NO_KEY)
        assert done.code == 2
        for address in ("mysql://user:secret@host/db", "postgresql://user:secret@127.0.0.1:9/db"):
            done = await navtalk(command, address, env=NO_KEY)
            assert done.code in (2, 5)
            assert "secret" not in done.err
    assert list(tmp_path.iterdir()) == []


async def test_a_key_is_needed_only_to_ask_the_api(out):
    done = await navtalk("verify", out, "--remote", "5%", env=NO_KEY)
    assert done.code == 2
    assert "No API key" in done.err
    assert (await navtalk("verify", out, "--remote", "none", env=NO_KEY)).code == 2


async def test_a_stale_session_is_named_and_a_sync_brings_it_up_to_date(out, box):
    stale = next(each["id"] for each in box.world.sessions if each["status"] == 1)
    box.world.add_message(stale, "too late")
    done = await navtalk("verify", out, "--remote", "100%", "--json", box=box)
    assert done.code == 6
    [finding] = done.rows[0]["findings"]
    assert stale in finding["where"]
    assert finding["what"] == "stale: 1 of its messages is missing here"
    assert f"`navtalk verify {out} --remote 100% --repair`" in done.err
    few = await navtalk("verify", out, "--remote", "5", "--json", box=box)
    assert few.rows[0]["checked"]["asked"] == 2


async def test_a_failed_session_is_named_and_the_others_verified(out, box):
    bad = box.world.sessions[0]["id"]
    box.fail_next("400", 1000, bad)
    done = await navtalk("verify", out, "--remote", "100%", "--json", box=box)
    assert done.code == done.rows[0]["exit_code"] == 3
    assert done.rows[0]["findings"] == []
    assert done.rows[0]["checked"]["unasked"] == 1
    assert done.rows[0]["checked"]["asked"] == len(box.world.sessions) - 1
    assert bad in done.err
    assert "nothing is wrong with what could be checked" in done.err
    damage(out / "transcripts.jsonl")
    assert (await navtalk("verify", out, "--remote", "100%", box=box)).code == 6


async def test_a_failing_server_is_reported_after_the_findings(out, box):
    damage(out / "transcripts.jsonl")
    box.fail_next("500", 1000)
    done = await navtalk("verify", out, "--remote", "5%", "--timeout", "1", "--json", box=box)
    assert done.code == 5
    assert done.rows[0]["findings"]
    assert done.rows[0]["error"].startswith("DeadlineExceeded")


async def test_only_an_existing_project_can_be_verified(out):
    assert (await navtalk("verify", out, "--project", "default", env=NO_KEY)).code == 0
    done = await navtalk("verify", out, "--project", "other", env=NO_KEY)
    assert done.code == 2
    assert "'default'" in done.err


async def test_verify_says_which_sessions_failed(box, tmp_path):
    box.fail_next("400", 1000, "/messages")
    assert (await navtalk("export", tmp_path / "out", box=box)).code == 3
    done = await navtalk("verify", tmp_path / "out", env=NO_KEY)
    assert done.code == 0
    assert "40 sessions failed" in done.err
    assert "--retry-failed" in done.err


async def test_an_empty_path_is_wrong_usage(box, tmp_path):
    for command in ("export", "sync", "verify", "status"):
        done = await navtalk(command, "", box=None if command == "status" else box, cwd=tmp_path)
        assert done.code == 2
        assert "The path is empty" in done.err
    assert list(tmp_path.iterdir()) == []
    assert box.counts.total == 0


async def test_a_file_that_no_export_wrote_is_refused_before_any_request(box, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "my web app"}')
    done = await navtalk("export", tmp_path, box=box)
    assert done.code == 2
    assert "--overwrite" in done.err
    assert box.counts.total == 0
    assert [each.name for each in tmp_path.iterdir()] == ["manifest.json"]
    assert (await navtalk("export", tmp_path, "--overwrite", box=box)).code == 0
