"""Runs of the command in processes of their own, forked from one that has imported it: so that a run takes a
tenth of the time. On Linux alone.
"""

import asyncio
import atexit
import gc
import importlib.metadata
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path

import navtalk_async
from navtalk_async.archive import failpoints

READ_AT_START = ("PYTHON", "LC_", "LANG", "SSL_")
"""Variables that Python, or what is imported, reads once begin so."""


class Forked:
    """What `asyncio.subprocess.Process` is, of a process that is not our child."""

    stdin = None

    def __init__(self, pid, reader, writer):
        self.pid = pid
        self.stdout = self.stderr = None
        self._end = asyncio.create_task(self._read_end(reader, writer))

    @staticmethod
    async def _read_end(reader, writer):
        code = int(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return code

    @property
    def returncode(self):
        return self._end.result() if self._end.done() else None

    async def wait(self):
        return await asyncio.shield(self._end)

    async def communicate(self):
        streams = [each.read() if each else asyncio.sleep(0) for each in (self.stdout, self.stderr)]
        out, err, _ = await asyncio.gather(*streams, self.wait())
        return out, err

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def can_fork(env, options):
    return (
        sys.platform == "linux"
        and options.keys() <= {"stdin", "stdout", "stderr", "cwd"}
        and options["stdin"] != asyncio.subprocess.PIPE
        and not any(name.startswith(READ_AT_START) for name in env)
    )


async def fork_command(arguments, env, *, cwd=None, how=None, **streams):
    """Start the command; of *streams* each is a descriptor, a file, its path, DEVNULL or PIPE.

    *how* is what `become` reads beside arguments, variables and folder.
    """
    descriptors, readers, ours = [], {}, []
    for name in ("stdin", "stdout", "stderr"):
        given = streams[name]
        if given == asyncio.subprocess.PIPE:
            readers[name], given = os.pipe()
            ours.append(given)
        if given == asyncio.subprocess.DEVNULL:
            given = os.devnull
        if isinstance(given, str):
            given = os.open(given, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            ours.append(given)
        descriptors.append(given if isinstance(given, int) else given.fileno())
    here, there = socket.socketpair()
    with there:
        job = {"arguments": arguments, "env": env, "cwd": str(cwd or Path.cwd())} | (how or {})
        socket.send_fds(parent(), [json.dumps(job).encode()], [*descriptors, there.fileno()])
    for each in ours:
        os.close(each)
    reader, writer = await asyncio.open_connection(sock=here)
    process = Forked(int(await reader.readline()), reader, writer)
    for name, descriptor in readers.items():
        setattr(process, name, await stream_of(descriptor))
    return process


async def stream_of(descriptor):
    stream = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb")
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    return stream


@cache
def parent():
    """A socket to the process that forks, which lives as long as ours."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    with there:
        process = subprocess.Popen([sys.executable, __file__], stdin=there, env=env, start_new_session=True)

    def end():
        here.close()
        process.wait()

    atexit.register(end)
    return here


def serve(asked):
    """Fork for each message; returns, in the process that is the command, what it was asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, *_ = socket.recv_fds(asked, 1 << 18, 4)
        if not message:
            sys.exit()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked.close()
            *streams, answer = descriptors
            child = os.fork()
            if child == 0:
                return json.loads(message), streams
            for each in streams:
                os.close(each)
            os.write(answer, b"%d\n" % child)
            _, status = os.waitpid(child, 0)
            os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        for each in descriptors:
            os.close(each)


def become(job, streams):
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, 64)
    os.chdir(job["cwd"])
    before = {name: value for name, value in os.environ.items() if name.startswith(READ_AT_START)}
    os.environ.clear()
    os.environ.update(before | job["env"])
    time.tzset()
    sys.argv[1:] = job["arguments"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        same = {"encoding": old.encoding, "errors": old.errors, "closefd": False}
        new = open(number, "w" if number else "r", **same)  # noqa: SIM115, PTH123
        new.reconfigure(line_buffering=number == 2 or os.isatty(number))
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    if "arrivals" in job:
        failpoints.arm(written_down(job["arrivals"], job["end"]))
    if job.get("as_nobody"):
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def written_down(path, end):
    """Write the failpoints that are reached to the file *path*, and die at [name, number of arrival]."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    counts = Counter()

    def reached(name):
        os.write(log, name.encode() + b"\n")
        counts[name] += 1
        if end and [name, counts[name]] == end:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def import_all():
    """What a run imports late, it could not without the rights that we have; none of it starts a thread."""
    for name in ("aiohttp", "anyio._backends._asyncio", "asyncpg", "encodings.idna", "rich", "uvloop"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(navtalk_async.__path__, "navtalk_async."):
        if not module.name.endswith(("__main__", ".testing")):
            importlib.import_module(module.name)
    importlib.metadata.version("aiohttp")
    gc.freeze()


def end(code):
    """End as Python does, but for taking its modules apart, which takes longer than most commands."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    import_all()
    job, streams = serve(socket.socket(fileno=os.dup(0)))
    become(job, streams)
    try:
        pkgutil.resolve_name(job.get("main", "navtalk_async.cli:main"))()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        end(ended.code or 0)
    end(0)
