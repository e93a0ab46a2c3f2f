"""The command as a process, run as people and scripts run it."""

import asyncio
import json
import os
import re
import sys
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from forked import can_fork, fork_command

KEY = "CANARY-7f3a5c91d2"
NO_KEY = {"NAVTALK_API_KEY": None}


class CommandResult(NamedTuple):
    """A process's exit code and output."""

    code: int
    out: str
    err: str

    @property
    def rows(self):
        return [json.loads(line) for line in self.out.encode().splitlines()]


def environment(box, given):
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"NAVTALK_API_KEY": KEY, "COLUMNS": "100", "TERM": "xterm", "PAGER": "cat"}
    if box is not None:
        env["NAVTALK_BASE_URL"] = box.navtalk_url
    return {name: value for name, value in (env | given).items() if value is not None}


@asynccontextmanager
async def start_command(*arguments, box=None, env=None, stdout=asyncio.subprocess.PIPE, **options):
    """Start the command as a process, and kill it if the test ends first."""
    arguments, env = list(map(str, arguments)), environment(box, env or {})
    streams = {"stdin": asyncio.subprocess.DEVNULL, "stdout": stdout, "stderr": asyncio.subprocess.PIPE}
    options = streams | options
    if can_fork(env, options):
        process = await fork_command(arguments, env, **options)
    else:
        program = (sys.executable, "-m", "navtalk_async.cli")
        process = await asyncio.create_subprocess_exec(*program, *arguments, env=env, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def result_of(process):
    """Wait for *process* to end; it must show no key, and a traceback only with code 1."""
    out, err = ((said or b"").decode() for said in await process.communicate())
    assert KEY not in out + err
    assert ("Traceback" in err) == (process.returncode == 1), err
    return CommandResult(process.returncode, out, err)


async def requests_arrived(box, count, process):
    """Wait until *count* requests of *process* arrived, and fail if it ends first."""
    arrival, end = asyncio.create_task(box.arrived(count)), asyncio.create_task(process.wait())
    await asyncio.wait([arrival, end], return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    assert arrival.done(), await result_of(process)


async def stderr_line(process, pattern):
    """The next line on stderr that matches *pattern*."""
    while line := (await process.stderr.readline()).decode():
        if re.search(pattern, line):
            return line
    raise AssertionError(f"It ended without a line {pattern!r}.")


async def navtalk(*arguments, **options):
    async with start_command(*arguments, **options) as process:
        return await result_of(process)


async def run_on_terminal(*arguments, streams=("stdout",), **options):
    """The command's result, and what the terminal showed that was its *streams*."""
    ours, theirs = os.openpty()
    reading = asyncio.create_task(asyncio.to_thread(read_terminal, ours))
    try:
        async with start_command(*arguments, **dict.fromkeys(streams, theirs), **options) as process:
            os.close(theirs)
            end = await result_of(process)
        return end, await reading
    finally:
        os.close(ours)


def read_terminal(descriptor):
    shown = bytearray()
    # Linux reports the end of a terminal as an error.
    with suppress(OSError):
        while some := os.read(descriptor, 65536):
            shown += some
    return shown.decode().replace("\r\n", "\n")
