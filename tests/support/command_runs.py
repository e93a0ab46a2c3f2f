"""Runs of the command one after the other, which may be made to end at a failpoint."""

import asyncio
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from forked import fork_command


class Run:
    """One run of the command."""

    def __init__(self, process, folder):
        self.pid = process.pid
        self._process = process
        self._folder = folder

    @property
    def code(self):
        return self._process.returncode

    async def ended(self):
        """Wait for its exit code; below 0 if a signal ended it."""
        return await self._process.wait()

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
    """Starts one run after the other of the function *main*, the command's if it is None."""

    def __init__(self, main, folder):
        self._main = main
        self._folder = folder

    async def begin(self, *arguments, env, armed=False, end=None, as_nobody=False):
        """Start `navtalk` with *arguments*; *end* is the failpoint to die at, and at which arrival.

        With *as_nobody*, root has no more rights than a user.
        """
        how = {"as_nobody": as_nobody and os.geteuid() == 0}
        if self._main:
            how["main"] = self._main
        if armed or end:
            how |= {"arrivals": f"{self._folder}/arrivals", "end": end}
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | env
        streams = {"stdin": os.devnull, "stdout": f"{self._folder}/out", "stderr": f"{self._folder}/err"}
        process = await fork_command([str(each) for each in arguments], env, how=how, **streams)
        return Run(process, self._folder)

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
async def command_runner(main=None):
    """`async with command_runner() as commands:` runs of *main*, `module:function`, or of the command."""
    with TemporaryDirectory() as folder:
        yield CommandRunner(main, folder)
