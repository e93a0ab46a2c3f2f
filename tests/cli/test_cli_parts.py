"""What the command decides, apart from any process: codes, words, figures, and what may be shown."""

import asyncio
import io
import json
import logging
import socket
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from navtalk_async import errors
from navtalk_async.cli import _options as options
from navtalk_async.cli._output import (
    LogHandler,
    Reporter,
    counted,
    size,
    tab_separated,
    transcript_text,
    visible,
)
from navtalk_async.cli._progress import RequestRate, Snapshot, Trouble, clock, drawn, snapshot
from navtalk_async.cli.app import COMMANDS, Exit, exit_code, navtalk, run, run_app
from navtalk_async.events import Answered, Failed, Stats, Waiting
from navtalk_async.ingest import Progress, RunReport

KEY = "CANARY-7f3a5c91"

CODES = {
    "AccessDenied": 4,
    "ApiError": 5,
    "AttemptTimeout": 5,
    "BadRequest": 2,
    "BodyTooLarge": 5,
    "BrokenBody": 5,
    "ClientClosed": 5,
    "Conflict": 5,
    "ConnectFailed": 5,
    "DeadlineExceeded": 5,
    "DecodeFailed": 5,
    "Disconnected": 5,
    "NavTalkError": 5,
    "NotFound": 2,
    "NotJson": 5,
    "RateLimited": 5,
    "Redirected": 2,
    "RepeatedPage": 5,
    "ServerError": 5,
    "StoreBroken": 2,
    "StoreError": 5,
    "StoreLocked": 11,
    "StoreMismatch": 2,
    "StoreUnreachable": 2,
    "StreamBroken": 5,
    "TransportError": 5,
    "WrongShape": 5,
}


def test_every_error_of_the_library_has_its_exit_code():
    assert {name: int(exit_code(getattr(errors, name)("Said."))) for name in errors.__all__} == CODES


def test_a_question_that_is_refused_may_be_the_fault_of_the_key():
    error = errors.BadRequest("Said.")
    error.suspect_key()
    assert exit_code(error) == 4
    assert "key" in str(error)


@pytest.mark.parametrize("error", [RuntimeError("x"), ValueError("x"), KeyError("x"), OSError("x")])
def test_what_nobody_meant_to_raise_is_a_bug(error):
    assert exit_code(error) is Exit.BUG


def test_a_bug_shows_where_it_is_and_asks_for_a_report_without_the_key(capsys):
    async def work():
        spoken = "what somebody said"
        raise RuntimeError(f"lost at https://host/?apikey={KEY}, {len(spoken)}")

    assert run(work(), Reporter(secrets=[KEY])) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "Please report it" in shown
    assert KEY not in shown
    assert "what somebody said" not in shown.replace('spoken = "what somebody said"', "")


def test_a_bug_is_told_as_an_object_where_objects_were_asked_for(capsys):
    async def work():
        raise RuntimeError("lost")

    assert run(work(), Reporter(as_json=True)) == 1
    told = json.loads(capsys.readouterr().err)
    assert (told["event"], told["exit_code"]) == ("error", 1)
    assert "RuntimeError: lost" in told["trace"]


def test_an_error_says_what_happened_and_the_next_step_with_its_option(capsys):
    async def work():
        raise errors.DeadlineExceeded("Gave up after 1.5 of 1.5 s.") from errors.ServerError("Answered 500.")

    assert run(work(), Reporter()) == 5
    assert capsys.readouterr().err == (
        "navtalk: Gave up after 1.5 of 1.5 s. Allow more time with --timeout, or try again later.\n"
    )


def test_what_a_server_says_cannot_play_with_the_terminal(capsys):
    async def work():
        raise errors.ServerError("The server answered 500: \x1b[2J\x1b]0;owned\x07\u202egone.")

    assert run(work(), Reporter()) == 5
    shown = capsys.readouterr().err
    assert shown.endswith("\n")
    assert shown[:-1].isprintable()
    assert "\\x1b[2J" in shown


