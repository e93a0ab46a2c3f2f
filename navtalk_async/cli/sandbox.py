"""A local server with made-up data, to try everything on."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Final

import click
import msgspec

from navtalk_async.cli.options import as_seconds, examples
from navtalk_async.cli.running import run
from navtalk_async.cli.show import put
from navtalk_async.cli.talk import Talk
from navtalk_async.dialects.known import dialect_of

if TYPE_CHECKING:
    from navtalk_async.sandbox import Answers, Faults, Sandbox

__all__ = ["sandbox"]

_SCOPES: Final = {"lexicon": " --user user-0"}

# The sandbox is a web server, and all the other commands would wait for its import: so it comes late.


def as_faults(text: str) -> "Faults":
    """Faults, as the sandbox itself reads them."""
    from navtalk_async.sandbox import Faults  # noqa: PLC0415

    try:
        return Faults.parse(text)
    except ValueError as refusal:
        raise click.BadParameter(f"{refusal}.") from None


def as_answers(text: str) -> "Answers":
    """Answers to what the APIs' references leave open: `name=value`, separated by commas."""
    from navtalk_async.sandbox import Answers  # noqa: PLC0415

    pairs = [part.partition("=") for part in filter(None, (part.strip() for part in text.split(",")))]
    known = [each.name for each in fields(Answers)]
    for name, _, _ in pairs:
        if name not in known:
            raise click.BadParameter(f"{name!r} is no open question; there are {', '.join(known)}.")
    try:
        return msgspec.convert({name: value for name, _, value in pairs}, Answers, strict=False)
    except msgspec.ValidationError as refusal:
        raise click.BadParameter(f"{refusal}.") from None


def _first_steps(box: "Sandbox") -> str:
    """For each API its address and a command that reads all of it, NavTalk's first."""
    lines = [box.navtalk_url, f"NAVTALK_API_KEY=any navtalk export out --base-url {box.url}"]
    for name in sorted(box.urls.keys() - {"navtalk"}):
        key = dialect_of(name).key_variable
        command = f"navtalk export out-{name} --api {name}{_SCOPES.get(name, '')}"
        lines += [box.url_of(name), f"{key}=any {command} --base-url {box.url_of(name)}"]
    return "".join(f"{line}\n" for line in lines)


@click.command(
    epilog=examples(
        "navtalk sandbox --port 8765",
        "navtalk sandbox --sessions 20000 --latency 50ms --faults 500=5%,reset=0.01",
        "navtalk sandbox --answers cursor_on_last_page=false,errors=body",
    )
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where to listen [any free port].")
@click.option(
    "--sessions", type=click.IntRange(0), metavar="N", default=600, help="How many sessions there are [600]."
)
@click.option("--seed", type=int, metavar="N", default=0, help="The same seed makes the same data [0].")
@click.option("--latency", type=as_seconds, metavar="TIME", default="0", help="Before every answer: 50ms.")
@click.option(
    "--faults",
    type=as_faults,
    metavar="TEXT",
    default="",
    help="What goes wrong, and how often: 10%, or 500=5%,reset=0.01; a wrong name lists them all.",
)
@click.option(
    "--answers",
    type=as_answers,
    metavar="TEXT",
    default="",
    help="How to play what the APIs' references leave open; a wrong name lists it all.",
)
def sandbox(
    *, port: int, sessions: int, seed: int, latency: float, faults: "Faults", answers: "Answers"
) -> int:
    """Serve made-up APIs on this machine, until Ctrl-C."""
    from navtalk_async.sandbox import Sandbox  # noqa: PLC0415

    async def work() -> int:
        box = Sandbox(
            sessions=sessions, seed=seed, latency=latency, faults=faults, answers=answers, port=port
        )
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(box)
            except OSError as failure:
                raise click.UsageError(f"Port {port} cannot be had: {failure.strerror}.") from None
            await put(_first_steps(box))
            await asyncio.Event().wait()
        return 0

    return run(work(), Talk(), stopped_is_done=True)
