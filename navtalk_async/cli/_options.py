"""Every option and argument, declared once; what their texts mean; and how a command takes them.

It is longer than other files, because it is the one list of all options.
"""

import inspect
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from navtalk_async.archive import is_url, redacted
from navtalk_async.dialects import dialects
from navtalk_async.times import parse_utc

# What the texts mean.


def as_name(text: str) -> str:
    """*text*, if it can be the name of a project: bytes of the command line that are not UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{text!r} is not UTF-8.") from None
    if not text.strip() or not text.isprintable():
        raise click.BadParameter(f"{text!r} is not a name.")
    return text


def as_time(text: str) -> datetime:
    """The time that *text* means; without a zone it is UTC, as with the API."""
    try:
        return parse_utc(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a time: write 2025-11-12, '2025-11-12 18:20:38' (UTC) or "
            "2025-11-12T18:20:38+01:00."
        ) from None


def as_word_or_number(text: str) -> str | int:
    """A status or role: any number, since the API may have more of them than there are words."""
    return int(text) if text.isascii() and text.isdigit() else text


def as_concurrency(text: str) -> Any:
    """How many requests at once: a number, or `auto`."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"{text!r} is neither auto nor a number from 1.")
    return int(text)


def as_percent(text: str) -> float:
    """A share such as `5%`, in percent."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise click.BadParameter(f"{text!r} is not a share: write 5%, 0.5% or 100%.")
    return percent


LONGEST = timedelta(days=36_525)

SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def as_span(text: str) -> timedelta:
    """A time span such as `90`, `60s`, `5m`, `24h` or `7d`; seconds where no unit is given."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a time span: write 60s, 5m, 24h or 7d.")
    try:
        span = timedelta(seconds=float(found[1]) * SPANS[found[2] or "s"])
    except OverflowError:
        span = timedelta.max
    if span > LONGEST:
        raise click.BadParameter(f"{text!r} is longer than a century.")
    return span


def as_formats(text: str) -> list[str]:
    from navtalk_async.formats import FORMATS  # noqa: PLC0415 - only an export needs its formats

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is not a format; choose from {', '.join(FORMATS)}.")
    return names


# Where archives and files are.

Place = Path | str
"""A path, or the address of a database."""


def as_path(text: str) -> Path:
    """The path that *text* is; an empty one would mean the current folder."""
    if not text:
        raise click.BadParameter("The path is empty.")
    return Path(text)


def as_folder(text: str) -> Path:
    path = as_path(text)
    if "://" in text:
        raise click.BadParameter(f"{text} is not a folder; `navtalk sync` takes the address of a database.")
    if exists(path) and not path.is_dir():
        raise click.BadParameter(f"{text} is a file; give the path of a folder.")
    return path


def as_archive(text: str) -> Place:
    """Where an archive is, or will be; a folder means the archive in it."""
    try:
        if is_url(text):
            redacted(text)
            return text
    except ValueError as refusal:
        raise click.BadParameter(str(refusal)) from None
    path = as_path(text)
    if exists(path) and path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise click.BadParameter(f"Permission denied: {text}. Use another folder or change its permissions.")
    return path


def as_store(text: str) -> Place:
    """Where the file or database of an archive is, or will be."""
    place = as_archive(text)
    if isinstance(place, Path) and place.is_dir():
        raise click.BadParameter(f"{text} is a folder; give the path of a file.")
    return place


def as_place(text: str) -> Place:
    """Where an archive is, which must exist already."""
    place = as_archive(text)
    if isinstance(place, Path) and not exists(place):
        raise click.BadParameter(f"There is nothing at {text}.")
    return place


def exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as failure:
        raise click.BadParameter(f"{path} cannot be read: {failure.strerror}.") from None


OPTIONS: dict[str, click.Parameter] = {}
"""Every option and argument by the name of the parameter it becomes."""


def _option(*flags: str, **attributes: Any) -> None:
    option = click.Option(flags, **attributes)
    OPTIONS[str(option.name)] = option


def _argument(name: str, **attributes: Any) -> None:
    OPTIONS[name] = click.Argument([name], **attributes)


# How to reach the API.
_option("--api", type=click.Choice(list(dialects())), default="navtalk", help="Which API to ask.")
_option("--project-id", metavar="ID", help="Which of LlamaCloud's projects [the key's own].")
_option("--organization-id", metavar="ID", help="Which of LlamaCloud's organizations [the key's own].")
_option("--base-url", metavar="URL", help="Where the API is. [env: NAVTALK_BASE_URL, KODEY_…]")
_option("--sandbox", is_flag=True, help="Ask a made-up server in this process: no key, no network.")
_option(
    "--api-key-file",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Read the key from a file. [env: NAVTALK_API_KEY, KODEY_…]",
)
_option("--api-key-command", metavar="CMD", help="Run a command (no shell) that prints the key.")
_option(
    "--concurrency", type=as_concurrency, metavar="auto|N", default="auto", help="The most requests at once."
)
_option("--rate", type=float, metavar="N", help="The most requests a second.")
_option(
    "--timeout", type=float, metavar="SECONDS", default=300.0, help="For a call with all its retries [300]."
)
_option(
    "--progress",
    type=click.Choice(["auto", "bar", "plain", "json", "none"]),
    default="auto",
    help="How to show progress on stderr.",
)
_option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_option("-v", "--verbose", count=True, help="Log failures and waits; -vv every request.")

