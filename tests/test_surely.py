"""Work that is done to its end."""

import asyncio

import anyio
import pytest

from navtalk_async.surely import surely


async def begun(gate, done):
    await gate.wait()
    done.append(True)
    return 7


async def test_what_it_does_is_given_back_or_raised():
    gate = asyncio.Event()
    gate.set()
    assert await surely(begun(gate, [])) == 7

    async def fail():
        raise ValueError("so")

    with pytest.raises(ValueError, match="so"):
        await surely(fail())


@pytest.mark.parametrize("times", [1, 3])
async def test_whoever_is_cancelled_is_so_only_after_it_is_done(times):
    gate, done = asyncio.Event(), []
    waiting = asyncio.create_task(surely(begun(gate, done)))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == [True]


async def test_a_scope_that_is_cancelled_waits_for_it_too():
    gate, done = asyncio.Event(), []
    with anyio.CancelScope() as scope:
        scope.cancel()
        asyncio.get_running_loop().call_soon(gate.set)
        await surely(begun(gate, done))
    assert done == [True]


async def test_an_error_that_nobody_hears_of_any_more_is_silent():
    gate = asyncio.Event()

    async def fail():
        await gate.wait()
        raise ValueError("so")

    waiting = asyncio.create_task(surely(fail()))
    await asyncio.sleep(0)
    waiting.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
