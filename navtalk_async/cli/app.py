"""The command `navtalk`: its commands, how work runs in a process, and what the exit code says."""

import asyncio
import errno
import gc
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from enum import IntEnum
from importlib import import_module
from itertools import takewhile
from typing import Any, NoReturn

import click

from navtalk_async import errors
from navtalk_async.cli._output import OutputFailed, Reporter

__all__ = ["COMMANDS", "Exit", "exit_code", "navtalk", "report_error", "run", "run_app"]


class Exit(IntEnum):
    """The exit codes, by which scripts decide."""

    OK = 0
    BUG = 1
    USAGE = 2
    """The command, the key's project or the archive does not fit: the same again would fail again."""
    PARTIAL = 3
    """Done, but some sessions failed."""
    KEY_REFUSED = 4
    TRY_LATER = 5
    UNVERIFIED = 6
    """`verify` found something."""
    LOCKED = 11
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


CODES: dict[type[BaseException], Exit] = {
    errors.AccessDenied: Exit.KEY_REFUSED,
    errors.BadRequest: Exit.USAGE,
    errors.NotFound: Exit.USAGE,
    errors.Redirected: Exit.USAGE,
    errors.StoreBroken: Exit.USAGE,
    errors.StoreMismatch: Exit.USAGE,
    errors.StoreUnreachable: Exit.USAGE,
    errors.StoreLocked: Exit.LOCKED,
    errors.UntrustedCertificate: Exit.USAGE,
    errors.NavTalkError: Exit.TRY_LATER,
    # The reader of our output has closed it, as in `navtalk sessions | head`.
    BrokenPipeError: Exit.OK,
    KeyboardInterrupt: Exit.INTERRUPTED,
}


def exit_code(error: BaseException) -> Exit:
    """The exit code after *error*: that of the most special of its classes that has one."""
    if isinstance(error, errors.BadRequest) and error.may_be_key:
        return Exit.KEY_REFUSED
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), Exit.BUG)


COMMANDS = {
    "backup": ("_backup", "Copy an archive into a file, as of one moment, while others write to it."),
    "changes": ("_changes", "Print what changed in an archive, as JSON, a session a line."),
    "completion": ("_completion", "Print a script that completes commands and options in a shell."),
    "config": ("_show_config", "Show the settings in force, by project, and where each comes from."),
    "doctor": ("_doctor", "Check a set-up: Python, key, network, clock, limits, archive."),
    "export": ("_export", "Fetch everything, and write it to files in the folder DEST."),
    "forget": ("_forget", "Erase sessions from an archive for good, and never fetch them again."),
    "history": ("_changes", "Show what the messages of a session were before they were edited or deleted."),
    "media": ("_media", "Download the recordings and pictures that an archive links to."),
    "messages": ("_look", "List the messages of one session."),
    "plan": ("_plan", "Estimate an export: sessions, messages, requests, minutes."),
    "report": ("_report", "Show the statistics of an archive: when, how long, how many, how slow."),
    "sandbox": ("_sandbox", "Serve made-up APIs on this machine, until Ctrl-C."),
    "search": ("_search", "Find messages of an archive by words in them."),
    "session": ("_look", "Show one session, without its messages."),
    "sessions": ("_look", "List sessions of the API, in its order, or of an archive."),
    "status": ("_inspect", "Show what an archive holds, and how its last run ended."),
    "sync": ("_sync", "Bring the archive STORE up to date, once or for ever."),
    "transcript": ("_look", "Show one session with all its messages."),
    "verify": ("_inspect", "Check that nothing is lost, doubled, out of order or damaged."),
    "view": ("_view", "Show an archive in a browser: overview, sessions, search, until Ctrl-C."),
}
"""The module of each command, which is imported when the command is used, and its line of help."""


class Commands(click.Group):
    """The commands, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"navtalk_async.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that *args* begin with; a refusal of a misspelt one names the one meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - not needed for what is spelt right

            meant = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {meant[0]}?" if meant else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _show_version(context: click.Context, _: click.Parameter, is_wanted: bool) -> None:  # noqa: FBT001
    """Print the version; a bundle of a program, say, may have left out what says which it is."""
    if is_wanted and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - not needed for --help

        try:
            click.echo(f"navtalk {version('navtalk-async')}")
        except PackageNotFoundError:
            click.echo("navtalk (unknown version: the package's metadata is not installed)")
        context.exit()


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  navtalk export out --sandbox          try it: no key, no network
  export NAVTALK_API_KEY=...            the key is never an argument
  navtalk export out                    everything; again: what is new
  navtalk sessions --start 2025-11-12   just look

\b
The environment sets options, too: NAVTALK_CONCURRENCY=8 for --concurrency 8.

\b
Exit codes: 0 done, 1 a bug of ours, 2 wrong usage, 3 some sessions failed,
  4 key refused, 5 try later, 6 verify found something, 11 archive in use,
  129, 130 or 143 stopped.""",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version)