def test_talk_survives_a_listener_who_has_gone(monkeypatch):
    class Gone(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    Reporter().note("anybody there?")
    monkeypatch.setattr("sys.stderr", None)
    Reporter().note("anybody there?")


@given(st.text())
def test_visible_text_is_one_line_that_does_nothing_to_a_terminal(text):
    shown = visible(text)
    assert all(letter.isprintable() or letter in "\u200c\u200d" or letter.isspace() for letter in shown)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(letter) < 32 for letter in shown)


@pytest.mark.parametrize("text", ["", "plain", "सकते हैं", "👩\u200d👩\u200d👧 the family", "全角\u3000空白"])
def test_visible_text_leaves_what_can_be_seen_as_it_is(text):
    assert visible(text) == text


@given(st.lists(st.fixed_dictionaries({"a": st.none() | st.text(), "b": st.integers()})))
def test_tab_separated_rows_are_a_line_each_and_a_tab_between_cells(rows):
    lines = tab_separated(("a", "b"), rows, header=True).split("\n")
    assert len(lines) == len(rows) + 2
    assert {each.count("\t") for each in lines[:-1]} == {1}


def test_a_transcript_keeps_lines_and_escapes_the_rest():
    session = {"id": "s", "status": "completed"}
    said = {"role": "user", "type": 0, "created_at": "2025-11-12T18:20:43Z"}
    said["content"] = "one\r\ntwo\x1b[31m\n\nthree"
    assert transcript_text(session, [said, {**said, "type": "thinking", "content": None}]) == (
        "id      s\nstatus  completed\n"
        "\nuser  2025-11-12T18:20:43Z\n    one\n    two\\x1b[31m\n\n    three\n"
        "\nuser  thinking  2025-11-12T18:20:43Z\n\n"
    )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-11-12", datetime(2025, 11, 12, tzinfo=UTC)),
        ("2025-11-12 18:20:38", datetime(2025, 11, 12, 18, 20, 38, tzinfo=UTC)),
        ("2025-11-12T18:20:38Z", datetime(2025, 11, 12, 18, 20, 38, tzinfo=UTC)),
        ("2025-11-12T18:20:38+05:30", datetime(2025, 11, 12, 12, 50, 38, tzinfo=UTC)),
    ],
)
def test_a_time_is_utc_unless_it_has_an_offset(text, moment):
    assert options.as_time(text) == moment
    assert options.as_time(text).utcoffset() == timedelta(0)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-14, 14))
def test_a_time_of_any_zone_is_read_as_the_moment_it_is(naive, hours):
    moment = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert options.as_time(moment.isoformat()) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "12.11.2025", "2025-13-01", "0001-01-01T00:00:00+10:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(click.BadParameter, match="is not a time"):
        options.as_time(text)


@pytest.mark.parametrize(
    ("read", "text", "number"),
    [
        (options.as_word_or_number, "active", "active"),
        (options.as_word_or_number, "7", 7),
        (options.as_span, "50ms", timedelta(milliseconds=50)),
        (options.as_span, "1.5s", timedelta(seconds=1.5)),
        (options.as_span, "0.05", timedelta(milliseconds=50)),
        (options.as_concurrency, "auto", "auto"),
        (options.as_concurrency, "32", 32),
    ],
)
def test_words_and_numbers_are_understood(read, text, number):
    assert read(text) == number


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (options.as_span, "soon"),
        (options.as_span, "-1s"),
        (options.as_span, "nan"),
        (options.as_concurrency, "0"),
        (options.as_concurrency, "many"),
        (options.as_formats, "jsonl,docx"),
        (options.as_name, "\udcff"),
        (options.as_name, ""),
        (options.as_name, "a\nb"),
        (options.as_span, "40000d"),
        (options.as_span, "1e300d"),
        (options.as_folder, "postgresql://host/db"),
    ],
)
def test_other_words_are_refused(read, text):
    with pytest.raises(click.BadParameter):
        read(text)


def seen(progress=None, *, trouble=(0.0, None), stats=None):
    return snapshot(
        progress or Progress(),
        stats or Stats(),
        seconds=1.23,
        rate=82.4,
        trouble=trouble,
    )


