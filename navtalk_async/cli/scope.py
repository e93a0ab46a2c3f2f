"""Which sessions and messages are wanted, as the command line says it."""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

import click

from navtalk_async.cli.connection import as_usage_error
from navtalk_async.cli.options import AGENT_TYPE, USER, as_role, as_status, as_time, with_options
from navtalk_async.client import Client
from navtalk_async.dialects.navtalk import seconds_text
from navtalk_async.ingest import Scope

__all__ = ["check_scope", "takes_scope"]

OF_A_DIALECT = ("project_id", "organization_id")
"""The options of `--api`'s dialect."""

SCOPE_OPTIONS = with_options(
    click.option(
        "--start",
        type=as_time,
        metavar="TIME",
        help="Sessions that began then or later (UTC, or with an offset).",
    ),
    click.option(
        "--end", type=as_time, metavar="TIME", help="Sessions until then; a date means its first second."
    ),
    click.option(
        "--status", type=as_status, metavar="active|completed|failed", help="Sessions of this status."
    ),
    click.option("--role", type=as_role, metavar="user|assistant", help="Messages of this role."),
    click.option("--session", "ids", metavar="ID", multiple=True, help="This session; repeatable."),
    USER,
    AGENT_TYPE,
)


def takes_scope(command: Callable[..., int]) -> Callable[..., int]:
    """*command* with the filters as options; it gets the `Scope` made of them."""

    @wraps(command)
    def scoped(
        *,
        start: datetime | None,
        end: datetime | None,
        status: int | None,
        role: int | None,
        ids: tuple[str, ...],
        user: str | None,
        agent_type: str | None,
        **others: Any,
    ) -> int:
        if ids and any(each is not None for each in (start, end, status, user, agent_type)):
            raise click.UsageError(
                "--session says exactly which; leave out --start, --end, --status, --user and --agent-type."
            )
        scope = Scope(
            start=None if start is None else seconds_text(start),
            end=None if end is None else seconds_text(end),
            status=status,
            role=role,
            user=user,
            agent_type=agent_type,
            # The connection's as well.
            options={name: others[name] for name in OF_A_DIALECT if others.get(name) is not None},
            # The same sessions in another order are the same scope.
            sessions=tuple(sorted({str(each) for each in ids})),
        )
        return command(scope=scope, **others)

    return SCOPE_OPTIONS(scoped)


def check_scope(client: Client, scope: Scope) -> None:
    """Let *client* refuse what makes no sense, before anything is sent or any file is made.

    Raises:
        click.UsageError: with the reason.
    """
    with as_usage_error():
        scope.check(client.dialect)
