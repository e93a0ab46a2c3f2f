"""The README's web apps, each in a process of its own that is told to stop."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from key_leaks import KEYS
from readme import PATIENT_APPS

from navtalk_async.sandbox import Sandbox, World

AT_ONCE = 200
RUN = {
    "app_fastapi": "import uvicorn; uvicorn.run(app, port=0)",
    "app_aiohttp": "web.run_app(app, host='127.0.0.1', port=0, handler_cancellation=True)",
}
ENDS_WITH = {"app_fastapi": -signal.SIGTERM, "app_aiohttp": 0}
"""uvicorn raises the signal again once everything is answered."""


@asynccontextmanager
async def working(name, box, folder):
    """The process of the app *name*, which asks *box*, and a browser's session with it."""
    program = f"__name__ = {name!r}\n{PATIENT_APPS[name]}\n{RUN[name]}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-uc", program),
        cwd=folder,
        env={**os.environ, "NAVTALK_API_KEY": KEYS[1], "NAVTALK_BASE_URL": box.navtalk_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said = b""
        while not (found := re.search(rb"unning on (http://[\d.:]+)", said)):
            line = await process.stdout.readline()
            assert line, said.decode()
            said += line
        many = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(found[1].decode(), connector=many) as http:
            yield process, http
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def health(http):
    async with http.get("/healthz", headers={"Connection": "close"}) as answer:
        return await answer.json()


@pytest.mark.parametrize("name", RUN)
async def test_what_is_in_flight_at_sigterm_is_answered_and_then_the_process_ends(name, tmp_path):
    async with Sandbox(World(AT_ONCE, messages=1)) as box, working(name, box, tmp_path) as (process, http):
        while (await health(http))["last_success"] == "None":
            pass

        async def asked(number):
            session = box.world.sessions[number]["id"]
            path = f"/sessions/{session}/messages" if number % 2 else "/sessions"
            async with http.get(path) as answer:
                return answer.status, b'{"error"' in await answer.read()

        box.hold()
        asking = [asyncio.ensure_future(asked(number)) for number in range(AT_ONCE)]
        while (await health(http))["waiting"] + box.counts.in_flight != AT_ONCE:
            pass
        process.send_signal(signal.SIGTERM)
        with pytest.raises(aiohttp.ClientError):
            while True:
                await health(http)
        box.release()
        assert Counter(await asyncio.gather(*asking)) == {(200, False): AT_ONCE}
        assert await process.wait() == ENDS_WITH[name]
