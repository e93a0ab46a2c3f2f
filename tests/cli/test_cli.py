"""The command as people and scripts meet it: real processes, against a sandbox over real sockets."""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import sysconfig
from hashlib import sha256
from pathlib import Path

import pytest
from shell import KEY, navtalk, requests_arrived, result_of, start_command

from navtalk_async.archive import Archive
from navtalk_async.dialects import dialects
from navtalk_async.sandbox import Answers, Faults, Sandbox, World

NOBODY = "00000000-0000-11f0-0000-000000000000"


def z(text):
    return None if text is None else text.replace(" ", "T") + "Z"


def session_of(row, **others):
    return {
        "id": row["id"],
        "api": "navtalk",
        "status": ["active", "completed", "failed"][row["status"]],
        "start_time": z(row["startTime"]),
        "end_time": z(row["endTime"]),
        "updated_at": None,
        "title": None,
        "user_id": None,
        "video_url": row["videoUrl"],
        **others,
    }


def messages_of(world, session_id, role=None):
    rows = [each for each in world.messages(session_id) if role in (None, each["role"])]
    return [
        {
            "id": row["id"],
            "position": position,
            "role": ["user", "assistant"][row["role"]],
            "type": row["messageType"],
            "content": row["content"],
            "created_at": z(row["createdAt"]),
        }
        for position, row in enumerate(rows)
    ]


def truth(world, sessions=None, role=None):
    """What *world* looks like in transcripts.jsonl."""
    return [
        session_of(row, project="default", deleted_at=None, messages=messages_of(world, row["id"], role))
        for row in (world.sessions if sessions is None else sessions)
    ]


def written(folder):
    return [json.loads(line) for line in (folder / "transcripts.jsonl").read_bytes().splitlines()]


def longest(world):
    return max((row["id"] for row in world.sessions), key=lambda each: len(world.messages(each)))


# Everything, once.


async def test_an_export_is_the_world_exactly_whatever_goes_wrong_and_whatever_the_api_answers(tmp_path):
    faults = Faults.parse("500=1%,429=1%,reset=1%,cut=1%,garbage=1%")
    answers = Answers(cursor_on_last_page=False, errors="body", max_page=40)
    async with Sandbox(sessions=150, seed=3, faults=faults, answers=answers) as box:
        done = await navtalk("export", tmp_path, "--json", box=box)
        assert done.code == 0
        assert written(tmp_path) == truth(box.world)
        [summary] = done.rows
        assert summary["kept"] == {
            "sessions": 150,
            "messages": box.world.total_messages,
            "pending": 0,
            "failed": [],
            "unread": 0,
            "watched": sum(each["status"] == 0 for each in box.world.sessions),
            "deleted": 0,
            "listed": True,
        }
        assert (summary["exit_code"], summary["complete"]) == (0, True)
        assert summary["run"]["inserted"] == summary["run"]["done"] == 150
        assert 150 < summary["run"]["requests"] <= box.counts.total
        [file] = summary["files"]
        assert file["sha256"] == sha256((tmp_path / "transcripts.jsonl").read_bytes()).hexdigest()
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["files"] == [file]
        assert manifest["complete"] is True


async def test_a_second_export_asks_only_for_what_is_new(tmp_path):
    async with Sandbox(World(120, messages=3)) as box:
        first = await navtalk("export", tmp_path, "--format", "jsonl,jsonl", box=box)
        assert (first.code, first.out) == (0, "")
        assert f"{tmp_path}/archive.db holds 120 sessions with 360 messages." in first.err
        assert f"{tmp_path}/transcripts.jsonl: 120 rows" in first.err
        box.counts.reset()
        fresh = box.world.add_session()
        box.world.add_message(fresh["id"], "the news")
        second = await navtalk("export", tmp_path, "--json", box=box)
        assert (second.rows[0]["run"]["inserted"], second.rows[0]["run"]["changed"]) == (1, 0)
        assert box.counts.total < 30
        assert written(tmp_path) == truth(box.world)


