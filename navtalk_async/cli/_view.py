"""`navtalk view`: an archive in a browser, served on this machine."""

import asyncio
import webbrowser
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

import click
from anyio import to_thread

from navtalk_async.archive import redacted
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._options import Place, command
from navtalk_async.cli._output import Reporter, put
from navtalk_async.cli.app import run
from navtalk_async.formats import chosen_projects


@command("place", "only_project", "port", "open_browser")
def view_command(*, place: Place, only_project: str | None, port: int, open_browser: bool) -> int:
    """Show an archive in a browser: overview, sessions, search, until Ctrl-C.

    The address that is printed works once: open it in one browser. Only this machine can reach it, and
    nothing can be changed. A sync may run meanwhile.

    Examples:
      navtalk view archive.db --open
      navtalk view postgresql://me@host/chats --port 8765
    """
    if find_spec("jinja2") is None:
        raise click.UsageError(
            "The pages of view need the package jinja2: pip install 'navtalk-async[html]'."
        )
    # A web server, which no other command needs.
    from navtalk_async.view.server import serve  # noqa: PLC0415

    title = place.resolve().name if isinstance(place, Path) else redacted(place)
    reporter = Reporter()

    async def work() -> int:
        async with readable(place, immutable=False) as archive:
            await chosen_projects(archive, only_project)
            async with AsyncExitStack() as stack:
                try:
                    server = serve(archive, title=title, project=only_project, port=port)
                    address = await stack.enter_async_context(server)
                except OSError as failure:
                    raise click.UsageError(f"Port {port} cannot be used: {failure.strerror}.") from None
                await put(f"{address}\n")
                reporter.note("Open this address in a browser. Ctrl-C ends it.")
                if open_browser:
                    await to_thread.run_sync(webbrowser.open, address)
                await asyncio.Event().wait()
        return 0

    return run(work(), reporter)