# Which sessions and messages.
_option("--start", type=as_time, metavar="TIME", help="From this time on (UTC unless it has an offset).")
_option("--end", type=as_time, metavar="TIME", help="Until this time; a date means its first second.")
_option(
    "--status",
    type=as_word_or_number,
    metavar="active|completed|failed",
    help="Sessions of this status.",
)
_option("--role", type=as_word_or_number, metavar="user|assistant", help="Messages of this role.")
_option("--session", "session_ids", metavar="ID", multiple=True, help="This session; repeatable.")
_option("--user", metavar="ID", help="Sessions of this user; Lexicon needs one, Kodey.ai takes one.")
_option("--agent-type", metavar="TYPE", help="Sessions with agents of this type (Kodey.ai).")

# How a run works.
_option(
    "--listing",
    type=click.Choice(["auto", "serial"]),
    default="auto",
    help="List from many places at once where that helps, or page by page.",
)
_option(
    "--short-pages",
    type=click.Choice(["follow", "audit"]),
    default="follow",
    help="Follow the cursor of every short page of messages; or only of some, to see that nothing comes.",
)
_option(
    "--project",
    type=as_name,
    metavar="NAME",
    default="default",
    help="The name the key's project has in the archive.",
)
_option("--retry-failed", is_flag=True, help="Retry what failed in earlier runs.")
_option("--reconcile", is_flag=True, help="List everything again, and compare it; with --watch, once a day.")
_option("--server-moved", is_flag=True, help="The archive's server has another address now; remember that.")
_option(
    "--overlap",
    type=as_span,
    metavar="SPAN",
    default="24h",
    help="How far behind the latest known session to list again [24h].",
)
_option(
    "--settle",
    type=as_span,
    metavar="SPAN",
    default="120s",
    help="How long messages may arrive after a session ended [120s].",
)
_option(
    "--watch-max-age",
    type=as_span,
    metavar="SPAN",
    help="Sessions that began longer ago are no longer expected to end.",
)

# What to work on.
_argument("session_id", metavar="ID")
_argument("dest", type=as_folder)
_argument("store", type=as_store)
_argument("place", metavar="STORE|DEST", type=as_place)
_option("--store", "known_store", type=as_place, metavar="STORE|DEST", help="Show how much is saved there.")
_option(
    "--store",
    "checked_store",
    type=as_archive,
    metavar="PATH",
    help="Also check this archive, or where it will be; or a database, by its address.",
)
_option("--project", "only_project", metavar="NAME", help="Only this project of the archive [all].")

# What only one command does.
_option(
    "--format",
    "formats",
    type=as_formats,
    metavar="NAME,...",
    multiple=True,
    default=["jsonl"],
    help="How to write the files; repeatable, or with commas. [jsonl]",
)
_option("--overwrite", is_flag=True, help="Replace files of the same names that no export wrote.")
_option("--watch", "every", type=as_span, metavar="SPAN", help="Run for ever, a round every SPAN.")
_option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve metrics for Prometheus at /metrics on this port [0: any free one].",
)
_option(
    "--metrics-host",
    metavar="HOST",
    help="The address of that port [127.0.0.1: only this machine]; 0.0.0.0 is every IPv4 interface.",
)
_option("--quick", is_flag=True, help="Only sizes, hashes and counts: nothing is parsed.")
_option(
    "--remote",
    type=as_percent,
    metavar="PERCENT",
    help="Fetch this share of the sessions again (at least one), and compare; needs the key.",
)
_option("--repair", is_flag=True, help="Fetch again what is damaged, missing or stale; needs the key.")
_option("--port", type=click.IntRange(0, 65535), default=0, help="Where to listen [any free port].")
_option("--sessions", type=click.IntRange(0), metavar="N", default=600, help="How many sessions [600].")
_option("--seed", type=int, metavar="N", default=0, help="The same seed makes the same data [0].")
_option("--latency", type=as_span, metavar="SPAN", default="0", help="Before every answer: 50ms.")
_option(
    "--faults",
    metavar="TEXT",
    default="",
    help="What goes wrong, and how often: 10%, or 500=5%,reset=0.01; a wrong name lists them all.",
)
_option(
    "--answers",
    metavar="TEXT",
    default="",
    help="How to play what the APIs' references leave open; a wrong name lists it all.",
)

CONNECTION = (
    *("api", "project_id", "organization_id", "base_url", "sandbox", "api_key_file", "api_key_command"),
    *("concurrency", "rate", "timeout", "progress", "as_json", "verbose"),
)
SCOPE = ("start", "end", "status", "role", "session_ids", "user", "agent_type")
RUN = (
    *("listing", "short_pages", "project", "retry_failed", "reconcile", "server_moved"),
    *("overlap", "settle", "watch_max_age"),
)

OF_SETTINGS = frozenset(CONNECTION + SCOPE + RUN)


def command(
    *groups: str | Sequence[str], needs_key: bool = True
) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function, with the options of these names, in this order in its help.

    With those of `CONNECTION`, all that `Settings` knows becomes its argument `settings`; with *needs_key*,
    the key has been read then. Its help is the docstring, whose `Examples:` come after the options.
    """
    names = [name for group in groups for name in ([group] if isinstance(group, str) else group)]

    def decorate(function: Callable[..., int]) -> click.Command:
        def call(**given: Any) -> int:
            if "api" in names:
                # Imported here: a command that asks no API needs no client.
                from navtalk_async.cli._settings import Settings  # noqa: PLC0415

                known = {name: given.pop(name) for name in names if name in OF_SETTINGS}
                settings = given["settings"] = Settings(**known)
                if needs_key:
                    settings.key.read()
            return function(**given)

        text, heading, examples = inspect.cleandoc(function.__doc__ or "").partition("Examples:")
        return click.Command(
            function.__name__,
            callback=call,
            params=[OPTIONS[name] for name in names],
            help=text,
            epilog=f"\b\n{heading}{examples}" if heading else None,
        )

    return decorate
