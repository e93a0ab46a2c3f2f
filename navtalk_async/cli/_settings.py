"""What the options of a command say: the key, the address, the client made of them, and which sessions.

Each API has two variables of its own in the environment, as its client in Python has (`KODEY_API_KEY`,
`KODEY_BASE_URL`). The command's, `NAVTALK_API_KEY` and `NAVTALK_BASE_URL`, replace those of any API: but as a
pair, or for an address that was given with the command, or on this machine. The key of one vendor must not be
sent to another. A project of a file (`--config`) is such a pair, too: its key goes where its table says, or
to the vendor, and variables that are not named there have no part in it, but those of its own API.
"""

import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import click

from navtalk_async.cli._key import BY_OPTIONS, LONGEST_SECONDS, given_key
from navtalk_async.cli._options import SCOPE, Place, as_options
from navtalk_async.cli._output import LogHandler, Reporter
from navtalk_async.cli._progress import ProgressMode
from navtalk_async.client import Client, inside
from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.errors import StoreBroken, StoreUnreachable
from navtalk_async.events import Event, Observer, Outage
from navtalk_async.ingest import SyncOptions
from navtalk_async.ingest.scope import Filters, Scope
from navtalk_async.wire.gate import Concurrency
from navtalk_async.wire.retry import Retry
from navtalk_async.wire.secret import Secret, checked_key, is_loopback
from navtalk_async.wire.shared_turns import LimitKeeper

SANDBOX_SESSIONS = 600
CALL_SECONDS = 300.0
OUTAGE_SECONDS = 300.0

IN_THE_FILE = 'write key = "env:NAME", "file:PATH" or "command:PROGRAM …" into this table'


class Table(NamedTuple):
    """The table of a project in the file of `--config`."""

    title: str
    """The file and the table, for people."""
    project: str
    key_variable: str | None
    """The variable that holds the key, if the table names one."""


@contextmanager
def usage_errors(table: Table | None = None) -> Generator[None]:
    """Where our own checks refuse an argument, it was the user's; or stands in *table*."""
    before = "" if table is None else f"{table.title}: "
    try:
        yield
    except click.UsageError as refusal:
        raise click.UsageError(f"{before}{refusal.message}", refusal.ctx) from None
    except (TypeError, ValueError) as refusal:
        raise click.UsageError(f"{before}{as_options(str(refusal))}") from None


