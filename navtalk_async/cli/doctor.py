"""What is wrong with a set-up: `doctor`."""

import os
from collections.abc import AsyncGenerator, Sequence

import click

from navtalk_async.cli.checks import Check, Verdict, check_key, check_packages, check_python, check_root
from navtalk_async.cli.connection import Given, may_talk_to_api
from navtalk_async.cli.exits import Exit
from navtalk_async.cli.key import Key
from navtalk_async.cli.options import USER, examples
from navtalk_async.cli.probes import probe_api, probe_network, probe_store
from navtalk_async.cli.reading import Place, as_archive
from navtalk_async.cli.reporting import waits_told
from navtalk_async.cli.running import run
from navtalk_async.cli.show import put, put_json
from navtalk_async.cli.talk import visible
from navtalk_async.dialects.dialect import filtered, least

__all__ = ["check_sentence", "doctor"]

MARKS = {Verdict.OK: "ok", Verdict.WARNING: "warning", Verdict.PROBLEM: "PROBLEM"}


@click.command(epilog=examples("navtalk doctor", "navtalk doctor --store archive.db --json"))
@click.option(
    "--store",
    type=as_archive,
    metavar="PATH",
    help="Also look at this archive, or where it is to be; or at a database, by its address.",
)
@USER
@may_talk_to_api
def doctor(*, given: Given, store: Place | None, user: str | None) -> int:
    """Look for what is wrong with a set-up: Python, key, network, clock, limits, archive.

    Nothing is kept or changed, and the key is never shown. The exit code is that of the first problem.
    """
    talk = given.talk()

    async def work() -> int:
        checks: list[Check] = []
        async for check in _checks(given, store, user):
            checks.append(check)
            if not given.as_json:
                await put(f"{visible(talk.scrubbed(check_sentence(check)))}\n")
        code = next((each.code for each in checks if each.verdict is Verdict.PROBLEM), Exit.OK)
        if given.as_json:
            await put_json(
                {"command": "doctor", "exit_code": int(code), "checks": [each._asdict() for each in checks]}
            )
        return code

    return run(work(), talk)


def check_sentence(check: Check) -> str:
    """*check* for people."""
    return f"{MARKS[check.verdict]:<8} {check.name}: {check.said} {check.todo}".rstrip()


async def _checks(given: Given, store: Place | None, user: str | None) -> AsyncGenerator[Check, None]:
    """Every check in turn; of the API, as far as one makes sense after those before."""
    yield check_python()
    yield check_packages()
    found = check_key(given)
    yield found.check
    if given.sandbox:
        yield Check("server", Verdict.OK, "the sandbox, in this process.")
    is_fit = found.key is not None
    if not given.sandbox:
        root = check_root(given.address(), os.environ, given.dialect)
        yield root.check
        is_fit = is_fit and root.root is not None
        if root.root is not None:
            async for check in probe_network(root.root):
                is_fit = is_fit and check.verdict is not Verdict.PROBLEM
                yield check
    if is_fit:
        for check in await _of_api(given, found.key, user):
            yield check
    if store is not None:
        for check in await probe_store(store):
            yield check


async def _of_api(given: Given, key: Key | None, user: str | None) -> Sequence[Check]:
    shell = given.shell(key)
    async with shell.connection.client(waits_told(shell.talk, "none")) as client:
        try:
            request = least(client.dialect, filtered(client.dialect, {"user_id": user}))
        except ValueError as refusal:
            return [Check("listing", Verdict.PROBLEM, str(refusal), "", Exit.USAGE)]
        checks = await probe_api(client, request)
    return [each._replace(said=shell.talk.scrubbed(each.said)) for each in checks]
