"""Run asynchronous work as a process does it: signals, exit codes, and no traceback but for our bugs."""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn

import click

from navtalk_async.cli.exits import Exit, exit_code
from navtalk_async.cli.talk import Talk
from navtalk_async.errors import NavTalkError

__all__ = ["leave", "run", "tell_why"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)

A_BUG = (
    "This is a bug in navtalk-async, and not your fault; nothing that was kept is lost. "
    "Please report it, with the lines above."
)


class Stop:
    """Which signal, if any, told us to stop."""

    signal = 0


def run(
    work: Coroutine[Any, Any, int], talk: Talk, *, when_stopped: str = "", stopped_is_done: bool = False
) -> int:
    """The exit code of *work*, run in an event loop of its own.

    The first SIGINT or SIGTERM cancels *work*, which keeps what it has finished; a second one ends the
    process on the spot. *when_stopped* is then said; with *stopped_is_done*, being stopped is success.
    """
    stop = Stop()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_until_stopped(work, stop))
    except click.UsageError:
        raise
    except (asyncio.CancelledError, KeyboardInterrupt):
        # Where the loop knows no signals (Windows), the runner turns Ctrl-C into a KeyboardInterrupt.
        stop.signal = stop.signal or signal.SIGINT
    except Exception as error:  # noqa: BLE001 - here, every error becomes an exit code
        code = tell_why(error, talk)
        if not stop.signal:
            return code
    if when_stopped:
        talk.say(when_stopped)
    return Exit.OK if stopped_is_done else 128 + stop.signal


def tell_why(error: BaseException, talk: Talk) -> int:
    """Say what *error* was, and give its exit code; a traceback is shown for what is our fault alone."""
    code = exit_code(error)
    if code is Exit.BUG:
        # The stack as such: local variables, which hold what people said, are never printed.
        talk.fail(A_BUG, code, trace="".join(traceback.format_exception(error)))
    elif isinstance(error, NavTalkError):
        talk.fail(_paragraph(error), code)
    return code


def leave(code: int) -> NoReturn:
    """End the process with *code*."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # The reader has gone; the interpreter would flush again on its way out, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code > 128:
        # A thread may hang in a write that nobody reads, and would not let the interpreter end.
        os._exit(code)
    sys.exit(code)


async def _until_stopped(work: Coroutine[Any, Any, int], stop: Stop) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stopped(number: int) -> None:
        stop.signal = number
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        if task is not None:
            task.cancel()

    with suppress(NotImplementedError):
        for each in SIGNALS:
            loop.add_signal_handler(each, stopped, each)
    return await work


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not everywhere to be had, and not needed for --help
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _paragraph(error: NavTalkError) -> str:
    """What happened and what to do; where time ran out, also what it was lost to."""
    cause = error.__cause__
    before = (
        f" Before that: {type(cause).__name__}: {cause.args[0]}" if isinstance(cause, NavTalkError) else ""
    )
    return f"{error}{before}"