def halfway(*, all_listed=False, **figures):
    begin = datetime(2025, 11, 1, tzinfo=UTC)
    return Progress(
        report=RunReport(**figures),
        range_start=begin,
        range_end=begin + timedelta(days=100),
        unlisted_seconds=59 * 86400,
        all_listed=all_listed,
    )


def test_a_run_is_told_in_one_line():
    progress = halfway(done=12_340, open=118, failed=3, messages=311_204)
    told = str(seen(progress, stats=Stats(requests=900, retries=1, in_flight=24)))
    assert told == (
        "41 % of the time range: sessions 12,340 done / 118 open / 3 failed, 311,204 messages, "
        "82 requests/s, 24 in flight, 1 retry"
    )


def test_before_the_first_session_there_is_no_share():
    assert seen().share is None
    assert str(seen()).startswith("listing: sessions 0 done / 0 open, 0 messages")


def test_once_all_is_listed_the_share_is_that_of_the_sessions():
    told = seen(halfway(done=30, open=10, all_listed=True))
    assert (told.share, told.share_of) == (0.75, "sessions")


def test_a_listing_without_news_keeps_the_share_of_time():
    assert seen(halfway(all_listed=True)).share_of == "time range"


def test_a_wait_is_told_with_its_reason():
    told = str(seen(trouble=(41.2, "RateLimited: The server answered 429.")))
    assert told.endswith("; waiting 41 s: RateLimited: The server answered 429.")


def test_a_failing_server_is_told_until_it_answers():
    trouble = Trouble()
    trouble.notice(Failed("/s", 1, "ServerError: 500"), now=10.0)
    assert str(seen(trouble=trouble.at(10.5))).endswith("; trying again: ServerError: 500")
    trouble.notice(Answered("/s", 2, 0.1), now=11.0)
    assert trouble.at(11.0) == (0.0, None)


def test_a_pause_is_told_to_its_end_whatever_answers_come_meanwhile():
    trouble = Trouble()
    trouble.notice(Waiting(30.0, "RateLimited: 429"), now=100.0)
    trouble.notice(Waiting(2.0, "RateLimited: again"), now=101.0)
    trouble.notice(Answered("/s", 1, 0.1), now=102.0)
    assert trouble.at(102.0) == (28.0, "RateLimited: again")
    trouble.notice(Answered("/s", 1, 0.1), now=130.0)
    assert trouble.at(130.0) == (0.0, None)


def test_the_pace_is_that_of_the_latest_seconds():
    pace = RequestRate(span_seconds=5.0)
    assert [pace(float(second), second * 100) for second in range(11)][-1] == pytest.approx(100.0)
    assert [pace(10.0 + second, 1000) for second in range(11)][-1] == 0.0


def test_the_first_requests_leaving_at_once_are_no_pace():
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
    assert all(len(row) <= width for row in rows)
    assert len(rows) <= 5
    assert "\x1b" not in captured.get()


def test_figures_are_written_for_people():
    assert [clock(0), clock(3_725.9)] == ["0:00:00", "1:02:05"]
    assert [size(999), size(8_180_907), size(2.5e12)] == ["999 bytes", "8.2 MB", "2500.0 GB"]
    assert [counted(1, "retry", "retries"), counted(2, "row")] == ["1 retry", "2 rows"]


def test_the_log_is_told_line_by_line_without_secrets(capsys):
    handler = LogHandler(Reporter(secrets=[KEY]))
    handler.emit(logging.LogRecord("n", logging.INFO, "p", 1, f"one {KEY}\ntwo", (), None))
    assert capsys.readouterr().err == "navtalk: info: one [key]\nnavtalk: info: two\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_has_help(name):
    command = navtalk.get_command(None, name)
    shown = CliRunner().invoke(navtalk, [name, "--help"])
    assert shown.exit_code == 0
    assert command.get_short_help_str(200)
    assert all(each.help for each in command.params if isinstance(each, click.Option))
    assert all(len(row) <= 80 for row in shown.output.splitlines())


def test_no_command_takes_a_key_as_an_argument():
    names = {
        name
        for each in map(partial(navtalk.get_command, None), COMMANDS)
        for option in each.params
        for name in option.opts
    }
    assert {name for name in names if "key" in name} == {"--api-key-file", "--api-key-command"}


