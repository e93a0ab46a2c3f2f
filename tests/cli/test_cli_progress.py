"""How far a run has come, in figures and words."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from navtalk_async.cli._progress import RequestRate, RunMonitor, Snapshot, drawn, seconds_left
from navtalk_async.events import Answered, CallInfo, Failed, Stats, Waiting
from navtalk_async.ingest import Progress, RunReport

CALL = CallInfo(1, "sessions.list", "navtalk", "GET", "/s", "normal", "http://127.0.0.1")


class Run:
    """A run that began at 100 s on a clock of its own."""

    def __init__(self, progress=None, *, stats=None):
        self.now = 100.0
        self.monitor = RunMonitor(progress or Progress(), lambda: self.now)
        self.monitor.stats = lambda: stats or Stats()

    def event_at(self, now, event):
        self.now = now
        self.monitor(event)

    def seen_at(self, now):
        self.now = now
        return self.monitor.snapshot()


def halfway(*, all_listed=False, **figures):
    return Progress(report=RunReport(**figures), listed_share=0.41, all_listed=all_listed)


def test_a_run_is_shown_in_one_line():
    progress = halfway(done=12_340, open=118, failed=3, messages=311_204)
    reported = str(Run(progress, stats=Stats(requests=902, retries=1, in_flight=24)).seen_at(111.0))
    assert reported == (
        "41 % of the time range: sessions 12,340 done / 118 open / 3 failed, 311,204 messages, "
        "82 requests/s, 24 in flight, 1 retry"
    )


def test_before_the_first_session_there_is_no_share():
    seen = Run().seen_at(101.23)
    assert (seen.share, seen.seconds) == (None, 1.2)
    assert str(seen).startswith("listing: sessions 0 done / 0 open, 0 messages")


def test_once_all_is_listed_the_share_is_that_of_the_sessions():
    reported = Run(halfway(done=30, open=10, all_listed=True)).seen_at(101.0)
    assert (reported.share, reported.share_of) == (0.75, "sessions")


@given(st.floats(0, 0.9), st.floats(0.05, 0.1), st.floats(10, 10_000))
def test_what_is_left_goes_by_the_speed_since_the_run_began_wherever_it_continued(before, more, seconds):
    left = seconds_left((100.0, before), (100.0 + seconds, before + more))
    assert left == pytest.approx((1 - before - more) / more * seconds, rel=0.01, abs=0.1)


def test_before_anything_is_known_nothing_is_estimated():
    assert seconds_left((0.0, 0.5), (1.0, 0.9)) is None
    assert seconds_left((0.0, 0.5), (100.0, 0.5)) is None


def test_what_is_left_and_why_it_is_slow_are_shown():
    progress = halfway(done=10, open=0)
    run = Run(progress, stats=Stats(requests=9, answers=9, network_seconds=90.0, decode_seconds=10.0))
    run.seen_at(100.0)
    progress.listed_share = 0.705
    shown = str(run.seen_at(160.0))
    assert shown.startswith("70 % of the time range, about 60 s left: ")
    assert shown.endswith("; 90% of the time was spent on the network and the server.")


def test_what_is_listed_and_not_fetched_is_not_done():
    assert Run(halfway(done=10, open=30)).seen_at(101.0).share == pytest.approx(0.41 / 4, abs=1e-4)


def test_of_a_list_with_a_total_the_share_is_known_without_a_time_range():
    progress = Progress(report=RunReport(listed=200, done=100, open=100), total=400)
    assert (Run(progress).seen_at(101.0).share, Run(progress).seen_at(101.0).share_of) == (0.25, "sessions")


def test_a_listing_without_news_keeps_the_share_of_time():
    assert Run(halfway(all_listed=True)).seen_at(101.0).share_of == "time range"


def test_a_wait_is_shown_with_its_reason():
    run = Run()
    run.event_at(100.0, Waiting(41.2, "RateLimited: The server answered 429."))
    assert str(run.seen_at(100.0)).endswith("; waiting 41 s: RateLimited: The server answered 429.")


def test_a_failing_server_is_shown_until_it_answers():
    run = Run()
    run.event_at(110.0, Failed(CALL, 1, "ServerError: 500"))
    assert str(run.seen_at(110.5)).endswith("; the latest request failed: ServerError: 500")
    run.event_at(111.0, Answered(CALL, 2, 0.1))
    assert str(run.seen_at(111.0)).endswith("0 in flight")
    assert run.seen_at(111.0).reason is None


def test_a_pause_is_shown_until_it_ends_whatever_answers_arrive_meanwhile():
    run = Run()
    run.event_at(100.0, Waiting(30.0, "RateLimited: 429"))
    run.event_at(101.0, Waiting(2.0, "RateLimited: again"))
    run.event_at(102.0, Answered(CALL, 1, 0.1))
    seen = run.seen_at(102.0)
    assert (seen.waiting_seconds, seen.reason) == (28.0, "RateLimited: again")
    run.event_at(130.0, Answered(CALL, 1, 0.1))
    seen = run.seen_at(130.0)
    assert (seen.waiting_seconds, seen.reason) == (0.0, None)


def test_the_rate_of_a_run_shorter_than_a_report_is_that_of_the_whole_run():
    assert Run(stats=Stats(requests=300)).seen_at(103.0).requests_per_second == 100.0


def test_the_request_rate_is_that_of_the_latest_seconds():
    pace = RequestRate(span_seconds=5.0)
    assert [pace(float(second), second * 100) for second in range(11)][-1] == pytest.approx(100.0)
    assert [pace(10.0 + second, 1000) for second in range(11)][-1] == 0.0


def test_the_first_requests_together_are_no_request_rate():
    pace = RequestRate()
    pace(0.0, 0)
    assert pace(0.01, 32) == 32.0


@given(
    st.none() | st.floats(0, 1),
    st.integers(0, 10**7),
    st.floats(0, 10**5),
    st.none() | st.text(max_size=200),
    st.integers(20, 200),
)
def test_the_bar_fits_any_terminal_and_shows_no_control_characters(share, done, waiting, reason, width):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False
    )
    with console.capture() as captured:
        console.print(drawn(Snapshot(share=share, done=done, waiting_seconds=waiting, reason=reason)))
    rows = captured.get().split("\n")
    assert all(cell_len(row) <= width for row in rows)
    assert len(rows) <= 5
    assert "\x1b" not in captured.get()