async def test_the_embedded_sandbox_needs_no_key_and_is_the_same_every_time(tmp_path):
    alone = {"NAVTALK_API_KEY": None, "NAVTALK_BASE_URL": "http://127.0.0.1:1"}
    first = await navtalk("export", tmp_path, "--sandbox", "--json", env=alone)
    second = await navtalk("export", tmp_path, "--sandbox", "--json", env=alone)
    assert [first.code, second.code] == [0, 0]
    assert first.rows[0]["run"]["inserted"] == first.rows[0]["kept"]["sessions"] >= 500
    assert second.rows[0]["run"]["inserted"] == second.rows[0]["run"]["changed"] == 0
    assert written(tmp_path) == truth(World(600))


async def test_sync_keeps_a_store_up_to_date_without_files(tmp_path):
    store = tmp_path / "deep" / "archive.db"
    async with Sandbox(World(50, messages=2)) as box:
        done = await navtalk("sync", store, "--json", "--project", "mine", box=box)
        assert (done.code, done.rows[0]["project"], done.rows[0]["files"]) == (0, "mine", [])
        assert not list(tmp_path.glob("**/*.json*"))
        async with Archive.open(store) as opened:
            assert (await opened.counts("mine")).messages == 100


async def test_filters_choose_what_is_exported_and_stand_in_the_manifest(tmp_path):
    async with Sandbox(World(100)) as box:
        filters = ("--start", "2025-11-10T02:00:00+02:00", "--status", "failed", "--role", "assistant")
        assert (await navtalk("export", tmp_path, *filters, box=box)).code == 0
        wanted = [
            each
            for each in box.world.sessions
            if each["startTime"] >= "2025-11-10 00:00:00" and each["status"] == 2
        ]
        assert wanted
        assert written(tmp_path) == truth(box.world, wanted, role=1)
        assert json.loads((tmp_path / "manifest.json").read_text())["filters"] == {
            "start": "2025-11-10T00:00:00Z",
            "status": "failed",
            "role": "assistant",
        }


async def test_only_the_sessions_that_are_named_are_exported(tmp_path):
    async with Sandbox(World(30)) as box:
        chosen = [box.world.sessions[20], box.world.sessions[4]]
        names = [word for row in chosen for word in ("--session", row["id"])]
        assert (await navtalk("export", tmp_path, *names, box=box)).code == 0
        assert written(tmp_path) == truth(box.world, chosen[::-1])
        again = await navtalk("export", tmp_path, *names[2:], *names[:2], box=box)
        assert again.code == 0


# Looking.


async def test_sessions_are_listed_by_filters_as_json_and_as_a_table():
    async with Sandbox(World(250)) as box:
        bounds = ("--start", "2025-11-05", "--end", "2025-11-20 12:00:00", "--status", "1")
        as_json, as_table = await asyncio.gather(
            navtalk("sessions", *bounds, "--json", box=box), navtalk("sessions", *bounds, box=box)
        )
        wanted = [
            session_of(each)
            for each in box.world.sessions
            if "2025-11-05 00:00:00" <= each["startTime"] <= "2025-11-20 12:00:00" and each["status"] == 1
        ]
        assert len(wanted) > 100
        assert as_json == (0, as_json.out, "")
        assert as_json.rows == wanted
        header, *rows = [line.split("\t") for line in as_table.out.splitlines()]
        assert [dict(zip(header, row, strict=True))["id"] for row in rows] == [each["id"] for each in wanted]