def test_alone_the_command_shows_its_help():
    alone = CliRunner().invoke(navtalk, [])
    assert alone.exit_code == 0
    assert alone.output == CliRunner().invoke(navtalk, ["--help"]).output
    assert "navtalk export out --sandbox" in alone.output


def test_usage_errors_inside_the_loop_are_left_to_the_command_line():
    async def work():
        await asyncio.sleep(0)
        raise click.UsageError("no")

    with pytest.raises(click.UsageError):
        run(work(), Reporter())


NOBODY = "00000000-0000-11f0-0000-000000000000"

# What is refused. Nobody may be asked, so the base URL is that of a listener who notes whoever comes.


@pytest.fixture
def listener(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        monkeypatch.setenv("NAVTALK_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("NAVTALK_API_KEY", KEY)
        monkeypatch.chdir(tmp_path)
        yield
        with pytest.raises(BlockingIOError):
            listening.accept()


def refused(arguments, capfd):
    """What is said to whoever gives such *arguments*."""
    with pytest.raises(SystemExit) as ending:
        run_app([str(each) for each in arguments])
    out, err = capfd.readouterr()
    assert (ending.value.code, out) == (2, "")
    assert err.startswith("navtalk: ")
    assert len(err.splitlines()) == 1
    assert KEY not in err
    return err


BAD = [
    ("export",),
    ("expotr", "out"),
    ("export", "out", "--format", "docx"),
    ("export", "out", "--api", "slack"),
    ("export", "out", "--start", "yesterday"),
    ("export", "out", "--start", "2025-12-01", "--end", "2025-11-01"),
    ("export", "out", "--session", "../../etc"),
    ("export", "out", "--session", NOBODY, "--status", "failed"),
    ("export", "out", "--concurrency", "0"),
    ("export", "out", "--rate", "0"),
    ("export", "out", "--timeout", "0"),
    ("export", "out", "--sandbox", "--base-url", "https://example.com"),
    ("export", "out", "--key", "x"),
    ("export", __file__),
    ("sync", "mysql://me:hush@host/db"),
    ("sync", "."),
    ("sessions", "--status", "done"),
    ("sessions", "--status", "²"),
    ("export", "out", "--status", "-1"),
    ("export", "out", "--role", "completed"),
    ("messages", NOBODY, "--role", "completed"),
    ("sessions", "--base-url", "http://example.com"),
    ("sessions", "--base-url", f"https://example.com/?apikey={KEY}"),
    ("messages", "7"),
    ("session",),
    ("sandbox", "--faults", "fire=1"),
    ("sandbox", "--answers", "mood=good"),
    ("sandbox", "--answers", "errors=never"),
    ("sandbox", "--answers", "kodey_order=up"),
    ("sandbox", "--answers", "lexicon_invalid=404"),
    ("sandbox", "--latency", "soon"),
]


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize("arguments", BAD)
def test_what_makes_no_sense_is_refused_before_anything_is_sent_or_made(arguments, tmp_path, capfd):
    assert "hush" not in refused(arguments, capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize(
    "way",
    [
        (),
        ("--api-key-file", "nowhere"),
        ("--api-key-file", "."),
        ("--api-key-file", "empty"),
        ("--api-key-file", "binary"),
        ("--api-key-file", "two"),
        ("--api-key-file", "empty", "--api-key-command", "true"),
        ("--api-key-command", "no-such-program-here"),
        ("--api-key-command", "false"),
        ("--api-key-command", "true"),
        ("--api-key-command", "cat binary"),
        ("--api-key-command", "'"),
        ("--api-key-command", ""),
        ("--sandbox", "--api-key-command", "true"),
    ],
)
def test_a_key_that_cannot_be_had_is_told_in_a_sentence(way, monkeypatch, tmp_path, capfd):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "two").write_text(f"{KEY} {KEY}")
    monkeypatch.delenv("NAVTALK_API_KEY")
    assert "key" in refused(("sessions", *way), capfd)
