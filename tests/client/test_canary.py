"""Whatever goes wrong, and wherever one looks then, the key is not there."""

import asyncio
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from key_leaks import KEYS, error_of

from navtalk_async import NavTalkClient, Retry, SessionPool
from navtalk_async.errors import NavTalkError
from navtalk_async.metrics import Metrics
from navtalk_async.models import Request
from navtalk_async.sandbox import Faults, Sandbox

ONCE = Retry(attempts=1, attempts_at_first=1)
QUICK = Retry(attempts=3, base_seconds=0.001, cap_seconds=0.01)

every_key = pytest.mark.parametrize("key", KEYS)


async def rows(listing):
    return [row async for row in listing]


async def transcripts(pool, **options):
    async with pool.transcripts(**options) as found:
        return [transcript async for transcript in found]


def client(url, key, leaks, **options):
    nt = NavTalkClient(key, base_url=url, on_event=[leaks, leaks.tracing], **{"retry": ONCE} | options)
    leaks.see(nt)
    leaks.see(nt.using(timeout=5))
    return nt


@every_key
@pytest.mark.parametrize("fault", ["echo-key", "500", "cut", "html", "reset"])
async def test_no_repeated_fault_brings_the_key_to_light(fault, key, leaks):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, leaks, retry=QUICK) as nt:
        box.fail_next(fault, 100)
        assert isinstance(await error_of(nt.sessions.get(box.world.sessions[0]["id"]), leaks), NavTalkError)


@every_key
@pytest.mark.parametrize("on_error", ["raise", "yield"])
@pytest.mark.parametrize("fault", ["echo-key", "403", "500", "drop", "truncated", "redirect", "wrong-shape"])
async def test_no_pool_brings_the_key_to_light(fault, on_error, key, leaks):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, leaks) as nt:
        box.fail_next(fault, 1000, "/messages")
        pool = SessionPool(nt)
        leaks.see(pool)
        if on_error == "raise":
            assert isinstance(await error_of(transcripts(pool), leaks), NavTalkError)
        else:
            for transcript in await transcripts(pool, on_error="yield"):
                leaks.see(transcript)
                leaks.see_error(transcript.error)


@every_key
async def test_no_failing_listing_of_a_pool_brings_the_key_to_light(key, leaks):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, leaks) as nt:
        box.fail_next("echo-key", 100)
        assert isinstance(await error_of(transcripts(SessionPool(nt)), leaks), NavTalkError)


@every_key
async def test_nobody_there_brings_no_key_to_light(key, leaks, unused_tcp_port):
    for url in (f"http://127.0.0.1:{unused_tcp_port}", f"http://localhost:{unused_tcp_port}"):
        async with client(url, key, leaks) as nt:
            assert isinstance(await error_of(nt.sessions.list(), leaks), NavTalkError)


@every_key
async def test_no_tls_brings_no_key_to_light(key, leaks):
    async with Sandbox(sessions=5) as box:
        async with client(box.url.replace("http", "https"), key, leaks) as nt:
            assert isinstance(await error_of(nt.sessions.list(), leaks), NavTalkError)


@every_key
@pytest.mark.parametrize("patience", [1e-9, 0.05])
async def test_no_timeout_brings_the_key_to_light(patience, key, leaks):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, leaks, timeout=patience) as nt:
        box.hold()
        assert isinstance(await error_of(nt.sessions.list(), leaks), NavTalkError)


async def within(seconds, call):
    async with asyncio.timeout(seconds):
        await call


@every_key
async def test_no_timeout_of_the_callers_own_brings_the_key_to_light(key, leaks):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, leaks) as nt:
        box.hold()
        assert isinstance(await error_of(within(0.05, rows(nt.sessions.list())), leaks), TimeoutError)


@every_key
@pytest.mark.parametrize("where", ["in flight", "half read"])
async def test_no_cancelled_call_brings_the_key_to_light(where, key, leaks):
    faults = Faults(slow_seconds=99)
    async with Sandbox(sessions=100, faults=faults) as box, client(box.navtalk_url, key, leaks) as nt:
        box.fail_next("hang" if where == "in flight" else "slow")
        call = asyncio.create_task(error_of(rows(nt.sessions.list()), leaks))
        await box.arrived(1)
        for _ in range(20):
            await asyncio.sleep(0)
        leaks.see(call)
        call.cancel()
        assert isinstance(await call, asyncio.CancelledError)


