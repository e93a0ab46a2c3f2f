"""One limit for many processes: kept and used, in a file and in PostgreSQL, and nobody holds anybody up."""

import asyncio
import math
import sys
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest
from canaries import bytes_of
from gate_callers import now, run
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from shell import KEY
from shell import navtalk as run_command

from navtalk_async import Archive, NavTalkClient, SharedLimits
from navtalk_async.errors import StoreBroken, StoreError, StoreUnreachable
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.scale._rule import AHEAD, KEPT, LimitState, after_pause, reserved
from navtalk_async.wire.gate import Gate
from navtalk_async.wire.shared_limit import SharedLimit
from navtalk_async.wire.shared_turns import LATE_SECONDS, SharedTurns

TINY = 1e-6
RARE = 0.001
"""Requests a second: no test takes so long that there is a second turn."""

rates = st.sampled_from([0.5, 7.0, 100.0, 1000.0])


@given(rates, st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 40)), min_size=1, max_size=30))
def test_turns_keep_the_rate_and_none_is_far_ahead_and_time_is_lost_only_while_nobody_asks(rate, asked):
    state, at, turns = LimitState(rate), 1e9, []
    for later, most in asked:
        at += later
        was_free = state.next_at <= at
        state, found = reserved(state, at, most)
        assert len(found.turns) <= most
        assert len(found.turns) == most or state.next_at >= at + AHEAD - TINY
        assert all(0 <= each < AHEAD + TINY for each in found.turns)
        assert not was_free or found.turns[0] == 0
        turns += [at + each for each in found.turns]
    assert all(later - earlier >= 1 / rate - TINY for earlier, later in pairwise(turns))


