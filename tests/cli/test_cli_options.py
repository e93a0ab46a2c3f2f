"""What the options mean, and what is refused before anything is sent."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.cli import _options as options
from navtalk_async.cli._output import Reporter
from navtalk_async.cli.app import COMMANDS, navtalk, run, run_app

KEY = "CANARY-7f3a5c91"


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
def test_other_texts_are_refused_as_times(text):
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


@pytest.fixture
def listener(monkeypatch, tmp_path):
    """A server at the base URL that notices whoever connects: nobody may."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        monkeypatch.setenv("NAVTALK_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("NAVTALK_API_KEY", KEY)
        monkeypatch.chdir(tmp_path)
        yield
        with pytest.raises(BlockingIOError):
            listening.accept()


def refused(arguments, capfd):
    """What stderr says of such *arguments*."""
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
def test_nonsense_is_refused_before_anything_is_sent_or_made(arguments, tmp_path, capfd):
    assert "hush" not in refused(arguments, capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exprot"], "No such command 'exprot'. Did you mean export? See `navtalk --help`."),
        (["xyz"], "No such command 'xyz'. See `navtalk --help`."),
        (["completion"], "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish. See `navtalk"),
    ],
)
def test_a_usage_error_is_one_line_and_names_the_command_that_was_meant(arguments, said, capfd):
    assert refused(arguments, capfd).startswith(f"navtalk: {said}")


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
def test_a_key_that_cannot_be_read_is_reported_in_a_sentence(way, monkeypatch, tmp_path, capfd):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "two").write_text(f"{KEY} {KEY}")
    monkeypatch.delenv("NAVTALK_API_KEY")
    assert "key" in refused(("sessions", *way), capfd)