@every_key
async def test_no_closed_client_brings_the_key_to_light(key, leaks):
    async with Sandbox(sessions=5) as box:
        nt = client(box.navtalk_url, key, leaks)
        box.hold()
        calls = [asyncio.create_task(error_of(nt.sessions.list(), leaks)) for _ in range(3)]
        await box.arrived(1)
        leaks.see(calls)
        await nt.aclose()
        for call in calls:
            assert isinstance(await call, NavTalkError)
        assert isinstance(await error_of(nt.sessions.list(), leaks), NavTalkError)


@every_key
async def test_a_key_that_is_called_for_is_not_brought_to_light(key, leaks):
    keyring = iter([key] * 99)
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, keyring.__next__, leaks) as nt:
        for fault in ("echo-key", "reset", "500"):
            # Twice: aiohttp itself asks again where a connection it had kept is broken.
            box.fail_next(fault, 2)
            for _ in range(1 if fault == "reset" else 2):
                assert isinstance(await error_of(nt.sessions.list(), leaks), NavTalkError)


@every_key
async def test_a_success_leaves_no_key_behind(key, leaks):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, leaks) as nt:
        page = await nt.sessions.list(limit=2)
        leaks.see(page)
        leaks.see(nt.stats())
        leaks.see(Metrics(nt.stats).text())
        leaks.see(json.dumps([page.next.params, page.token]))
        assert await error_of(rows(nt.sessions.list(limit=2)), leaks) is None
        assert isinstance(page.next, Request)


@every_key
async def test_the_server_has_seen_the_key_all_the_same(key):
    async with Sandbox(sessions=5, keys={key}) as box, NavTalkClient(key, base_url=box.navtalk_url) as nt:
        assert len(await rows(nt.sessions.list())) == 5


LONG = "CANARY-" + "K7Zq" * 40
BAD = [f"{LONG}\nX", f"{LONG} X", LONG.encode(), [LONG], {"key": LONG}, bytearray(LONG.encode())]


class Vault:
    """Gives a key, and shows it to everybody who looks."""

    def __init__(self, key):
        self.key = key

    def __repr__(self):
        return f"Vault({self.key!r})"

    def plain(self):
        return self.key

    async def slow(self):
        await asyncio.sleep(0)
        return self.key

    def failing(self):
        raise OSError


@pytest.mark.parametrize("way", ["plain", "slow"])
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: type(bad).__name__)
async def test_a_bad_key_that_is_called_for_is_not_brought_to_light(bad, way, leaks):
    # What the callable's own frames show is its own affair.
    async with NavTalkClient(getattr(Vault(bad), way), base_url="http://127.0.0.1:9", retry=ONCE) as nt:
        leaks.see(vars(nt._wire))
        assert isinstance(await error_of(nt.sessions.list(), leaks), ValueError)


@every_key
async def test_a_callable_that_shows_its_key_is_not_shown(key, leaks):
    vault = Vault(key)
    async with Sandbox(sessions=5) as box:
        for way in (vault.plain, vault.slow, partial(str, key)):
            async with client(box.navtalk_url, way, leaks) as nt:
                assert await error_of(rows(nt.sessions.list()), leaks) is None
                box.fail_next("echo-key")
                assert isinstance(await error_of(nt.sessions.list(), leaks), NavTalkError)


@pytest.mark.slow
async def test_nothing_that_watches_aiohttp_or_reports_errors_gets_the_key(unused_tcp_port):
    program = Path(__file__).parents[1] / "support" / "instrumented.py"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(program), str(unused_tcp_port)), stdout=subprocess.PIPE
    )
    found = json.loads((await process.communicate())[0])
    assert (found["shown"], found["kept"]) == ([], [])
    assert min(found["spans"], found["envelopes"], found["answers"]) > 50
    assert {"on_request_start", "on_request_headers_sent", "on_request_exception"} <= set(found["signals"])
