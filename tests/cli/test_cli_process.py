"""The command as a process: signals, streams, progress, and what an installation has."""

import asyncio
import json
import os
import shlex
import signal
import sys
import sysconfig
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from exported import truth, written
from shell import KEY, navtalk, requests_arrived, result_of, start_command

from navtalk_async.archive import Archive
from navtalk_async.dialects import dialects
from navtalk_async.sandbox import Sandbox, World


def shown(pid, what):
    return Path(f"/proc/{pid}/{what}").read_text()


async def test_the_key_is_in_no_list_of_processes(tmp_path):
    async with (
        Sandbox(sessions=50, latency=0.01) as box,
        start_command("export", tmp_path, box=box) as process,
    ):
        await requests_arrived(box, 5, process)
        assert KEY not in shown(process.pid, "cmdline") + shown(process.pid, "comm")
        assert (await result_of(process)).code == 0
    assert not [file for file in tmp_path.iterdir() if KEY.encode() in file.read_bytes()]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
async def test_a_stopped_export_says_how_to_continue_and_the_same_command_finishes_it(number, code, tmp_path):
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
        fetched = done.rows[0]["run"]["messages"]
        assert f"Fetched {fetched} messages of " in done.err
        assert " sessions in this run with " in done.err
        assert "holds 200 sessions with 400 messages in all." in done.err
        assert len(before & set(box.counts.messages_by_session)) <= 16
        assert written(tmp_path) == truth(box.world)


async def test_a_hangup_that_nohup_ignores_stops_nothing(tmp_path):
    async with Sandbox(World(60, messages=1), latency=0.02) as box:
        asked = ("export", tmp_path, "--concurrency", "2")
        ignoring = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
        async with start_command(*asked, box=box, preexec_fn=ignoring) as process:
            await requests_arrived(box, 10, process)
            process.send_signal(signal.SIGHUP)
            assert (await result_of(process)).code == 0


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


async def test_a_signal_is_handled_while_nobody_reads_the_output():
    reading, writing = os.pipe()
    # The pipe is full from the start, so that the first page cannot be written.
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"\n" * 4096):
            pass
    os.set_blocking(writing, True)
    try:
        async with (
            Sandbox(World(3000, messages=0)) as box,
            start_command("sessions", "--json", box=box, stdout=writing) as process,
        ):
            await requests_arrived(box, 1, process)
            process.terminate()
            assert (await result_of(process)).code == 143
    finally:
        os.close(reading)
        os.close(writing)


async def test_progress_as_objects_makes_all_of_stderr_objects(tmp_path):
    async with Sandbox(World(30, messages=1)) as box:
        done = await navtalk("export", tmp_path, "--progress", "json", box=box)
    reported = [json.loads(line) for line in done.err.splitlines()]
    assert (done.code, done.out) == (0, "")
    assert [each["event"] for each in reported[-2:]] == ["progress", "summary"]
    assert reported[0]["share"] is None
    assert {"done": 30, "open": 0, "messages": 30, "failed": 0, "share": 1.0}.items() <= reported[-2].items()


async def test_progress_in_lines_begins_and_ends_with_one(tmp_path):
    async with Sandbox(World(30, messages=1)) as box:
        done = await navtalk("export", tmp_path, "--progress", "plain", box=box)
        quiet = await navtalk("export", tmp_path, "--progress", "none", box=box)
    assert all(line.startswith("navtalk: ") for line in done.err.splitlines())
    first, *_, last = done.err.splitlines()
    assert str(tmp_path / "archive.db") in first
    assert last.startswith("navtalk: Fetched 30 messages of 30 sessions with ")
    assert len(quiet.err.splitlines()) < len(done.err.splitlines())


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


@pytest.mark.slow
async def test_the_sandbox_prints_working_commands_and_stops_on_a_signal(tmp_path):
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


async def test_development_mode_of_python_warns_of_nothing(tmp_path):
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


async def test_the_version_is_printed():
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
