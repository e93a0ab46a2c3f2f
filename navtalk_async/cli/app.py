"""The command `navtalk`: its parts, and how it ends."""

from collections.abc import Sequence
from typing import NoReturn

import click

from navtalk_async.cli.archive import export, sync
from navtalk_async.cli.doctor import doctor
from navtalk_async.cli.exits import Exit
from navtalk_async.cli.look import messages, session, sessions, transcript
from navtalk_async.cli.options import examples
from navtalk_async.cli.plan import plan
from navtalk_async.cli.running import leave, tell_why
from navtalk_async.cli.sandbox import sandbox
from navtalk_async.cli.status import status
from navtalk_async.cli.talk import Talk
from navtalk_async.cli.verify import verify

__all__ = ["navtalk", "run_app"]


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "navtalk export out --sandbox          try it: no key, no network",
        "export NAVTALK_API_KEY=...            the key is never an argument",
        "navtalk export out                    everything; again: what is new",
        "navtalk sessions --start 2025-11-12   just look",
        "",
        "Exit codes: 0 done, 1 a bug of ours, 2 wrong usage, 3 some sessions failed,",
        "  4 key refused, 5 try later, 6 verify found something, 11 archive in use,",
        "  130 or 143 stopped.",
    ),
)
@click.version_option(package_name="navtalk-async", prog_name="navtalk", message="%(prog)s %(version)s")
@click.pass_context
def navtalk(context: click.Context) -> None:
    """Get every chat session and message out of the API, and keep them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


COMMANDS = (
    *(export, sync, verify, plan, status, doctor),
    *(sessions, session, messages, transcript, sandbox),
)

for each in COMMANDS:
    navtalk.add_command(each)


def run_app(arguments: Sequence[str]) -> NoReturn:
    """Do what *arguments* say, and end the process."""
    talk = Talk()
    try:
        code = navtalk.main(list(arguments), prog_name="navtalk", standalone_mode=False)
    except click.ClickException as refusal:
        hint = ""
        if isinstance(refusal, click.UsageError) and refusal.ctx is not None:
            hint = f" See `{refusal.ctx.command_path} --help`."
        talk.fail(f"{refusal.format_message()}{hint}", Exit.USAGE)
        code = Exit.USAGE
    except click.Abort:
        code = Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - what is left is our bug, and told as one
        code = tell_why(error, talk)
    leave(code or Exit.OK)
