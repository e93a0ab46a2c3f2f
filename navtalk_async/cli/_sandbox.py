"""`navtalk sandbox`: a local server with made-up data, to try everything on."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import click

from navtalk_async.cli._options import command
from navtalk_async.cli._output import Reporter, put
from navtalk_async.cli.app import run
from navtalk_async.dialects import dialect_of
from navtalk_async.sandbox import Answers, Faults, Sandbox


@command("port", "session_count", "seed", "latency", "faults", "answers")
def sandbox_command(
    *, port: int, session_count: int, seed: int, latency: timedelta, faults: Faults, answers: Answers
) -> int:
    """Serve made-up APIs on this machine, until Ctrl-C.

    Examples:
      navtalk sandbox --port 8765
      navtalk sandbox --sessions 20000 --latency 50ms --faults 500=5%,reset=0.01
      navtalk sandbox --answers cursor_on_last_page=false,errors=body
    """
    box = Sandbox(
        sessions=session_count,
        seed=seed,
        latency=latency.total_seconds(),
        faults=faults,
        answers=answers,
        port=port,
    )

    async def work() -> int:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(box)
            except OSError as failure:
                raise click.UsageError(f"Port {port} cannot be used: {failure.strerror}.") from None
            await put(_first_steps(box))
            await asyncio.Event().wait()
        return 0

    return run(work(), Reporter(), stopped_is_done=True)


def _first_steps(box: Sandbox) -> str:
    """For each API its address and a command that reads all of it, NavTalk's first."""
    lines = [box.navtalk_url, f"NAVTALK_API_KEY=any navtalk export out --base-url {box.url}"]
    for name in sorted(box.urls.keys() - {"navtalk"}):
        key = dialect_of(name).key_variable
        user = " --user user-0" if name == "lexicon" else ""
        export = f"navtalk export out-{name} --api {name}{user} --base-url {box.url_of(name)}"
        lines += [box.url_of(name), f"{key}=any {export}"]
    return "".join(f"{line}\n" for line in lines)
