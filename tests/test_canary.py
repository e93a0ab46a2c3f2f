"""Whatever goes wrong, and wherever one looks then, the key is not there."""

import asyncio
import json

import pytest
from evidence import KEYS, failing

from navtalk_async import NavTalkClient, Retry, SessionPool
from navtalk_async.errors import NavTalkError
from navtalk_async.models import Request
from navtalk_async.sandbox import Faults, Sandbox

pytestmark = pytest.mark.usefixtures("engine")

ONCE = Retry(attempts=1, attempts_at_first=1)
QUICK = Retry(attempts=3, base_seconds=0.001, cap_seconds=0.01)

every_key = pytest.mark.parametrize("key", KEYS)


async def rows(listing):
    return [row async for row in listing]


async def transcripts(pool, **options):
    async with pool.transcripts(**options) as found:
        return [transcript async for transcript in found]


def client(url, key, evidence, **options):
    nt = NavTalkClient(key, base_url=url, on_event=evidence, **{"retry": ONCE} | options)
    evidence.see(nt)
    evidence.see(nt.using(timeout=5))
    return nt


@every_key
@pytest.mark.parametrize("fault", ["echo-key", "500", "cut", "html", "reset"])
async def test_no_repeated_fault_brings_the_key_to_light(fault, key, evidence):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, evidence, retry=QUICK) as nt:
        box.fail_next(fault, 100)
        assert isinstance(await failing(nt.sessions.get(box.world.sessions[0]["id"]), evidence), NavTalkError)


@every_key
@pytest.mark.parametrize("on_error", ["raise", "yield"])
@pytest.mark.parametrize("fault", ["echo-key", "403", "500", "drop", "truncated", "redirect", "wrong-shape"])
async def test_no_pool_brings_the_key_to_light(fault, on_error, key, evidence):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, evidence) as nt:
        box.fail_next(fault, 1000, "/messages")
        pool = SessionPool(nt)
        evidence.see(pool)
        if on_error == "raise":
            assert isinstance(await failing(transcripts(pool), evidence), NavTalkError)
        else:
            for transcript in await transcripts(pool, on_error="yield"):
                evidence.see(transcript)
                evidence.see_error(transcript.error)


@every_key
async def test_no_failing_listing_of_a_pool_brings_the_key_to_light(key, evidence):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, evidence) as nt:
        box.fail_next("echo-key", 100)
        assert isinstance(await failing(transcripts(SessionPool(nt)), evidence), NavTalkError)


@every_key
async def test_nobody_there_brings_no_key_to_light(key, evidence, unused_tcp_port):
    for url in (f"http://127.0.0.1:{unused_tcp_port}", f"http://localhost:{unused_tcp_port}"):
        async with client(url, key, evidence) as nt:
            assert isinstance(await failing(nt.sessions.list(), evidence), NavTalkError)


@every_key
async def test_no_tls_brings_no_key_to_light(key, evidence):
    async with Sandbox(sessions=5) as box:
        async with client(box.url.replace("http", "https"), key, evidence) as nt:
            assert isinstance(await failing(nt.sessions.list(), evidence), NavTalkError)


@every_key
@pytest.mark.parametrize("patience", [1e-9, 0.05])
async def test_no_timeout_brings_the_key_to_light(patience, key, evidence):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, evidence, timeout=patience) as nt:
        box.hold()
        assert isinstance(await failing(nt.sessions.list(), evidence), NavTalkError)


async def within(seconds, call):
    async with asyncio.timeout(seconds):
        await call


@every_key
async def test_no_timeout_of_the_callers_own_brings_the_key_to_light(key, evidence):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, evidence) as nt:
        box.hold()
        assert isinstance(await failing(within(0.05, rows(nt.sessions.list())), evidence), TimeoutError)


@every_key
@pytest.mark.parametrize("where", ["in flight", "half read"])
async def test_no_cancelled_call_brings_the_key_to_light(where, key, evidence):
    faults = Faults(slow_seconds=99)
    async with Sandbox(sessions=100, faults=faults) as box, client(box.navtalk_url, key, evidence) as nt:
        box.fail_next("hang" if where == "in flight" else "slow")
        call = asyncio.create_task(failing(rows(nt.sessions.list()), evidence))
        await box.arrived(1)
        for _ in range(20):
            await asyncio.sleep(0)
        evidence.see(call)
        call.cancel()
        assert isinstance(await call, asyncio.CancelledError)


@every_key
async def test_no_closed_client_brings_the_key_to_light(key, evidence):
    async with Sandbox(sessions=5) as box:
        nt = client(box.navtalk_url, key, evidence)
        box.hold()
        calls = [asyncio.create_task(failing(nt.sessions.list(), evidence)) for _ in range(3)]
        await box.arrived(1)
        evidence.see(calls)
        await nt.aclose()
        for call in calls:
            assert isinstance(await call, NavTalkError)
        assert isinstance(await failing(nt.sessions.list(), evidence), NavTalkError)


@every_key
async def test_a_key_that_is_called_for_is_not_brought_to_light(key, evidence):
    keyring = iter([key] * 99)
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, keyring.__next__, evidence) as nt:
        for fault in ("echo-key", "reset", "500"):
            # Twice: aiohttp itself asks again where a connection it had kept is broken.
            box.fail_next(fault, 2)
            for _ in range(1 if fault == "reset" else 2):
                assert isinstance(await failing(nt.sessions.list(), evidence), NavTalkError)


@pytest.mark.parametrize("bad", ["CANARY 1", "CANÁRY-CANARY", "CANARY\nX"])
async def test_a_bad_key_that_is_called_for_is_not_brought_to_light(bad, evidence):
    keyring = iter([bad])
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, keyring.__next__, evidence) as nt:
        assert isinstance(await failing(nt.sessions.list(), evidence), ValueError)


@every_key
async def test_a_success_leaves_no_key_behind(key, evidence):
    async with Sandbox(sessions=5) as box, client(box.navtalk_url, key, evidence) as nt:
        page = await nt.sessions.list(limit=2)
        evidence.see(page)
        evidence.see(nt.stats())
        evidence.see(json.dumps([page.next.params, page.token]))
        assert await failing(rows(nt.sessions.list(limit=2)), evidence) is None
        assert isinstance(page.next, Request)


@every_key
async def test_the_server_has_seen_the_key_all_the_same(key):
    async with Sandbox(sessions=5, keys={key}) as box, NavTalkClient(key, base_url=box.navtalk_url) as nt:
        assert len(await rows(nt.sessions.list())) == 5


def test_a_client_that_cannot_be_made_does_not_bring_the_key_of_the_environment_to_light(
    monkeypatch, evidence
):
    monkeypatch.setenv("NAVTALK_API_KEY", KEYS[0])
    for wrong in ({"base_url": "http://example.com"}, {"rate": -1}, {"concurrency": 0}, {"timeout": -1}):
        try:
            NavTalkClient(**wrong)
        except ValueError as error:
            evidence.see_error(error)