async def test_one_session_is_shown_with_its_messages_or_without():
    async with Sandbox(World(40, unknown_fields=False)) as box:
        one = longest(box.world)
        row = session_of(box.world.session(one))
        session, messages, transcript, text, said = await asyncio.gather(
            navtalk("session", one, "--json", box=box),
            navtalk("messages", one, "--role", "user", "--json", box=box),
            navtalk("transcript", one, "--json", box=box),
            navtalk("transcript", one, box=box),
            navtalk("messages", one, box=box),
        )
        assert session.rows == [row]
        assert messages.rows == messages_of(box.world, one, role=0)
        assert transcript.rows == [row | {"messages": messages_of(box.world, one)}]
        assert text.out.startswith(f"id          {one}\n")
        assert {each.code for each in (session, messages, transcript, text, said)} == {0}
        for shown in (text.out, said.out):
            assert not {letter for letter in shown if ord(letter) < 32} - {"\n", "\t"}
        assert len(said.out.splitlines()) == len(box.world.messages(one)) + 1


async def test_unknown_fields_and_numbers_of_the_api_are_shown_too():
    async with Sandbox(World(30, unknown_fields=True)) as box:
        done = await navtalk("sessions", "--json", box=box)
        assert {"active", "completed", 7} & {row["status"] for row in done.rows} >= {7}
        assert all({"language", "device"} == set(row["extra"]) for row in done.rows)


@pytest.mark.parametrize("style", [(), ("--json",)])
async def test_a_reader_who_has_had_enough_is_no_error(style):
    reading, writing = os.pipe()
    os.close(reading)
    async with Sandbox(World(400, messages=0)) as box:
        try:
            done = await navtalk("sessions", *style, box=box, stdout=writing)
        finally:
            os.close(writing)
    assert done == (0, "", "")


async def test_output_that_cannot_be_written_is_told_in_a_sentence():
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with Sandbox(sessions=3) as box:
            done = await navtalk("sessions", box=box, stdout=full)
    finally:
        os.close(full)
    assert done.code == 5
    assert done.err.startswith("navtalk: The output cannot be written: No space left on device.")


# How it ends.

FAILURES = {
    "400": (4, "Check the key and the parameters"),
    "echo-key": (4, "Check the key and the parameters"),
    "403": (4, "Check in the project's settings"),
    "404": (2, "Check the id"),
    "redirect": (2, "Check the base URL"),
    "500": (5, "500"),
    "429": (5, "429"),
    "hang": (5, "No whole answer"),
    "reset": (5, "try again"),
    "drop": (5, "try again"),
    "cut": (5, "cut off"),
    "garbage": (5, "not JSON"),
    "html": (5, "HTML page"),
    "wrong-shape": (5, "not what the API's reference says"),
    "repeat-cursor": (5, "leads back"),
}


@pytest.mark.parametrize("fault", FAILURES)
async def test_every_failure_is_a_code_and_a_sentence_and_shows_neither_traceback_nor_key(fault, tmp_path):
    code, words = FAILURES[fault]
    command = ("sessions", "--json") if fault == "repeat-cursor" else ("export", tmp_path / "out", "-vv")
    async with Sandbox(sessions=3, faults=Faults.parse(f"{fault}=1")) as box:
        done = await navtalk(*command, "--timeout", 1, box=box)
    assert done.code == code
    *_, last = done.err.splitlines()
    assert last.startswith("navtalk: ")
    assert words in done.err
    assert not (tmp_path / "out" / "manifest.json").exists()


async def test_an_export_that_goes_wrong_half_way_keeps_what_it_has_and_says_so(tmp_path):
    async with Sandbox(World(60, messages=1)) as box:
        box.fail_next("403", times=1000, path=box.world.sessions[50]["id"])
        broken = await navtalk("export", tmp_path, "--json", box=box)
        assert (broken.code, broken.rows[0]["exit_code"], broken.rows[0]["complete"]) == (4, 4, False)
        assert broken.rows[0]["error"].startswith("AccessDenied: ")
        assert "same command continues from there" in broken.err
        box.forget_planned()
        done = await navtalk("export", tmp_path, "--json", box=box)
        assert (done.code, done.rows[0]["run"]["resumed"]) == (0, True)
        assert written(tmp_path) == truth(box.world)


