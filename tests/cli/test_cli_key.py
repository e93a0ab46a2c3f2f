"""The command's key, as whoever looks into the running program finds it: not at all."""

import os
import sys
from functools import partial
from pathlib import Path

import click
import pytest
from key_leaks import HiddenCall, KeyLeaks
from rich.pretty import pretty_repr

from navtalk_async.cli._key import RUNNING, given_key
from navtalk_async.cli._settings import Key, Settings

LONG = "CANARY-" + "K7Zq" * 40


def refusal(read, leaks):
    with pytest.raises(click.UsageError) as caught:
        read()
    leaks.see_error(caught.value)
    return caught.value


BAD = [f"{LONG}\nX".encode(), f"{LONG} X".encode(), LONG.encode() + b"\xff", LONG.encode() + b"\0X"]


@pytest.mark.parametrize("bad", BAD, ids=["newline", "space", "no text", "null"])
@pytest.mark.parametrize("source", ["file", "command", "environment"])
def test_a_key_that_is_refused_is_not_shown(bad, source, tmp_path, monkeypatch):
    (tmp_path / "key").write_bytes(bad)
    command = f"cat {tmp_path / 'key'}"
    monkeypatch.setenv("X_KEY", bad.replace(b"\0", b" ").decode("utf-8", "surrogateescape"))
    file = tmp_path / "key" if source == "file" else None
    read = partial(given_key, "X_KEY", file, command if source == "command" else None)
    leaks = KeyLeaks()
    refusal(HiddenCall(Key(read).read), leaks)
    assert leaks.texts_with_key() == []


def test_a_command_that_prints_a_key_and_fails_does_not_show_it(tmp_path):
    (tmp_path / "print.py").write_text("import sys; print('CANARY-' + 'K7Zq' * 40); sys.exit(1)")
    leaks = KeyLeaks()
    refusal(partial(given_key, "X_KEY", None, f"{sys.executable} {tmp_path / 'print.py'}"), leaks)
    assert leaks.texts_with_key() == []


def test_a_key_command_that_hangs_is_ended(tmp_path):
    (tmp_path / "hang.sh").write_text(f"sleep 100 &\necho $! > {tmp_path / 'child'}\nwait\n")
    with pytest.raises(click.UsageError, match=r"took over 0\.2 s"):
        given_key("X_KEY", None, f"sh {tmp_path / 'hang.sh'}", seconds=0.2)
    assert not RUNNING


def test_a_named_pipe_that_nobody_writes_to_is_refused_in_words(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(click.UsageError, match=r"no whole key within 0\.05 s"):
        given_key("X_KEY", tmp_path / "pipe", None, seconds=0.05)


def test_a_file_without_an_end_is_no_key():
    with pytest.raises(click.UsageError, match="characters that no key has"):
        Key(lambda: given_key("X_KEY", Path("/dev/zero"), None)).read()


def test_no_object_that_holds_the_key_shows_it(monkeypatch):
    monkeypatch.setenv("NAVTALK_API_KEY", LONG)
    settings = Settings(progress="none")
    settings.key.read()
    leaks = KeyLeaks()
    for thing in (settings, settings.key, vars(settings.key)):
        leaks.see(thing)
        leaks.see(pretty_repr(thing))
    assert leaks.texts_with_key() == []
    assert settings.key() == LONG
