"""What a command imports: no more than it uses, since a shell waits for it."""

import asyncio
import sys

import pytest
from shell import navtalk

from navtalk_async.cli.app import COMMANDS
from navtalk_async.cli.app import navtalk as group
from navtalk_async.sandbox import Sandbox, World

HEAVY = ("aiohttp", "rich", "asyncpg", "prometheus_client", "navtalk_async.client", "navtalk_async.sandbox")

PROGRAM = """
import sys
from navtalk_async.cli import main
sys.argv = ["navtalk", *sys.argv[1:]]
try:
    main()
except SystemExit as ending:
    print(ending.code, *(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""


async def imported(*arguments):
    """The exit code and the heavy modules that were imported, after a command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *map(str, arguments)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    code, *names = err.decode().splitlines()[-1].split()
    return int(code), names


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--version",), ("status", "--help")])
async def test_help_imports_nothing_heavy(arguments):
    assert await imported(*arguments) == (0, [])


async def test_status_imports_no_client(tmp_path):
    async with Sandbox(World(3, messages=1)) as box:
        assert (await navtalk("sync", tmp_path / "archive.db", box=box)).code == 0
    assert await imported("status", tmp_path / "archive.db") == (0, [])
    assert await imported("status", tmp_path / "archive.db", "--json") == (0, [])


def test_the_list_of_commands_says_what_each_command_says():
    for name, (_, text) in COMMANDS.items():
        command = group.get_command(None, name)
        assert (command.name, command.help.splitlines()[0]) == (name, text)
