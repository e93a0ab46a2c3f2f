"""The API key, read from where the options say; whatever it is read from is bounded in time and size."""

import os
import select
import shlex
import signal
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import IO

import click

from navtalk_async.wire.secret import hide_frames

LONGEST_SECONDS = 120.0
"""How long a key command may take at most; somebody may have to type a password."""

LONGEST_KEY = 1 << 16

BY_OPTIONS = "give --api-key-file or --api-key-command; --sandbox needs none"

RUNNING: set[subprocess.Popen[bytes]] = set()
"""The key commands that run now."""


@hide_frames
def given_key(
    variable: str,
    file: Path | None,
    command: str | None,
    *,
    seconds: float = LONGEST_SECONDS,
    how: str = BY_OPTIONS,
) -> str:
    """The key from *file*, or from the output of *command*, or else from the environment's *variable*.

    A `click.UsageError` says what to do, and *how*, where there is none, or where it takes more than
    *seconds*, and shows nothing that was read.
    """
    if file is not None and command is not None:
        raise click.UsageError("Give --api-key-file or --api-key-command, not both.")
    if file is not None:
        return _key_of_file(file, seconds)
    if command is not None:
        return _key_of_command(command, seconds)
    if variable in os.environ:
        return os.environ[variable]
    raise click.UsageError(f"No API key. Set {variable} in the environment, or {how}.")


def _key_of_file(file: Path, seconds: float) -> str:
    try:
        # A named pipe would hold up its opening until somebody writes to it.
        with open(file, "rb", buffering=0, opener=_opened_at_once) as opened:
            data = _read(opened, seconds)
    except TimeoutError:
        raise click.UsageError(f"The key file {file} gave no whole key within {seconds:g} s.") from None
    except OSError as failure:
        raise click.UsageError(f"The key file {file} cannot be read: {failure.strerror}.") from None
    return _key_of_bytes(data, f"The key file {file} holds")


def _key_of_command(command: str, seconds: float) -> str:
    try:
        program, *arguments = shlex.split(command)
    except ValueError:
        raise click.UsageError("The text of --api-key-command is not a command.") from None
    what = f"The key command {program}"
    began = monotonic()
    try:
        # Its questions and complaints go to the terminal as they are; only its output is the key.
        process = subprocess.Popen(  # noqa: S603 - the user's own
            [program, *arguments], stdout=subprocess.PIPE, bufsize=0, start_new_session=not _has_terminal()
        )
    except OSError as failure:
        raise click.UsageError(f"{what} cannot be run: {failure.strerror}.") from None
    RUNNING.add(process)
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with closing(process.stdout) as output:
            data = _read(output, seconds)
        code = process.wait(max(0.1, began + seconds - monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise click.UsageError(f"{what} took over {seconds:g} s.") from None
    finally:
        _end(process)
        RUNNING.discard(process)
    if code:
        raise click.UsageError(f"{what} failed with exit code {code}.")
    return _key_of_bytes(data, f"{what} printed")


def end_commands() -> None:
    """End the key commands that run now."""
    for process in list(RUNNING):
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End *process*, if it runs, and where it has a session of its own, its children."""
    if process.poll() is not None:
        return
    with suppress(OSError):
        if hasattr(os, "killpg") and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.wait()


def _has_terminal() -> bool:
    """Whether there is a terminal at which a password may be typed, which another session could not read."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read(file: IO[bytes], seconds: float) -> bytes:
    """What *file* holds until its end, as far as a key may be long; a TimeoutError after *seconds*."""
    data, ends = b"", monotonic() + seconds
    while len(data) < LONGEST_KEY:
        _wait_for(file, ends - monotonic())
        some = os.read(file.fileno(), LONGEST_KEY)
        if not some:
            break
        data += some
    return data


def _wait_for(file: IO[bytes], seconds: float) -> None:
    if not hasattr(select, "poll"):
        return  # Windows, where nothing but a socket can be waited for.
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    if seconds <= 0 or not waiting.poll(min(seconds, LONGEST_SECONDS) * 1000):
        raise TimeoutError


def _key_of_bytes(data: bytes, found: str) -> str:
    try:
        key = data.decode().strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"{found} something that is not text.") from None
    if not key:
        raise click.UsageError(f"{found} no key.")
    return key
