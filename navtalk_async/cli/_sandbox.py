"""`navtalk sandbox`: a local server with made-up data, to try everything on."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import fields
from datetime import timedelta
from typing import Final

import click
import msgspec

from navtalk_async.cli._options import command
from navtalk_async.cli._output import Reporter, put
from navtalk_async.cli.app import run
from navtalk_async.dialects import dialect_of
from navtalk_async.sandbox import Answers, Faults, Sandbox

_SCOPES: Final = {"lexicon": " --user user-0"}


@command("port", "sessions", "seed", "latency", "faults", "answers")
def sandbox(*, port: int, sessions: int, seed: int, latency: timedelta, faults: str, answers: str) -> int:
    """Serve made-up APIs on this machine, until Ctrl-C.

    Examples:
      navtalk sandbox --port 8765
      navtalk sandbox --sessions 20000 --latency 50ms --faults 500=5%,reset=0.01
      navtalk sandbox --answers cursor_on_last_page=false,errors=body
    """
    parsed_faults, parsed_answers = as_faults(faults), as_answers(answers)

    async def work() -> int:
        box = Sandbox(
            sessions=sessions,
            seed=seed,
            latency=latency.total_seconds(),
            faults=parsed_faults,
            answers=parsed_answers,
            port=port,
        )
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(box)
            except OSError as failure:
                raise click.UsageError(f"Port {port} cannot be used: {failure.strerror}.") from None
            await put(_first_steps(box))
            await asyncio.Event().wait()
        return 0

    return run(work(), Reporter(), stopped_is_done=True)


def as_faults(text: str) -> Faults:
    try:
        return Faults.parse(text)
    except ValueError as refusal:
        raise click.BadParameter(f"{refusal}.", param_hint="'--faults'") from None


def as_answers(text: str) -> Answers:
    """Answers to what the APIs' references leave open: `name=value`, separated by commas."""
    pairs = [part.partition("=") for part in filter(None, (part.strip() for part in text.split(",")))]
    known = [each.name for each in fields(Answers)]
    for name, _, _ in pairs:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not an open question; there are {', '.join(known)}.", param_hint="--answers"
            )
    try:
        return msgspec.convert({name: value for name, _, value in pairs}, Answers, strict=False)
    except msgspec.ValidationError as refusal:
        raise click.BadParameter(f"{refusal}.", param_hint="'--answers'") from None


def _first_steps(box: Sandbox) -> str:
    """For each API its address and a command that reads all of it, NavTalk's first."""
    lines = [box.navtalk_url, f"NAVTALK_API_KEY=any navtalk export out --base-url {box.url}"]
    for name in sorted(box.urls.keys() - {"navtalk"}):
        key = dialect_of(name).key_variable
        command = f"navtalk export out-{name} --api {name}{_SCOPES.get(name, '')}"
        lines += [box.url_of(name), f"{key}=any {command} --base-url {box.url_of(name)}"]
    return "".join(f"{line}\n" for line in lines)