class Key:
    """The API key, read on first use, and again when it may have been rotated; a call returns its text."""

    def __init__(
        self,
        read: Callable[[], str],
        hide: Callable[[str], None] | None = None,
        table: Table | None = None,
    ) -> None:
        self._read = read
        self._hide = hide
        self._table = table
        self._secret: Secret[str] | None = None

    def __call__(self) -> str:
        return self.read().reveal()

    def read(self) -> Secret[str]:
        return self._secret or self.renew()

    def renew(self) -> Secret[str]:
        """The key, read again; where that fails with a `click.UsageError`, it stays what it was."""
        with usage_errors(self._table):
            secret = self._secret = checked_key(self._read())
        if self._hide is not None:
            self._hide(secret.reveal())
        return secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the options say, by their names; one that a command does not have is at its default."""

    api: str = "navtalk"
    project_id: str | None = None
    organization_id: str | None = None
    base_url: str | None = None
    proxy: str | None = None
    cacert: Path | None = None
    sandbox: bool = False
    api_key_file: Path | None = None
    api_key_command: str | None = None
    concurrency: Concurrency = "auto"
    rate: float | None = None
    limits: Place | None = None
    """Where the rate is shared with other processes."""
    timeout: float | None = None
    retry_for: timedelta | None = None
    progress: ProgressMode = "auto"
    as_json: bool = False
    verbose: int = 0
    options: SyncOptions = field(default_factory=SyncOptions)
    """Which sessions and messages, and how a run works."""
    table: Table | None = None
    """Where the project stands; None where it is not of a file."""
    why_none: str = ""
    """Why no project of the file was chosen: there is no key then."""

    key: Key = field(init=False, repr=False, compare=False)
    reporter: Reporter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.sandbox and any(
            (self.base_url, self.proxy, self.cacert, self.api_key_file, self.api_key_command)
        ):
            raise click.UsageError("--sandbox has an address and a key of its own; leave out the others.")
        narrowed = {name for name in SCOPE if self.options.get(name) not in (None, ())}
        if "sessions" in narrowed and narrowed - {"sessions", "role"}:
            raise click.UsageError(
                "--session says exactly which; leave out --start, --end, --status, --user and --agent-type."
            )
        reporter = Reporter(as_json=self.progress == "json", errors_as_json=self.as_json)
        read = partial(
            given_key,
            self.key_variable,
            self.api_key_file,
            self.api_key_command,
            seconds=min(self.timeout or CALL_SECONDS, LONGEST_SECONDS),
            how=BY_OPTIONS if self.table is None else IN_THE_FILE,
        )
        key = Key(lambda: "sandbox") if self.sandbox else Key(read, reporter.hide, self.table)
        if self.why_none:
            key = Key(self._refuse_to_choose)
        object.__setattr__(self, "reporter", reporter)
        object.__setattr__(self, "key", key)
        if self.verbose:
            # Only our own log: those of the libraries below would show whole URLs, key and all.
            logger = logging.getLogger("navtalk_async")
            logger.setLevel(logging.INFO if self.verbose == 1 else logging.DEBUG)
            logger.propagate = False
            logger.handlers = [LogHandler(reporter)]

    def _refuse_to_choose(self) -> str:
        raise click.UsageError(self.why_none)

    @property
    def progress_mode(self) -> ProgressMode:
        if self.reporter.is_quiet:
            return "none"
        if self.progress != "auto":
            return self.progress
        # Log lines would tear a bar to pieces.
        return "bar" if self.reporter.is_terminal and not self.verbose else "plain"

    @property
    def address(self) -> "Address":
        has_key = bool(self.api_key_file or self.api_key_command)
        if self.table is not None:
            return address_of_table(
                self.table, dialect_of(self.api), self.base_url, os.environ, has_key=has_key
            )
        return given_address(dialect_of(self.api), self.base_url, os.environ, has_key=has_key)

    @property
    def key_variable(self) -> str:
        if self.table is not None:
            return self.table.key_variable or dialect_of(self.api).key_variable
        return key_variable(dialect_of(self.api), self.address, os.environ)

    @property
    def key_place(self) -> str:
        """Where the key comes from, for people."""
        if self.sandbox:
            return "the sandbox needs none"
        if self.api_key_file is not None:
            return f"the file {self.api_key_file}"
        if self.api_key_command is not None:
            # Its arguments may be secrets.
            program = self.api_key_command.split()[:1] if self.table is not None else ["--api-key-command"]
            return f"the output of {' '.join(program)}"
        return f"the environment's {self.key_variable}"

    @property
    def server(self) -> str | None:
        """What an archive remembers the server by; None for its address. Each sandbox has another one."""
        return "sandbox" if self.sandbox else None

    @property
    def project(self) -> str:
        return self.options.get("project", "default")

    @property
    def sync_options(self) -> SyncOptions:
        return {**self.options, "concurrency": self.concurrency, "server": self.server}

    @asynccontextmanager
    async def client(
        self, on_event: Observer, *, key_renewed: bool = False, rides_out: bool = False
    ) -> AsyncGenerator[Client, None]:
        """The client; and the server too, where it is the sandbox. With *key_renewed*, each request asks for
        the key again, which costs a little. With *rides_out*, an outage is waited out, unless `--retry-for`
        says otherwise. A `click.UsageError` is raised before anything is sent.
        """
        async with AsyncExitStack() as stack:
            base_url = self.address.url
            outage = OUTAGE_SECONDS if rides_out else 0.0
            if self.retry_for is not None:
                outage = self.retry_for.total_seconds()
            if self.sandbox:
                from navtalk_async.sandbox import Sandbox  # noqa: PLC0415 - a web server, which few need

                box = await stack.enter_async_context(Sandbox(sessions=SANDBOX_SESSIONS))
                base_url = box.url_of(self.api)
            key = self.key if key_renewed else self.key.read()
            limits = None if self.limits is None else await stack.enter_async_context(_opened(self.limits))
            with usage_errors(self.table):
                client = Client(
                    dialect_of(self.api, project_id=self.project_id, organization_id=self.organization_id),
                    key,
                    base_url=base_url,
                    trust_env=True,
                    proxy=self.proxy,
                    cacert=self.cacert,
                    concurrency=self.concurrency,
                    rate=self.rate,
                    limits=limits,
                    on_event=partial(self._observe, on_event),
                    timeout=CALL_SECONDS + outage if self.timeout is None else self.timeout,
                    retry=Retry(outage=outage),
                )
                await stack.enter_async_context(client)
                if limits is not None:
                    await inside(client).wire.join_limits()
            yield client

    def _observe(self, on_event: Observer, event: Event) -> None:
        if isinstance(event, Outage) and self.progress != "none":
            self.reporter.note(str(event))
        on_event(event)

    def scope(self, client: Client) -> Scope:
        """What the filters mean for *client*; refused before anything is sent or any file is made."""
        with usage_errors(self.table):
            filters = {name: value for name, value in self.options.items() if name in SCOPE}
            return Scope.parse(client.dialect, **cast("Filters", filters))


@asynccontextmanager
async def _opened(place: Place) -> AsyncGenerator[LimitKeeper, None]:
    """The limits at *place*; a `click.UsageError` if there can be none."""
    from navtalk_async.scale import SharedLimits  # noqa: PLC0415 - few share theirs

    limits = SharedLimits.open(place)
    try:
        await limits.__aenter__()
    except (StoreBroken, StoreUnreachable) as refusal:
        raise click.UsageError(f"--limits: {refusal.args[0]}") from None
    try:
        yield limits
    finally:
        await limits.aclose()


class Address(NamedTuple):
    """Where an API is, and what said so."""

    url: str | None
    """None where nothing said so, and the vendor's own address holds."""
    by: str

    @property
    def is_local(self) -> bool:
        try:
            return is_loopback(urlsplit(self.url or "").hostname or "")
        except ValueError:
            return False


