"""How to reach the API: what every command that talks to it may be told, and the client made of that."""

import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal

import click

from navtalk_async.cli.key import Key, given_key
from navtalk_async.cli.options import as_at_once, with_options
from navtalk_async.cli.talk import Talk, TalkHandler
from navtalk_async.cli.variables import Address, given_address, key_variable
from navtalk_async.client import Client
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.known import dialect_of, dialects
from navtalk_async.events import Observer
from navtalk_async.wire.limits import Concurrency

__all__ = [
    "Connection",
    "Given",
    "ProgressMode",
    "Shell",
    "as_usage_error",
    "may_talk_to_api",
    "talks_to_api",
]

SANDBOX_SESSIONS = 600

ProgressMode = Literal["auto", "bar", "plain", "json", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A client yet to be made."""

    api: str
    whose: dict[str, str | None]
    """The options of the dialect."""
    key: Key = field(repr=False)
    base_url: str | None
    sandbox: bool
    concurrency: Concurrency
    rate: float | None
    timeout: float

    @property
    def server(self) -> str | None:
        """What an archive remembers the server by; None for its address. Each sandbox has another one."""
        return "sandbox" if self.sandbox else None

    @asynccontextmanager
    async def client(
        self, on_event: Observer | None, *, key_renewed: bool = False
    ) -> AsyncGenerator[Client, None]:
        """The client; and the server too, where it is the sandbox. With *key_renewed*, the key is what it has
        become at any time, which costs a little for every request.

        Raises:
            click.UsageError: something that cannot be right; before anything is sent.
        """
        async with AsyncExitStack() as stack:
            base_url = await stack.enter_async_context(_sandbox(self.api)) if self.sandbox else self.base_url
            with as_usage_error():
                client = Client(
                    dialect_of(self.api, **self.whose),
                    self.key if key_renewed else self.key.secret,
                    base_url=base_url,
                    concurrency=self.concurrency,
                    rate=self.rate,
                    on_event=on_event,
                    timeout=self.timeout,
                )
            yield await stack.enter_async_context(client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What all commands that talk to an API are told alike."""

    connection: Connection
    talk: Talk
    progress: ProgressMode
    as_json: bool


@asynccontextmanager
async def _sandbox(api: str) -> AsyncGenerator[str, None]:
    from navtalk_async.sandbox import Sandbox  # noqa: PLC0415 - a web server, which few commands need

    async with Sandbox(sessions=SANDBOX_SESSIONS) as box:
        yield box.url_of(api)


@contextmanager
def as_usage_error() -> Iterator[None]:
    """Where our own checks of arguments refuse one, its words were the user's."""
    try:
        yield
    except ValueError as refusal:
        raise click.UsageError(str(refusal)) from None


CONNECTION_OPTIONS = with_options(
    click.option("--api", type=click.Choice(list(dialects())), default="navtalk", help="Which API to ask."),
    click.option("--project-id", metavar="ID", help="Which of LlamaCloud's projects [the key's own]."),
    click.option(
        "--organization-id", metavar="ID", help="Which of LlamaCloud's organizations [the key's own]."
    ),
    click.option("--base-url", metavar="URL", help="Where the API is. [env: NAVTALK_BASE_URL, KODEY_…]"),
    click.option("--sandbox", is_flag=True, help="Ask a made-up server in this process: no key, no network."),
    click.option(
        "--api-key-file",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="Read the key from a file. [env: NAVTALK_API_KEY, KODEY_…]",
    ),
    click.option("--api-key-command", metavar="CMD", help="Run a command (no shell) that prints the key."),
    click.option(
        "--concurrency", type=as_at_once, metavar="auto|N", default="auto", help="The most requests at once."
    ),
    click.option("--rate", type=float, metavar="N", help="The most requests a second."),
    click.option(
        "--timeout",
        type=float,
        metavar="SECONDS",
        default=300.0,
        help="For a call with all its retries [300].",
    ),
    click.option(
        "--progress",
        type=click.Choice(["auto", "bar", "plain", "json", "none"]),
        default="auto",
        help="How to tell on stderr what is going on.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout."),
    click.option("-v", "--verbose", count=True, help="Tell of failures and waits; -vv of every request."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options of the connection as they were given; a key is looked for when it is asked for."""

    api: str
    project_id: str | None
    organization_id: str | None
    base_url: str | None
    sandbox: bool
    api_key_file: Path | None
    api_key_command: str | None
    concurrency: Concurrency
    rate: float | None
    timeout: float
    progress: ProgressMode
    as_json: bool
    verbose: int

    @property
    def dialect(self) -> Dialect:
        """How the API speaks."""
        return dialect_of(self.api)

    def address(self) -> Address:
        """Where the API is said to be."""
        has_key = bool(self.api_key_file or self.api_key_command)
        return given_address(self.dialect, self.base_url, os.environ, has_key=has_key)

    def key(self) -> Key:
        """The key.

        Raises:
            click.UsageError: there is none.
        """
        if self.sandbox:
            return Key(lambda: "sandbox")
        variable = key_variable(self.dialect, self.address(), os.environ)
        return Key(partial(given_key, variable, self.api_key_file, self.api_key_command))

    def shell(self, key: Key | None = None) -> Shell:
        """Everything; with *key*, if it is known already.

        Raises:
            click.UsageError: there is none.
        """
        key = self.key() if key is None else key
        talk = self.talk()
        if not self.sandbox:
            talk.hide(key())
        connection = Connection(
            api=self.api,
            whose={"project_id": self.project_id, "organization_id": self.organization_id},
            key=key,
            base_url=self.address().url,
            sandbox=self.sandbox,
            concurrency=self.concurrency,
            rate=self.rate,
            timeout=self.timeout,
        )
        return Shell(connection=connection, talk=talk, progress=self.told(talk), as_json=self.as_json)

    def talk(self) -> Talk:
        """Where to say what is going on."""
        talk = Talk(as_json=self.progress == "json")
        _listen(self.verbose, talk)
        return talk

    def told(self, talk: Talk) -> ProgressMode:
        """How progress is told by *talk*."""
        if self.progress != "auto":
            return self.progress
        # Log lines would tear a bar to pieces.
        return "bar" if talk.is_terminal and not self.verbose else "plain"


def talks_to_api(command: Callable[..., int]) -> Callable[..., int]:
    """*command* with the options of the connection; it gets the `Shell` made of them."""

    @wraps(command)
    def connected(*, given: Given, **others: Any) -> int:
        return command(shell=given.shell(), **others)

    return may_talk_to_api(connected)


def may_talk_to_api(command: Callable[..., int]) -> Callable[..., int]:
    """*command* with the options of the connection; it gets them as `Given`, and needs no key."""

    @wraps(command)
    def told(**options: Any) -> int:
        given = Given(**{each.name: options.pop(each.name) for each in fields(Given)})
        if given.sandbox and (given.base_url or given.api_key_file or given.api_key_command):
            raise click.UsageError("--sandbox has an address and a key of its own; leave out the others.")
        return command(given=given, **options)

    return CONNECTION_OPTIONS(told)


def _listen(verbose: int, talk: Talk) -> None:
    """Show our own log. Those of the libraries below stay silent: they would tell whole URLs, key and all."""
    if verbose:
        logger = logging.getLogger("navtalk_async")
        logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
        logger.propagate = False
        logger.handlers = [TalkHandler(talk)]
