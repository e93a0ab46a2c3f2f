"""The frame of the benchmarks: a misspelt name, a failed contender, a wrong count are seen.

The questions themselves are asked by `python -m benchmarks`.
"""

import asyncio
import importlib
import pkgutil
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import picture, questions, report, rounds, server
from benchmarks.limits import Bucket, Window, ideal_seconds
from benchmarks.peers.peer import Haul, check, peer, whole_walk
from benchmarks.question import OURS, Bar, Contender, Figure, Job, Panel, Question, Round
from benchmarks.world import World, session_id, starts

NAMES = [found.name for found in pkgutil.iter_modules(questions.__path__)]


def question_of(name):
    return importlib.import_module(f"benchmarks.questions.{name}").QUESTION


def answer(question, runs, *, times=1):
    """The answer if contenders, instead of running, have the figures of *runs*, round after round."""
    left = {name: iter(figures) for name, figures in runs.items()}

    def run(_name, _question, contender, _job):
        figures = next(left[contender])
        if isinstance(figures, Exception):
            raise figures
        return figures

    return rounds.ask("made_up", "What?", question, rounds=times, quick=False, tell=str, run=run)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_a_question_uses_is_one_of_its_own(name):
    question = question_of(name)
    shown = {figure.name for figure in question.figures}
    measured = {
        (contender, case): dict.fromkeys(shown, 1.0)
        for case in question.cases
        for contender, one in question.contenders.items()
        if rounds.takes_part(one, case, 0, quick=False)
    }
    for bar in question.bars:
        assert bar.value(Round(measured)) >= 0.0
        assert bar.at_most < float("inf") or bar.at_least > float("-inf")
    assert {figure.against for figure in question.figures} <= {None, *question.contenders}
    assert {panel.figure for panel in question.panels} <= shown
    assert {panel.case for panel in question.panels} <= set(question.cases)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_ends_with_its_mark_and_has_a_bar(name):
    module = importlib.import_module(f"benchmarks.questions.{name}")
    assert module.__doc__.partition("\n")[0].endswith("?")
    assert module.QUESTION.bars


def question_about(*names, against=None, bars=()):
    return Question(
        contenders={name: Contender(work=dict) for name in names},
        figures=(Figure(name="cpu", unit="µs", against=against),),
        panels=(Panel(title="<One> & other", figure="cpu"),),
        bars=bars,
    )


def test_a_bar_is_judged_by_the_median_of_what_ran_together():
    bar = Bar(says="ours", value=lambda of: of("cpu", OURS) / of("cpu", "bare"), at_most=1.1)
    runs = {
        "bare": [{"cpu": 10.0}, {"cpu": 20.0}, {"cpu": 10.0}],
        OURS: [{"cpu": 11.0}, {"cpu": 21.0}, {"cpu": 90.0}],
    }
    [verdict] = answer(question_about("bare", OURS, bars=[bar]), runs, times=3).verdicts
    assert verdict.values == [1.1, 1.05, 9.0]
    assert verdict.met


def test_a_contender_that_fails_once_has_no_figures_and_meets_no_bar():
    bar = Bar(says="ours", value=lambda of: of("cpu", OURS), at_most=1.0)
    runs = {
        "bare": [{"cpu": 10.0}, {"cpu": 10.0}],
        OURS: [{"cpu": 0.5}, rounds.RunFailed("7 of 8 sessions.")],
    }
    done = answer(question_about("bare", OURS, bars=[bar]), runs, times=2)
    assert done.failures == [f"{OURS}: 7 of 8 sessions."]
    assert [result.contender for result in done.results] == ["bare"]
    assert not done.verdicts[0].met
    assert "could not be measured" in report.table(done)


def test_who_does_better_than_ours_is_named_and_the_yardstick_is_not():
    costs = {"bare": 1.0, OURS: 4.0, "swift": 2.0, "slow": 8.0}
    runs = {name: [{"cpu": cost}] for name, cost in costs.items()}
    done = answer(question_about(*costs, against="bare"), runs)
    assert done.better == ["swift: 0.50 times ours (µs)"]
    assert "swift: 0.50 times ours (µs)" in report.markdown([done], "two cores")


def test_a_figure_that_a_round_lacks_is_compared_in_the_others():
    runs = {"bare": [{"cpu": 1.0}, {"cpu": 2.0}, {}], OURS: [{}, {"cpu": 6.0}, {"cpu": 5.0}]}
    done = answer(question_about(*runs, against="bare"), runs, times=3)
    assert [result.times["cpu"] for result in done.results] == [[1.0, 1.0], [3.0]]
    assert "3.00" in report.table(done)


def test_the_picture_is_well_formed_and_has_a_bar_for_everybody():
    runs = {"a & b": [{"cpu": 2.0}], OURS: [{"cpu": 1.0}]}
    drawn = ET.fromstring(picture.draw([answer(question_about(*runs), runs)]))
    bars = drawn.findall(".//{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["other", "ours"]
    theirs, ours = (float(bar.get("width")) for bar in bars)
    assert theirs == pytest.approx(2 * ours, rel=0.01)


@pytest.mark.parametrize("name", ["aiohttp + json", OURS])
@pytest.mark.parametrize(
    "world",
    [
        World(sessions=130),
        World(sessions=130, cursor="always", short_every=10),
        World(sessions=12, messages=401),
    ],
)
async def test_everybody_gets_everything(name, world):
    with server.running(world) as address:
        figures = await whole_walk(peer(name), Job(size=1, address=address), world, at_once=4)
    assert figures["requests"] >= world.fewest_requests


def test_a_missing_message_is_noticed():
    with pytest.raises(AssertionError, match="messages=19"):
        check(Haul(sessions=2, messages=19), World(sessions=2, messages=10))


@given(st.integers(0, 3_000))
def test_sessions_are_made_in_order_and_the_last_fifth_on_a_day_of_its_own(sessions):
    made = starts(sessions)
    assert len(made) == sessions
    assert made == sorted(made)
    assert made == starts(sessions)


@given(st.integers(1, 300), st.integers(10, 60), st.sampled_from(["window", "bucket"]))
def test_nobody_is_faster_than_the_ideal_and_the_greedy_come_close(calls, rate, rate_by):
    limit = {"window": Window, "bucket": Bucket}[rate_by](rate)
    tick, passed, number = 1 / 64, 0, 0
    while passed < calls:
        while passed < calls and limit.admits(number * tick):
            passed += 1
        number += 1
    seconds = (number - 1) * tick
    ideal = ideal_seconds(calls, rate, rate_by)
    assert ideal - 1e-6 <= seconds <= ideal + 2 * tick


async def test_requests_beyond_the_cap_are_refused_and_counted():
    world = World(sessions=10, at_once=2, latency_seconds=0.2)
    with server.running(world) as address:
        async with aiohttp.ClientSession(address) as http:

            async def status(session):
                async with http.get(f"/api/chat/messages?sessionId={session_id(session)}") as answer:
                    return answer.status

            statuses = await asyncio.gather(*map(status, range(5)))
        assert sorted(statuses) == [200, 200, 429, 429, 429]
        counted = server.counts(address)
    assert (counted["asked"], counted["refused"]) == (5, 3)