def given_address(
    dialect: Dialect, base_url: str | None, env: Mapping[str, str], *, has_key: bool = False
) -> Address:
    """Where the API is: by `--base-url`, its own variable, or the command's, which is no address for a key of
    another API; *has_key* is whether the key comes from elsewhere than the environment.
    """
    if base_url:
        return Address(base_url, "--base-url")
    if own := env.get(dialect.base_url_variable):
        return Address(own, dialect.base_url_variable)
    shared = Address(env.get(NavTalk.base_url_variable) or None, NavTalk.base_url_variable)
    if shared.url and (shared.is_local or not (has_key or dialect.key_variable in env)):
        return shared
    return Address(None, "the API's own")


def address_of_table(
    table: Table, dialect: Dialect, base_url: str | None, env: Mapping[str, str], *, has_key: bool
) -> Address:
    """Where the API of a project is: what *table* says; the API's variable only where its key comes from
    there, too.
    """
    if base_url:
        return Address(base_url, table.title)
    own = env.get(dialect.base_url_variable)
    if own and not has_key and table.key_variable is None:
        return Address(own, dialect.base_url_variable)
    return Address(None, "the API's own")


def key_variable(dialect: Dialect, address: Address, env: Mapping[str, str]) -> str:
    """The variable that holds the key for *address*: the API's, or the command's where allowed."""
    is_meant = address.by in ("--base-url", NavTalk.base_url_variable) or address.is_local
    is_shared = is_meant and dialect.key_variable not in env and NavTalk.key_variable in env
    return NavTalk.key_variable if is_shared else dialect.key_variable
