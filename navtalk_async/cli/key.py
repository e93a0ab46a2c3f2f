"""Where the key comes from: a file, a command or the environment, and never the command line."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import click

from navtalk_async.wire.secret import checked_key, discreet

__all__ = ["Key", "given_key"]


PATIENCE_SECONDS = 120.0
"""How long a key command may take; somebody may have to type a password."""


class Key:
    """The key, which may be read again from where it came; called, it gives the text."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self.renew()

    def __call__(self) -> str:
        """The text."""
        return self.secret.reveal()

    def renew(self) -> None:
        """Read it again: it may have been rotated.

        Raises:
            click.UsageError: it cannot be read, or is none; then it stays what it was.
        """
        try:
            self.secret = checked_key(self._read())
        except ValueError as refusal:
            raise click.UsageError(str(refusal)) from None


@discreet
def given_key(variable: str, file: Path | None, command: str | None) -> str:
    """The key from *file*, or from what *command* prints, or else from the environment's *variable*.

    Raises:
        click.UsageError: there is none; the message says what to do, and shows nothing that was read.
    """
    if file is not None and command is not None:
        raise click.UsageError("Give --api-key-file or --api-key-command, not both.")
    if file is not None:
        return _of_file(file)
    if command is not None:
        return _of_command(command)
    key = os.environ.get(variable)
    if key is None:
        raise click.UsageError(
            f"No API key. Set {variable} in the environment, or give --api-key-file or --api-key-command; "
            "--sandbox needs none."
        )
    return key


def _of_file(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except OSError as failure:
        raise click.UsageError(f"The key file {file} cannot be read: {failure.strerror}.") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"The key file {file} holds no text.") from None
    if not key:
        raise click.UsageError(f"The key file {file} is empty.")
    return key


def _of_command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as failure:
        raise click.UsageError(f"The text of --api-key-command is no command: {failure}.") from None
    if not words:
        raise click.UsageError("The text of --api-key-command is empty.")
    try:
        # Its questions and complaints go to the terminal as they are; only what it prints is the key.
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=PATIENCE_SECONDS)  # noqa: S603 - the user's own
    except subprocess.TimeoutExpired:
        raise click.UsageError(
            f"The key command {words[0]} took longer than {PATIENCE_SECONDS:.0f} s."
        ) from None
    except OSError as failure:
        raise click.UsageError(f"The key command {words[0]} cannot be run: {failure.strerror}.") from None
    if done.returncode:
        raise click.UsageError(f"The key command {words[0]} failed with exit code {done.returncode}.")
    try:
        key = done.stdout.decode().strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"The key command {words[0]} printed something that is no text.") from None
    if not key:
        raise click.UsageError(f"The key command {words[0]} printed no key.")
    return key
