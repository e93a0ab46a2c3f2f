"""`navtalk plan`: what an export would take."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import navtalk

from navtalk_async.cli._plan import Listed, Sample, estimate
from navtalk_async.sandbox import Answers, Sandbox, World


async def test_a_plan_counts_the_sessions_and_estimates_the_rest_and_keeps_nothing(tmp_path):
    async with Sandbox(World(300, messages=4), answers=Answers(cursor_on_last_page=False)) as box:
        done = await navtalk("plan", "--json", box=box, cwd=tmp_path)
        [reported] = done.rows
        sessions = box.world.sessions
        assert done.code == 0
        assert reported["listed"]["sessions"] == 300
        assert reported["listed"]["active"] == sum(each["status"] == 0 for each in sessions)
        assert reported["listed"]["first"] == sessions[0]["startTime"].replace(" ", "T") + "Z"
        assert reported["listed"]["last"] == sessions[-1]["startTime"].replace(" ", "T") + "Z"
        assert reported["estimate"]["sampled"] == 50
        assert reported["estimate"]["messages"] == 1200
        assert reported["estimate"]["messages_requests"] == 300
        assert not reported["estimate"]["cursors_on_last_pages"]
        assert box.counts.total == reported["listed"]["requests"] + 50
    assert list(tmp_path.iterdir()) == []


async def test_cursors_on_last_pages_are_reported_and_cost_a_request_each():
    async with Sandbox(World(60, messages=4), answers=Answers(cursor_on_last_page=True)) as box:
        done = await navtalk("plan", box=box)
        assert done.code == 0
        assert "60 sessions, begun between" in done.out
        assert "2.00 a session" in done.out
        assert "cursor on last pages" in done.out


async def test_a_plan_goes_by_the_filters_and_the_rate():
    async with Sandbox(World(80, messages=2)) as box:
        wanted = [each["id"] for each in box.world.sessions[:3]]
        chosen = [argument for each in wanted for argument in ("--session", each)]
        some = await navtalk("plan", *chosen, "--json", box=box)
        assert some.rows[0]["listed"]["sessions"] == 3
        failed = await navtalk("plan", "--status", "failed", "--rate", "50", "--json", box=box)
        [reported] = failed.rows
        assert reported["listed"]["sessions"] == sum(each["status"] == 2 for each in box.world.sessions)
        assert reported["estimate"]["requests_per_second"] <= 50


async def test_a_plan_says_how_much_is_saved_already(tmp_path):
    async with Sandbox(World(40, messages=2)) as box:
        assert (await navtalk("sync", tmp_path / "archive.db", box=box)).code == 0
        box.world.add_session()
        done = await navtalk("plan", "--store", tmp_path / "archive.db", box=box)
        assert "41 sessions" in done.out
        assert "40 sessions with 80 messages are saved already" in done.out
        counts = (await navtalk("plan", "--store", tmp_path / "archive.db", "--json", box=box)).rows[0]
        going_on = counts["listed"]["active"]
        assert 1 <= counts["estimate"]["sessions"] <= 1 + going_on


async def test_a_failed_session_is_left_out_of_the_estimate():
    async with Sandbox(World(12, messages=4), answers=Answers(cursor_on_last_page=False)) as box:
        box.fail_next("400", 1000, f"sessionId={box.world.sessions[3]['id']}")
        done = await navtalk("plan", "--json", box=box)
        assert done.code == 0
        reported = done.rows[0]["estimate"]
        assert (reported["sampled"], reported["unasked"], reported["messages"]) == (11, 1, 48)
        assert "because their messages failed: 1 session." in (await navtalk("plan", box=box)).out
        box.fail_next("400", 1000, "sessionId")
        assert (await navtalk("plan", box=box)).code == 4


async def test_a_plan_of_nothing_is_a_plan():
    async with Sandbox(World(0)) as box:
        done = await navtalk("plan", box=box)
        assert done.code == 0
        assert "0 sessions; 0 active." in done.out


async def test_a_refused_key_is_exit_code_4():
    async with Sandbox(World(5), keys={"another-key-altogether"}) as box:
        done = await navtalk("plan", box=box)
        assert (done.code, done.out) == (4, "")


@given(st.lists(st.text(min_size=1), max_size=200, unique=True), st.integers(1, 60))
def test_a_sample_is_a_part_of_the_list_and_as_large_as_possible(ids, size):
    sample = Sample(size=size)
    for each in ids:
        sample.offer(each)
    assert len(sample.ids) == len(set(sample.ids)) == min(size, len(ids))
    assert set(sample.ids) <= set(ids)


@given(
    st.builds(
        Sample,
        fetched=st.integers(0, 50),
        requests=st.integers(0, 450),
        messages=st.integers(0, 50_000),
        seconds=st.floats(0, 100),
    ),
    st.integers(0, 10**6),
    st.none() | st.floats(0.1, 1000),
)
def test_an_estimate_scales_with_the_sessions_and_never_outruns_the_rate(sample, sessions, rate):
    reported = estimate(Listed(sessions=sessions, to_fetch=sessions, requests=7), sample, rate)
    assert reported["requests"] == 7 + reported["messages_requests"]
    assert reported["minutes"] >= 0
    if rate is not None:
        assert reported["requests_per_second"] <= rate + 0.05
    if sample.fetched:
        mean = sample.requests / sample.fetched
        assert reported["messages_requests"] == pytest.approx(mean * sessions, abs=0.51)


def test_the_speed_is_the_one_that_is_kept_up_and_not_that_of_the_first_burst():
    sample = Sample()
    for number in range(400):
        at_once, later = min(number, 100), max(0, number - 100)
        sample.add(4, 2, at_once * 2 / 1000 + later * 2 / 150)
    sample.seconds = sample.ends[-1][0]
    reported = estimate(Listed(sessions=25_000, to_fetch=25_000), sample)
    assert reported["requests_per_second"] == pytest.approx(150, rel=0.01)
    assert reported["minutes"] == pytest.approx(25_000 * 2 / 150 / 60, rel=0.02)


def test_the_margin_holds_the_messages_that_there_are_in_nearly_all_samples():
    hits = 0
    for seed in range(40):
        of = random.Random(seed)
        counts = [of.choice((0, 2, 5, 40)) for _ in range(1000)]
        sample = Sample()
        for each in of.sample(counts, 50):
            sample.add(each, 1, 0.0)
        found = estimate(Listed(sessions=1000, to_fetch=1000), sample)
        hits += abs(found["messages"] - sum(counts)) <= found["messages_margin"]
    assert hits >= 35


def test_a_plan_of_what_is_all_kept_has_nothing_to_fetch():
    sample = Sample()
    sample.add(4, 2, 0.1)
    found = estimate(Listed(sessions=9, to_fetch=0, requests=3), sample)
    assert (found["messages"], found["requests"], found["minutes"]) == (0, 0, 0)