async def test_a_server_that_is_not_there_can_be_tried_later():
    done = await navtalk("sessions", env={"NAVTALK_BASE_URL": "http://127.0.0.1:1"})
    assert done.code == 5
    assert re.match(r"navtalk: No connection to http://127.0.0.1:\d+: nothing listens there", done.err)


@pytest.mark.parametrize("style", [(), ("--json", "--progress", "json")])
async def test_sessions_that_cannot_be_had_are_told_and_can_be_tried_again(style, tmp_path):
    async with Sandbox(World(20, messages=2)) as box:
        lost = box.world.sessions[7]["id"]
        # It is asked for once, and once more at the end.
        box.fail_next("400", times=2, path=f"messages?sessionId={lost}")
        partial = await navtalk("export", tmp_path, *style, box=box)
        assert partial.code == 3
        assert lost in partial.err
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert (manifest["complete"], [each["id"] for each in manifest["failed"]]) == (False, [lost])
        if style:
            assert [each["id"] for each in partial.rows[0]["kept"]["failed"]] == [lost]
            assert partial.rows[0]["complete"] is False
        assert (await navtalk("export", tmp_path, box=box)).code == 3
        assert (await navtalk("export", tmp_path, "--retry-failed", box=box)).code == 0
        assert written(tmp_path) == truth(box.world)


async def test_an_archive_in_use_is_left_alone(tmp_path):
    async with Sandbox(sessions=3) as box, Archive.open(tmp_path / "archive.db"):
        done = await navtalk("sync", tmp_path / "archive.db", "--json", box=box)
        assert (done.code, done.rows[0]["exit_code"], box.counts.total) == (11, 11, 0)
        assert "Another run is writing" in done.err
        assert "StoreLocked" in done.rows[0]["error"]


async def test_an_archive_of_something_else_is_refused(tmp_path):
    other, broken = tmp_path / "other.db", tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 1000)
    async with Sandbox(sessions=5, keys={KEY: World(5), "second": World(5, messages=1)}) as box:
        assert (await navtalk("sync", other, "--role", "user", box=box)).code == 0
        filters, damaged, beneath = await asyncio.gather(
            navtalk("sync", other, box=box),
            navtalk("sync", broken, box=box),
            navtalk("export", broken / "out", box=box),
        )
        assert [filters.code, damaged.code, beneath.code] == [2, 2, 2]
        box.keys = {KEY: World(5, seed=0), "second": World(0)}
        theirs = await navtalk("sync", other, "--role", "user", box=box, env={"NAVTALK_API_KEY": "second"})
        assert theirs.code == 2
        assert "another project" in theirs.err


# The key.


async def test_the_key_comes_from_a_file_or_a_command_rather_than_from_the_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"\n {KEY}\n")
    cat = shlex.join(["cat", str(file)])
    async with Sandbox(sessions=3, keys={KEY}) as box:
        wrong, of_file, of_command = await asyncio.gather(
            navtalk("sessions", box=box, env={"NAVTALK_API_KEY": "wrong"}),
            navtalk("sessions", "--api-key-file", file, box=box, env={"NAVTALK_API_KEY": "wrong"}),
            navtalk(*("sessions", "--api-key-command", cat), box=box, env={"NAVTALK_API_KEY": None}),
        )
    assert [wrong.code, of_file.code, of_command.code] == [4, 0, 0]


def shown(pid, what):
    return Path(f"/proc/{pid}/{what}").read_text()


async def test_the_key_stands_in_no_list_of_processes(tmp_path):
    async with (
        Sandbox(sessions=50, latency=0.01) as box,
        start_command("export", tmp_path, box=box) as process,
    ):
        await requests_arrived(box, 5, process)
        assert KEY not in shown(process.pid, "cmdline") + shown(process.pid, "comm")
        assert (await result_of(process)).code == 0
    assert not [file for file in tmp_path.iterdir() if KEY.encode() in file.read_bytes()]