@click.pass_context
def navtalk(context: click.Context) -> None:
    """Get every chat session and message out of the API, and keep them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run_app(arguments: Sequence[str]) -> NoReturn:
    """Do what *arguments* say, and end the process."""
    _wait_for_readers()
    reporter = Reporter(errors_as_json=_wants_json(arguments))
    try:
        code = navtalk.main(list(arguments), prog_name="navtalk", standalone_mode=False)
    except click.ClickException as refusal:
        hint = ""
        if isinstance(refusal, click.UsageError) and refusal.ctx is not None:
            hint = f"See `{refusal.ctx.command_path} --help`."
            if isinstance(refusal, click.NoSuchOption) and refusal.ctx.command.name == "search":
                hint = f"Write words that begin with a dash after `--`: `-- {refusal.option_name}`. {hint}"
        reporter.fail("UsageError", _in_one_line(refusal.format_message()), hint, Exit.USAGE)
        code = Exit.USAGE
    except click.Abort:
        code = Exit.INTERRUPTED
    except SystemExit:
        # Click's own way to end where the reader of its help has gone.
        code = Exit.OK
    except OSError as failure:
        # Of the system's failures, only those of writing help have no name of a file and get here.
        unwritable = OutputFailed(f"The output cannot be written: {failure.strerror}.")
        code = report_error(unwritable if failure.errno in NO_OUTPUT else failure, reporter)
    except Exception as error:  # noqa: BLE001 - every other error is our bug, and reported as one
        code = report_error(error, reporter)
    _exit_with(code or Exit.OK)


def _in_one_line(message: str) -> str:
    """*message* of click, which lists choices one to a line."""
    start, *choices = re.split(r",?\n\t", message)
    return f"{start} {', '.join(choices)}." if choices else message


NO_OUTPUT = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether *arguments*, which may be wrong, ask for JSON."""
    options = " ".join(takewhile(lambda each: each != "--", arguments))
    return re.search(r"(?:^| )--(?:json|progress[ =]json)(?: |$)", options) is not None


def _wait_for_readers() -> None:
    """Have writing wait for a slow reader, also where a pipe was set not to wait: else output is lost."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            os.set_blocking(stream.fileno(), True)


A_BUG = "This is a bug in navtalk-async, and not your fault; nothing that was saved is lost."
REPORT_IT = "Please report it, with the lines above."

NEXT_STEPS: dict[type[BaseException], str] = {
    errors.AttemptTimeout: "The server is slow or down; try again later.",
    errors.BodyTooLarge: "Ask for less with --start and --end, where the API has them.",
    errors.DeadlineExceeded: "Allow more time with --timeout, or try again later.",
    errors.UntrustedCertificate: (
        "Check the host name; --cacert FILE trusts the certificates of your own authority. Nothing was sent."
    ),
    errors.RateLimited: "Wait, or give a lower --concurrency or --rate.",
}
"""What to do in the command, where the library's own next step names its arguments."""


def run(
    work: Coroutine[Any, Any, int],
    reporter: Reporter,
    *,
    when_stopped: str = "",
    stopped_is_done: bool = False,
) -> int:
    """The exit code of *work*, run in an event loop of its own.

    The first SIGINT, SIGTERM or SIGHUP cancels *work*, which saves what it has finished, and reports
    *when_stopped*; a second signal ends the process on the spot. With *stopped_is_done*, being stopped is
    success.
    """
    stopped_by: list[int] = []
    # Rows hold no cycles: to look for some after each 700 takes a tenth of an export's time.
    gc.set_threshold(100_000)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_until_stopped(work, stopped_by))
    except click.UsageError:
        raise
    except (asyncio.CancelledError, KeyboardInterrupt):
        # Where the loop knows no signals (Windows), the runner turns Ctrl-C into a KeyboardInterrupt.
        stopped_by = stopped_by or [signal.SIGINT]
    except Exception as error:  # noqa: BLE001 - here, every error becomes an exit code
        code = report_error(error, reporter)
        if not stopped_by:
            return code
    if stopped_by[0] == getattr(signal, "SIGHUP", None):
        when_stopped = f"The terminal hung up (SIGHUP). {when_stopped or 'Stopped.'}"
    if when_stopped:
        reporter.note(when_stopped)
    return Exit.OK if stopped_is_done else 128 + stopped_by[0]


async def _until_stopped(work: Coroutine[Any, Any, int], stopped_by: list[int]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    # What is ignored from the start stays so: a hangup under nohup, Ctrl-C of a job in the background.
    found = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    signals = [each for each in found if signal.getsignal(each) is not signal.SIG_IGN]

    def stop(number: int) -> None:
        stopped_by.append(number)
        for each in signals:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        if task is not None:
            task.cancel()

    with suppress(NotImplementedError):
        for each in signals:
            loop.add_signal_handler(each, stop, each)
    return await work


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not installed everywhere, and not needed for --help
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def report_error(error: BaseException, reporter: Reporter, *, before: str = "", after: str = "") -> int:
    """Report *error* between other words and return its exit code; only our own bugs show a traceback."""
    code = exit_code(error)
    if code is Exit.BUG:
        # The stack alone: local variables, which hold people's messages, are never printed.
        trace = "".join(traceback.format_exception(error))
        reporter.fail("Bug", A_BUG, REPORT_IT, code, trace=trace)
    elif isinstance(error, errors.NavTalkError):
        own_step = error.next_step
        said, next_step = str(error).removesuffix(own_step).rstrip(), NEXT_STEPS.get(type(error), own_step)
        if isinstance(error, errors.StoreError):
            # Only what we say of archives names arguments; what a server says is left as it is.
            from navtalk_async.cli._options import as_options  # noqa: PLC0415 - not needed for --help

            said = as_options(said)
        reporter.fail(type(error).__name__, f"{before}{said}", f"{next_step}{after}".strip(), code)
    return code


def _exit_with(code: int) -> NoReturn:
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            # The reader has gone; the interpreter would flush again on its way out, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code > 128:
        # A thread may hang in a write that nobody reads, and would not let the interpreter end.
        os._exit(code)
    sys.exit(code)
