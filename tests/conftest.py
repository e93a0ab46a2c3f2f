"""The sandbox's fixtures, and what tests need beside it: each kind of store in turn, and a server
that says what it is told.
"""

import asyncio
import gc
import logging
import sys
import warnings
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from key_leaks import KeyLeaks
from postgres_box import new_schema, running_postgres
from profiles import PROFILE  # noqa: F401 - loads the profile

pytest_plugins = ["navtalk_async.testing"]

# For the benchmarks; at the end, so that an installed package comes before the source beside it.
sys.path.append(str(Path(__file__).parents[1]))

STARTS_PROCESSES = {
    "subprocess",
    "command_runner",
    "navtalk",
    "start_command",
    "run_on_terminal",
    "sdk_results",
}
"""Names that a module of tests imports if its tests start processes."""


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL server of the tests' own."""
    with running_postgres() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def new_place(request, tmp_path):
    """`await new_place()`: where a store may be that is not there yet; for each kind of store in turn."""
    if request.param == "sqlite":
        numbers = count()

        async def make():
            return tmp_path / f"archive{next(numbers)}.db"
    else:
        address = request.getfixturevalue("postgres")

        async def make():
            return await new_schema(address)

    return make


@pytest.fixture
async def address(new_place):
    """A store that is not there yet, as `navtalk sync` is given it."""
    return await new_place()


class Scripted:
    """A server of one answer: every request's head is kept, and answered with the same bytes."""

    def __init__(self, answer):
        self.answer = answer
        self.heads = []
        self.url = ""
        self.serving = set()

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        try:
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def http(body=b"", status=200, *headers):
    lines = [f"HTTP/1.1 {status} So", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@pytest.fixture
def scripted():
    """`async with scripted(body, status, *header_lines) as server:` a raw server with `url` and `heads`."""

    @asynccontextmanager
    async def serve(body=b"", status=200, *headers):
        box = Scripted(http(body, status, *headers))
        server = await asyncio.start_server(box.serve, "127.0.0.1", 0)
        box.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield box
        finally:
            server.close()
        # Until every connection is ended: by the client, which therefore leaves none behind.
        if box.serving:
            await asyncio.wait(box.serving)

    return serve


@pytest.fixture
def quiet_loop():
    """`async with quiet_loop():` nothing is told to the loop's exception handler, and no task is left."""

    @asynccontextmanager
    async def watch():
        noise = []
        loop = asyncio.get_running_loop()
        before = asyncio.all_tasks()
        loop.set_exception_handler(lambda _, context: noise.append(context))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            for _ in range(20):
                await asyncio.sleep(0)
            gc.collect()
            await asyncio.sleep(0)
            # A server's task ends with its connection.
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    while asyncio.all_tasks() != before:  # noqa: ASYNC110 - nothing tells us of it
                        await asyncio.sleep(0.001)
        assert [str(warning.message) for warning in warned] == []
        assert noise == []
        assert asyncio.all_tasks() == before

    return watch


@pytest.fixture
def until():
    """`await until(condition)`: turns of the loop, until *condition* holds."""

    async def turn(condition):
        while not condition():  # noqa: ASYNC110 - nothing tells us of it, and no time need pass
            await asyncio.sleep(0)

    return turn


@pytest.fixture
def leaks(caplog, capfd):
    """Collects while the test runs; at its end, the log and the terminal are looked at, too."""
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp.client", "aiohttp.internal", "navtalk_async"):
        caplog.set_level(logging.DEBUG, name)
    collected = KeyLeaks()
    yield collected
    collected.see_telemetry()
    collected.see(caplog.text)
    collected.seen += [repr(vars(record)) for record in caplog.records]
    collected.seen += capfd.readouterr()
    assert collected.texts_with_key() == []


def pytest_collection_modifyitems(items):
    """Mark tests by what they use: a PostgreSQL server, or processes of their own."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
        if "postgres" in item.fixturenames or "postgres" in parameters:
            item.add_marker(pytest.mark.postgres)
        if STARTS_PROCESSES & {getattr(each, "__name__", "") for each in vars(item.module).values()}:
            item.add_marker(pytest.mark.subprocess)
