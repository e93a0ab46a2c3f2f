"""Exit codes, and what is written to stderr and stdout."""

import io
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async import errors
from navtalk_async.cli._layout import tab_separated, transcript_text
from navtalk_async.cli._options import as_options
from navtalk_async.cli._output import LogHandler, Reporter, size, visible
from navtalk_async.cli.app import Exit, exit_code, run, run_app
from navtalk_async.errors import counted

KEY = "CANARY-7f3a5c91"

KINDS = sorted(name for name in errors.__all__ if isinstance(getattr(errors, name), type))

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
    "UnknownHost": 5,
    "UntrustedCertificate": 2,
    "WrongShape": 5,
}


def test_every_error_of_the_library_has_its_exit_code():
    assert {name: int(exit_code(getattr(errors, name)("Said."))) for name in KINDS} == CODES


def test_a_refused_request_may_be_the_fault_of_the_key():
    error = errors.BadRequest("Said.")
    error.suspect_key()
    assert exit_code(error) == 4
    assert "key" in str(error)


@pytest.mark.parametrize("error", [RuntimeError("x"), ValueError("x"), KeyError("x"), OSError("x")])
def test_any_other_error_is_a_bug(error):
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


def test_a_bug_is_reported_as_an_object_with_progress_json(capsys):
    async def work():
        raise RuntimeError("lost")

    assert run(work(), Reporter(as_json=True)) == 1
    reported = json.loads(capsys.readouterr().err)
    assert (reported["event"], reported["exit_code"]) == ("error", 1)
    assert "RuntimeError: lost" in reported["trace"]


def test_an_error_says_what_happened_and_the_next_step_with_its_option(capsys):
    async def work():
        raise errors.DeadlineExceeded("Gave up after 1.5 of 1.5 s.") from errors.ServerError("Answered 500.")

    assert run(work(), Reporter()) == 5
    assert capsys.readouterr().err == (
        "navtalk: Gave up after 1.5 of 1.5 s. Allow more time with --timeout, or try again later.\n"
    )


USAGE = {
    "sessions --bogus --json": "No such option",
    "--json": "No such option",
    "status nowhere --json": "nothing at nowhere",
    "sessions --progress=json --start never": "is not a time",
    "export out --sandbox --json --user ann": "by --user: only by --start and --end and --status",
    "plan --sandbox --json --rate -1": "--rate -1.0 lets no request through",
    "messages x --sandbox --json --project-id p": "has no option --project-id",
}


@pytest.mark.parametrize("words", USAGE)
def test_wrong_usage_is_an_object_where_json_is_asked_for_and_names_options(
    words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run_app(words.split())
    said = capsys.readouterr()
    reported = json.loads(said.err)
    assert (end.value.code, said.out, reported["exit_code"], reported["kind"]) == (2, "", 2, "UsageError")
    assert USAGE[words] in reported["message"]
    assert reported["next_step"].startswith("See `navtalk")


@pytest.mark.parametrize("words", ["--help", "--version", "status --help"])
def test_help_on_a_full_disk_is_a_sentence(words, capsys, monkeypatch):
    with Path("/dev/full").open("w") as full, pytest.raises(SystemExit) as end:
        monkeypatch.setattr("sys.stdout", full)
        run_app(words.split())
    monkeypatch.undo()
    assert end.value.code == 5
    assert capsys.readouterr().err.startswith("navtalk: The output cannot be written: No space left")


def test_the_version_is_printed_where_no_package_says_it(capsys, monkeypatch):
    # As in a bundle: the metadata of nothing is on the path.
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(SystemExit) as end:
        run_app(["--version"])
    assert (end.value.code, capsys.readouterr().out[:24]) == (0, "navtalk (unknown version")


def test_a_loop_of_symbolic_links_is_a_sentence(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for command in ("status", "verify", "sync"):
        with pytest.raises(SystemExit) as end:
            run_app([command, str(tmp_path / "loop")])
        assert end.value.code == 2


@pytest.mark.parametrize("error", KINDS)
def test_a_failure_is_an_object_where_json_is_asked_for_with_words_of_the_command(error, capsys):
    async def work():
        raise getattr(errors, error)("What happened.")

    assert run(work(), Reporter(errors_as_json=True)) == CODES[error]
    reported = json.loads(capsys.readouterr().err)
    assert (reported["kind"], reported["message"]) == (error, "What happened.")
    assert "limit`" not in reported["next_step"]
    assert as_options(reported["next_step"]) == reported["next_step"]


def test_text_of_a_server_does_nothing_to_the_terminal(capsys):
    async def work():
        raise errors.ServerError("The server answered 500: \x1b[2J\x1b]0;owned\x07\u202egone.")

    assert run(work(), Reporter()) == 5
    shown = capsys.readouterr().err
    assert shown.endswith("\n")
    assert shown[:-1].isprintable()
    assert "\\x1b[2J" in shown


def test_reporting_survives_a_closed_stderr(monkeypatch):
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


def test_figures_are_written_for_people():
    assert [size(999), size(8_180_907), size(2.5e12)] == ["999 bytes", "8.2 MB", "2500.0 GB"]
    assert [counted(1, "retry", "retries"), counted(2, "row")] == ["1 retry", "2 rows"]


def test_the_log_is_written_line_by_line_without_secrets(capsys):
    handler = LogHandler(Reporter(secrets=[KEY]))
    handler.emit(logging.LogRecord("n", logging.INFO, "p", 1, f"one {KEY}\ntwo", (), None))
    assert capsys.readouterr().err == "navtalk: info: one [key]\nnavtalk: info: two\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Use another project=.", "Use another --project."),
        (
            "Confirm it with server_moved=True; else use api=.",
            "Confirm it with --server-moved; else use --api.",
        ),
        ("You asked for status='completed'.", "You asked for --status completed."),
        ("You asked for start_time='2025-11-01 08:00:00'.", "You asked for --start '2025-11-01 08:00:00'."),
        ("concurrency=0 lets no request through.", "--concurrency 0 lets no request through."),
        ("my_project=3 and x=True stay.", "my_project=3 and x=True stay."),
    ],
)
def test_the_arguments_that_an_error_names_are_shown_as_options(text, shown):
    assert as_options(text) == shown
