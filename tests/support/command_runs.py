"""Runs of the command, each in a process of its own, forked from one that has imported everything already."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PARENT = """
import json, os, signal, sys, traceback
from collections import Counter

import aiohttp, anyio._backends._asyncio, asyncpg, encodings.idna, importlib.metadata, pkgutil, rich, uvloop

import navtalk_async

# What a run imports late, it could not without the rights that the parent has.
for module in pkgutil.walk_packages(navtalk_async.__path__, "navtalk_async."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
importlib.metadata.version("aiohttp")

from navtalk_async.archive import failpoints

main = pkgutil.resolve_name(sys.argv[1])

def armed(arrivals, end):
    log = os.open(arrivals, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    counts = Counter()

    def reached(name):
        os.write(log, name.encode() + b"\\n")
        counts[name] += 1
        if end and [name, counts[name]] == end:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def become(job):
    for number, name in enumerate(("/dev/null", job["out"], job["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666), number)
    os.environ.update(job["env"])
    if job["as_nobody"]:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    if job["arrivals"]:
        failpoints.arm(armed(job["arrivals"], job["end"]))
    code = 1
    try:
        main(job["arguments"])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        become(json.loads(line))
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Run:
    """One run of the command."""

    def __init__(self, parent, pid, folder):
        self.pid = pid
        self.code = None
        self._parent = parent
        self._folder = folder

    async def ended(self):
        """Wait for its exit code; below 0 if a signal ended it."""
        if self.code is None:
            self.code = int(await self._parent.stdout.readline())
        return self.code

    @property
    def out(self):
        return Path(self._folder, "out").read_text()

    @property
    def err(self):
        return Path(self._folder, "err").read_text()

    @property
    def rows(self):
        return [json.loads(line) for line in self.out.encode().splitlines()]

    @property
    def arrivals(self):
        """The failpoints it reached, in order."""
        return Path(self._folder, "arrivals").read_text().splitlines()


class CommandRunner:
    """Starts one run after the other."""

    def __init__(self, parent, folder):
        self._parent = parent
        self._folder = folder

    async def begin(self, *arguments, env, armed=False, end=None, as_nobody=False):
        """Start `navtalk` with *arguments*; *end* is the failpoint to die at, and at which arrival.

        With *as_nobody*, root has no more rights than a user.
        """
        arrivals = f"{self._folder}/arrivals"
        job = {
            "arguments": [str(each) for each in arguments],
            "env": env,
            "out": str(Path(self._folder, "out")),
            "err": str(Path(self._folder, "err")),
            "arrivals": arrivals if armed or end else "",
            "end": end,
            "as_nobody": as_nobody and os.geteuid() == 0,
        }
        self._parent.stdin.write(json.dumps(job).encode() + b"\n")
        await self._parent.stdin.drain()
        return Run(self._parent, int(await self._parent.stdout.readline()), self._folder)

    async def run(self, *arguments, **options):
        """Run to the end."""
        run = await self.begin(*arguments, **options)
        await run.ended()
        return run


CONTROL_REQUEST = b"GET /_sandbox/counts HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n"


async def settled(box):
    """Wait until the server has read everything a dead process sent, and seen its connections closed."""
    # Connections that wait to be accepted are accepted before ours, and counted only then.
    reader, writer = await asyncio.open_connection(box.host, box.port)
    writer.write(CONTROL_REQUEST)
    await reader.read()
    writer.close()
    while box._runner.server.connections or box.counts.in_flight:  # noqa: ASYNC110 - nothing tells us of it
        await asyncio.sleep(0)


@asynccontextmanager
async def command_runner(main="navtalk_async.cli.app:run_app"):
    """`async with command_runner() as commands:` a process that forks the runs of *main*."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, main),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])},
    )
    with TemporaryDirectory() as folder:
        yield CommandRunner(parent, folder)
    parent.stdin.close()
    await parent.wait()