# Signals.


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_stopped_export_says_how_to_go_on_and_the_same_command_finishes_it(number, code, tmp_path):
    async with Sandbox(World(200, messages=2), latency=0.02) as box:
        asked = ("export", tmp_path, "--concurrency", "16", "--progress", "plain")
        async with start_command(*asked, box=box) as process:
            await requests_arrived(box, 120, process)
            process.send_signal(number)
            stopped = await result_of(process)
        assert stopped.code == code
        assert "the same command continues" in stopped.err
        assert not (tmp_path / "transcripts.jsonl").exists()
        async with Archive.open(tmp_path / "archive.db") as store:
            kept = await store.counts("default")
        assert kept.messages > 50
        box.latency = 0
        before = set(box.counts.messages_by_session)
        box.counts.reset()
        done = await navtalk("export", tmp_path, "--json", box=box)
        assert (done.code, done.rows[0]["run"]["resumed"]) == (0, True)
        assert len(before & set(box.counts.messages_by_session)) <= 16
        assert written(tmp_path) == truth(box.world)


async def test_a_second_signal_ends_the_process_at_once():
    script = """
import asyncio
from navtalk_async.cli.app import run
from navtalk_async.cli._output import Reporter
async def stubborn():
    print("working", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaning up", flush=True)
        await asyncio.Event().wait()
run(stubborn(), Reporter())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert await process.stdout.readline() == b"working\n"
    process.send_signal(signal.SIGINT)
    assert await process.stdout.readline() == b"cleaning up\n"
    process.send_signal(signal.SIGTERM)
    assert await process.communicate() == (b"", b"")
    assert process.returncode == -signal.SIGTERM


async def test_a_signal_is_heard_even_while_nobody_reads_the_output():
    reading, writing = os.pipe()
    try:
        async with (
            Sandbox(World(3000, messages=0)) as box,
            start_command("sessions", "--json", box=box, stdout=writing) as process,
        ):
            await requests_arrived(box, 4, process)
            process.terminate()
            assert (await result_of(process)).code == 143
    finally:
        os.close(reading)
        os.close(writing)


# Progress.


async def test_progress_as_objects_makes_all_of_stderr_objects(tmp_path):
    async with Sandbox(World(30, messages=1)) as box:
        done = await navtalk("export", tmp_path, "--progress", "json", box=box)
    told = [json.loads(line) for line in done.err.splitlines()]
    assert (done.code, done.out) == (0, "")
    assert [each["event"] for each in told[-2:]] == ["progress", "summary"]
    assert told[0]["share"] is None
    assert {"done": 30, "open": 0, "messages": 30, "failed": 0, "share": 1.0}.items() <= told[-2].items()


async def test_progress_in_lines_begins_and_ends_with_one(tmp_path):
    async with Sandbox(World(30, messages=1)) as box:
        done = await navtalk("export", tmp_path, "--progress", "plain", box=box)
        quiet = await navtalk("export", tmp_path, "--progress", "none", box=box)
    assert all(line.startswith("navtalk: ") for line in done.err.splitlines())
    first, *_, last = done.err.splitlines()
    assert str(tmp_path / "archive.db") in first
    assert last.startswith("navtalk: Fetched 30 messages of 30 sessions with ")
    assert len(quiet.err.splitlines()) < len(done.err.splitlines())


async def test_a_wait_is_explained_also_where_there_is_no_progress_to_show():
    faults = Faults(retry_after=1.0)
    async with Sandbox(sessions=3, faults=faults) as box:
        box.fail_next("429")
        done = await navtalk("sessions", "--json", box=box)
    assert (done.code, len(done.rows)) == (0, 3)
    assert done.err.startswith("navtalk: waiting 1 s: RateLimited: ")


async def test_a_terminal_gets_a_bar_and_is_left_clean(tmp_path):
    ours, theirs = os.openpty()
    shown = bytearray()
    appeared, over = asyncio.Event(), asyncio.Event()

    def read():
        try:
            shown.extend(os.read(ours, 65536))
        except OSError:
            over.set()
            asyncio.get_running_loop().remove_reader(ours)
        if b"in flight" in shown:
            appeared.set()

    asyncio.get_running_loop().add_reader(ours, read)
    try:
        async with Sandbox(World(150, messages=1)) as box:
            async with start_command("export", tmp_path, box=box, stderr=theirs) as process:
                os.close(theirs)
                await requests_arrived(box, 40, process)
                box.hold()
                await appeared.wait()
                box.release()
                assert (await result_of(process)).code == 0
            await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
    said = shown.decode()
    assert "sessions " in said
    assert KEY not in said
    # Wherever it is killed, the terminal has its cursor.
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert said.count("\x1b[?25l") <= 1
    assert "150 rows" in said


# The sandbox, and the installation.


async def test_the_sandbox_prints_a_command_that_works_and_stops_when_told(tmp_path):
    async with start_command(
        "sandbox", "--sessions", 20, "--faults", "500=1%", "--latency", "1ms"
    ) as process:
        for api in dialects():
            address, command = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
            assert address.startswith("http://127.0.0.1:")
            setting, name, *arguments = shlex.split(command)
            variable, _, key = setting.partition("=")
            assert (variable, key, name) == (dialects()[api].key_variable, "any", "navtalk")
            done = await navtalk(*arguments, env={variable: key}, cwd=tmp_path)
            assert done.code == 0, done.err
            assert written(tmp_path / arguments[1])
        assert len(written(tmp_path / "out")) == 20
        port = address.split(":")[2].split("/")[0]
        taken = await navtalk("sandbox", "--port", port)
        assert (taken.code, len(taken.err.splitlines())) == (2, 1)
        process.terminate()
        assert await result_of(process) == (0, "", "")


async def test_python_in_development_mode_has_nothing_to_complain_of(tmp_path):
    strict = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1"}
    async with Sandbox(World(30, messages=1)) as box:
        done = await navtalk("export", tmp_path, "--progress", "none", box=box, env=strict)
    assert done.code == 0
    assert "Warning" not in done.err
    # On a busy machine, asyncio also reports steps that took long.
    lines = [line for line in done.err.splitlines() if not line.startswith("Executing <")]
    assert all(line.startswith("navtalk: ") for line in lines)


@pytest.fixture
def bare(tmp_path):
    """What a bare install has, and the project."""
    for each in Path(sysconfig.get_path("purelib")).iterdir():
        if each.name.split("-")[0] not in ("click", "rich", "uvloop"):
            (tmp_path / each.name).symlink_to(each)
    return f"{tmp_path}:{Path(__file__).parents[2]}"


async def test_a_bare_install_says_what_to_install(bare):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "navtalk_async.cli", "--help"),
        env={"PYTHONPATH": bare},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    done = await result_of(process)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert 'pip install "navtalk-async[cli]"' in done.err


async def test_the_library_alone_imports_nothing_of_the_command_line():
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            "import sys, navtalk_async; print('click' in sys.modules, 'rich' in sys.modules)",
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    assert (await process.communicate())[0] == b"False False\n"


async def test_the_version_is_told():
    done = await navtalk("--version")
    assert done.code == 0
    assert done.out.startswith("navtalk 0.")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_command_whose_streams_are_closed_does_its_work(closed, tmp_path):
    async with Sandbox(World(5, messages=1)) as box:
        python = shlex.quote(sys.executable)
        command = f"{python} -m navtalk_async.cli export {tmp_path} --base-url {box.url} {closed}"
        process = await asyncio.create_subprocess_shell(command, env={**os.environ, "NAVTALK_API_KEY": "k"})
        assert await process.wait() == 0
    assert (tmp_path / "manifest.json").exists()