@given(rates, st.floats(-1e6, 1e6), st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_clock_that_was_set_back_holds_nobody_up(rate, at, next_at, paused_until):
    state = LimitState(rate, next_at=at + next_at, paused_until=at + paused_until)
    _, found = reserved(state, at, 1)
    assert found.turns or found.again <= max(3600.0, 1 / rate + AHEAD)


@given(rates, st.floats(0.1, 100.0), st.integers(1, 9))
def test_refusals_of_one_pause_slow_all_down_once_and_not_for_ever(rate, seconds, refusals):
    state = LimitState(rate)
    for number in range(refusals):
        state = after_pause(state, number / 100, seconds, refused=True)
    assert state.speed(seconds) == pytest.approx(KEPT * rate)
    assert state.speed(seconds + 61) == rate
    assert not reserved(state, seconds / 2, 5)[1].turns
    assert after_pause(state, seconds / 2, 0.001, refused=False).paused_until == state.paused_until


class InMemory:
    """A keeper for the gates of a test, with the loop's time."""

    def __init__(self, rate, error=None):
        self.state, self.error = LimitState(rate), error

    async def reserve(self, _, most):
        await asyncio.sleep(0.001)
        if self.error is not None:
            raise self.error
        self.state, found = reserved(self.state, now(), most)
        # The time that the test takes is none of the loop's.
        return found._replace(at=math.inf)

    async def pause(self, _, seconds, *, refused):
        self.state = after_pause(self.state, now(), seconds, refused=refused)


def gate_of(keeper):
    async def join():
        return "name"

    gate = Gate(8)
    gate.share_turns(SharedTurns(gate, keeper, join))
    return gate


@settings(max_examples=examples(20))
@given(
    st.sampled_from([5.0, 40.0, 250.0]), st.integers(1, 4), st.integers(2, 60), st.none() | st.integers(1, 3)
)
def test_gates_of_many_processes_keep_the_rate_and_use_it(rate, count, calls, at_once):
    async def main():
        keeper, moments = InMemory(rate), []
        gates = [gate_of(keeper) for _ in range(count)]
        if at_once is not None:
            limit = SharedLimit(at_once)
            for gate in gates:
                gate.share(limit)

        async def call(gate):
            await gate.acquire()
            moments.append(now())
            gate.release()

        await asyncio.gather(*(call(gates[number % count]) for number in range(calls)))
        late = max(LATE_SECONDS, 0.1 / rate) + 0.002
        assert all(
            moments[number + most] - moments[number] >= most / rate - late
            for number in range(calls)
            for most in range(1, calls - number)
        )
        assert moments[-1] - moments[0] <= (calls - 1) / rate + 0.1 + late
        assert all((gate.in_flight, gate.waiting) == (0, 0) for gate in gates)

    run(main())


def test_a_pause_of_one_is_a_pause_of_all():
    async def main():
        keeper, moments = InMemory(100.0), []
        refused, other = gate_of(keeper), gate_of(keeper)

        async def ask(gate):
            for _ in range(50):
                await gate.acquire()
                moments.append(now())
                gate.release()

        asking = [asyncio.create_task(ask(each)) for each in (refused, other)]
        await asyncio.sleep(0.3)
        paused = now()
        refused.pause(5.0)
        refused.turns.pause(5.0, refused=True)
        await asyncio.gather(*asking)
        assert not [each for each in moments if paused + 0.2 < each < paused + 4.999]
        assert len(moments) == 100

    run(main())


def test_a_keeper_that_fails_ends_the_calls_that_wait_and_those_alone():
    async def main():
        keeper = InMemory(100.0, StoreError("It is full."))
        gate = gate_of(keeper)
        waiting = [asyncio.create_task(gate.acquire()) for _ in range(3)]
        await asyncio.wait(waiting)
        assert [str(each.exception())[:11] for each in waiting] == ["It is full."] * 3
        assert (gate.waiting, gate.in_flight) == (0, 0)
        keeper.error = None
        assert await gate.acquire() == 1

    run(main())


async def test_those_who_share_a_place_share_its_turns_its_rate_and_its_pauses(new_place):
    place = await new_place()
    async with SharedLimits.open(place) as one, SharedLimits.open(place) as other:
        with pytest.raises(ValueError, match=r"^rate= is missing: .* has none for this server and key yet"):
            await other.join("name", None)
        assert await one.join("name", RARE) == RARE
        assert await other.join("name", None) == RARE
        first = await one.reserve("name", 5)
        assert (first.turns, first.paused_for, first.between) == ([0.0], 0.0, 1 / RARE)
        second = await other.reserve("name", 5)
        assert not second.turns
        assert 500 < second.again < 1000
        await other.join("another", RARE)
        assert len((await one.reserve("another", 1)).turns) == 1
        await one.pause("name", 1000.0, refused=True)
        await one.pause("name", 10.0, refused=True)
        third = await other.reserve("name", 5)
        assert not third.turns
        assert 500 < third.paused_for <= 1000
        assert third.between == pytest.approx(1 / (KEPT * RARE))
        assert await other.join("name", 50.0) == 50.0
        await other.join("many", 1e6)
        assert len((await other.reserve("many", 7)).turns) == 7
    with pytest.raises(StoreError, match="not open"):
        await one.reserve("name", 1)


async def test_an_archive_and_limits_live_in_one_database(postgres_place):
    async with SharedLimits.open(postgres_place) as limits, Archive.open(postgres_place) as archive:
        await limits.join("name", 5.0)
        assert await archive.projects() == []
    async with Archive.open(postgres_place, read_only=True) as archive:
        assert await archive.projects() == []


async def test_clients_of_one_key_share_a_limit_that_does_not_show_it(new_place):
    place = await new_place()
    with Sandbox(World(3)) as box:
        options = {"base_url": box.navtalk_url, "timeout": 20}
        async with SharedLimits.open(place) as limits:
            async with NavTalkClient(KEY, rate=RARE, limits=limits, **options) as one:
                await one.list_sessions()
            async with (
                NavTalkClient(lambda: KEY, limits=limits, **options | {"timeout": 0.3}) as same,
                NavTalkClient("other", limits=limits, rate=5.0, **options) as other,
            ):
                await other.list_sessions()
                with pytest.raises(TimeoutError):
                    await same.list_sessions()
            async with NavTalkClient("third", limits=limits, **options) as third:
                with pytest.raises(ValueError, match="rate= is missing"):
                    await third.list_sessions()
        assert len(box.counts.asked) == 2
    held = await bytes_of(place)
    assert KEY.encode() not in b"".join(held.values())
    # In the files of a server there is more than this limit.
    assert b"127.0.0.1:" not in held.get("dump", b"".join(held.values()))


@pytest.fixture
async def postgres_place(postgres):
    from postgres_box import new_schema  # noqa: PLC0415

    return await new_schema(postgres)


async def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    async with Archive.open(tmp_path / "archive.db"):
        pass
    (tmp_path / "text.db").write_text("no database, " * 99)
    (tmp_path / "folder").mkdir()
    for name, kind in (("archive.db", StoreBroken), ("text.db", StoreBroken), ("folder", StoreUnreachable)):
        path = tmp_path / name
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(kind, match=str(path)):
            await SharedLimits.open(path).__aenter__()
        assert (path.read_bytes() if path.is_file() else b"") == before
    with pytest.raises(StoreUnreachable):
        await SharedLimits.open(tmp_path / "text.db" / "limits.db").__aenter__()
    with pytest.raises(ValueError, match="redis:// is no known database"):
        SharedLimits.open("redis://here")


async def test_the_command_shares_its_rate_and_names_what_cannot_be_right(tmp_path):
    with Sandbox(World(3)) as box:
        archive, limits = tmp_path / "archive.db", tmp_path / "limits.db"
        for arguments, what in (
            (("--limits", limits), "--rate is missing"),
            (("--limits", tmp_path), "is a folder"),
            (("--limits", Path(__file__), "--rate", 9), "is no file of limits"),
        ):
            ended = await run_command("sync", archive, *arguments, box=box)
            assert ended.code == 2
            assert what in ended.err
        assert not box.counts.asked
        ended = await run_command("sync", archive, "--limits", limits, "--rate", 500, box=box)
        assert ended.code == 0, ended.err
        # The rate is known by now; and `auto` is a file of the user.
        home = {"HOME": str(tmp_path)}
        ended = await run_command("export", tmp_path / "out", "--limits", limits, box=box)
        assert ended.code == 0, ended.err
        ended = await run_command(
            "verify", archive, "--remote", "100%", "--limits", "auto", "--rate", 500, box=box, env=home
        )
        assert ended.code == 0, ended.err
    assert (tmp_path / ".local" / "state" / "navtalk" / "limits.db").is_file()
    assert KEY.encode() not in limits.read_bytes()


WORKER = """
import asyncio, itertools, sys
from navtalk_async import NavTalkClient, SharedLimits

async def main(address, place, calls):
    async with SharedLimits.open(place) as limits:
        async with NavTalkClient("key", base_url=address, rate=50, limits=limits) as nt:
            for number in range(int(calls)) if calls else itertools.count():
                await nt.list_sessions()
                print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.subprocess
def test_real_processes_keep_one_rate_and_outlive_one_that_is_killed(tmp_path):
    async def worker(box, calls):
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, box.navtalk_url, str(tmp_path / "limits.db"), calls),
            stdout=asyncio.subprocess.PIPE,
        )

    async def main():
        with Sandbox(World(1)) as box:
            killed = await worker(box, "")
            await killed.stdout.readline()
            began = monotonic()
            others = [await worker(box, "20") for _ in range(2)]
            await others[0].stdout.readline()
            killed.kill()
            ended = await asyncio.gather(*(each.communicate() for each in others))
            await killed.wait()
            # A machine that is slow takes longer, but never less.
            assert monotonic() - began >= 40 / 50 - 0.1
            assert [each.returncode for each in others] == [0, 0]
            assert [len(out.splitlines()) for out, _ in ended] in ([19, 20], [20, 20])

    asyncio.run(main())
