"""Every option and argument, declared once; what their texts mean; and how a command takes them.

It is longer than other files, because it is the one list of all options.
"""

import inspect
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from click.core import ParameterSource

from navtalk_async.archive import is_url, redacted
from navtalk_async.archive._tokens import parse_token
from navtalk_async.cli._output import be_quiet
from navtalk_async.dialects import dialects
from navtalk_async.lenient_json import is_list
from navtalk_async.times import parse_utc

if TYPE_CHECKING:
    from navtalk_async.cli._config import Chosen
    from navtalk_async.cli._settings import Settings
    from navtalk_async.privacy import Privacy
    from navtalk_async.sandbox import Answers, Faults

Place = Path | str
"""A path, or the address of a database."""

COMPRESSIONS = ("none", "gzip", "zstd", "snappy")
PARTITIONS = ("month", "day")

LONGEST = timedelta(days=36_525)

MOST_KEY_BYTES = 1 << 16

SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

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
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"{text!r} is neither auto nor a number from 1.")
    return int(text)


def as_percent(text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise click.BadParameter(f"{text!r} is not a share: write 5%, 0.5% or 100%.")
    return percent


def as_span(text: str) -> timedelta:
    """A time span; in seconds where no unit is given."""
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


def as_size(text: str) -> int:
    """Bytes, as `size` in `_output` writes them."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(k|M|G|T|)B?", text.strip())
    if found is None or not (count := int(float(found[1]) * SIZES[found[2]])):
        raise click.BadParameter(f"{text!r} is not a size: write 500kB, 200MB or 1.5GB.")
    return count


def as_token(text: str) -> str:
    try:
        parse_token("after", text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no token: give that of a line that `navtalk changes` has printed."
        ) from None
    return text


def as_formats(text: str) -> list[str]:
    from navtalk_async.formats import FORMATS  # noqa: PLC0415 - only an export needs its formats

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is not a format; choose from {', '.join(FORMATS)}.")
    return names


def as_kinds(text: str) -> list[str]:
    from navtalk_async.privacy import KINDS  # noqa: PLC0415 - its patterns take long to compile

    names: list[str] = [*KINDS] if text.strip() == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise click.BadParameter(f"{name!r} is not a kind; choose from {', '.join(KINDS)}, or all.")
    return names


def as_pseudonym_key(text: str) -> bytes:
    """The key in a file, without the line end after it."""
    from navtalk_async.privacy import SMALLEST_KEY  # noqa: PLC0415 - as above

    path = as_path(text)
    try:
        with path.open("rb") as file:
            key = file.read(MOST_KEY_BYTES + 1).rstrip(b"\r\n")
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                click.echo(f"navtalk: {text} can be read by others; chmod 600 it.", err=True)
    except OSError as failure:
        raise click.BadParameter(f"{text} cannot be read: {failure.strerror}.") from None
    if not SMALLEST_KEY <= len(key) <= MOST_KEY_BYTES:
        raise click.BadParameter(f"{text} must hold {SMALLEST_KEY} to {MOST_KEY_BYTES} bytes.")
    return key


def as_faults(text: str) -> "Faults":
    from navtalk_async.sandbox import Faults  # noqa: PLC0415 - a web server, which few commands need

    try:
        return Faults.parse(text)
    except ValueError as refusal:
        raise click.BadParameter(f"{refusal}.") from None


def as_answers(text: str) -> "Answers":
    """Answers to what the APIs' references leave open: `name=value`, separated by commas."""
    from navtalk_async.sandbox import Answers  # noqa: PLC0415 - a web server, which few commands need

    pairs = [part.partition("=") for part in filter(None, (part.strip() for part in text.split(",")))]
    known = [each.name for each in fields(Answers)]
    for name, _, _ in pairs:
        if name not in known:
            raise click.BadParameter(f"{name!r} is not an open question; there are {', '.join(known)}.")
    try:
        return msgspec.convert({name: value for name, _, value in pairs}, Answers, strict=False)
    except msgspec.ValidationError as refusal:
        raise click.BadParameter(f"{refusal}.") from None


def as_path(text: str) -> Path:
    if not text:
        # It would mean the current folder.
        raise click.BadParameter("The path is empty.")
    return Path(text)


def as_query(_context: click.Context, _parameter: click.Parameter, words: Sequence[str]) -> str:
    from navtalk_async.formats.words import parse_query  # noqa: PLC0415 - only a search needs it

    text = " ".join(words)
    try:
        parse_query(text)
    except ValueError as refusal:
        raise click.BadParameter(str(refusal)) from None
    return text


def as_folder(text: str) -> Path:
    path = as_path(text)
    if "://" in text:
        raise click.BadParameter(f"{text} is not a folder; `navtalk sync` takes the address of a database.")
    if exists(path) and not path.is_dir():
        raise click.BadParameter(f"{text} is a file; give the path of a folder.")
    return path


def as_copy(text: str) -> Path:
    path = as_path(text)
    if "://" in text:
        raise click.BadParameter(f"{text} is no path of a file on this machine.")
    if exists(path) and path.is_dir():
        raise click.BadParameter(f"{text} is a folder; give the path of a file.")
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


def as_limits(text: str) -> Place:
    return text if text == "auto" else as_store(text)


def as_place(text: str) -> Place:
    """Where an archive is, which must exist already."""
    place = as_archive(text)
    if isinstance(place, Path) and not exists(place):
        raise click.BadParameter(f"There is nothing at {text}.")
    return place


def exists(path: Path) -> bool:
    try:
        # Not `Path.exists`, for which there is nothing at a loop of symbolic links.
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as failure:
        raise click.BadParameter(f"{path} cannot be read: {failure.strerror}.") from None
    return True


OPTIONS: dict[str, click.Parameter] = {
    "session_id": click.Argument(["session_id"], metavar="ID"),
    "dest": click.Argument(["dest"], type=as_folder),
    "copy": click.Argument(["copy"], type=as_copy, metavar="FILE"),
    "store": click.Argument(["store"], type=as_store),
    "place": click.Argument(["place"], type=as_place, metavar="STORE|DEST"),
    "shell": click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"])),
    "text": click.Argument(["text"], nargs=-1, required=True, callback=as_query, metavar="WORDS..."),
}
"""Every option and argument by the name of the parameter it becomes."""


class Option(click.Option):
    """An option that the variable of its name may set, too: `NAVTALK_RATE` for `--rate`."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The variable's value, unless Kubernetes set it (`NAVTALK_PORT`, for a service named navtalk), or a
        project of a file has its own.
        """
        if self.name in OF_A_KEY and getattr(ctx.obj, "project", None) is not None:
            return None
        found = super().resolve_envvar_value(ctx)
        return None if found is None or found.startswith(("tcp://", "udp://")) else found

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """What a refusal of its value names."""
        if ctx is not None and ctx.get_parameter_source(str(self.name)) is ParameterSource.DEFAULT_MAP:
            return str(ctx.obj.where(self))
        return str(self.envvar) if _is_from_variable(ctx, str(self.name)) else super().get_error_hint(ctx)


def _is_from_variable(context: click.Context | None, name: str) -> bool:
    return context is not None and context.get_parameter_source(name) is ParameterSource.ENVIRONMENT


def _option(usage: str, text: str, parse: Any = None, *, name: str = "", **attributes: Any) -> None:
    """Declare an option: its flags and the word for its value, its help, what reads a value; the parameter
    it becomes has the *name* of its long flag unless another is given. Of a list of words, the first is the
    default.
    """
    if is_list(parse):
        attributes, parse = {"default": parse[0]} | attributes, click.Choice(parse)
    flags = [word for word in usage.split() if word.startswith("-")]
    metavar = "".join(word for word in usage.split() if not word.startswith("-")) or None
    names = [*flags, name] if name else flags
    variable = f"NAVTALK_{flags[-1].removeprefix('--').replace('-', '_').upper()}"
    attributes = {"envvar": variable} | attributes
    option = Option(names, help=text, type=parse, metavar=metavar, **attributes)
    OPTIONS[str(option.name)] = option


def _flag(flag: str, text: str, **attributes: Any) -> None:
    _option(flag, text, is_flag=True, **attributes)


_option("--config FILE", "Defaults of options, and projects (TOML).", as_path, expose_value=False)

# How to reach the API.
_option("--api", "Which API to ask.", list(dialects()), default="navtalk")
_option("--project-id ID", "Which of LlamaCloud's projects [the key's own].")
_option("--organization-id ID", "Which of LlamaCloud's organizations [the key's own].")
# Its variables are read where it is known whose key goes there.
_option("--base-url URL", "Where the API is. [env: NAVTALK_BASE_URL, KODEY_…]", envvar=None)
_option("--proxy URL", "Ask through this http proxy. [env: HTTPS_PROXY]")
_option("--cacert FILE", "Trust these authorities' certificates (PEM) too. [env: SSL_CERT_FILE]", as_path)
_flag("--sandbox", "Ask a made-up server in this process: no key, no network.")
_option("--api-key-file PATH", "Read the key from a file. [env: NAVTALK_API_KEY, KODEY_…]", Path)
_option("--api-key-command CMD", "Run a command (no shell) that prints the key.")
_option("--concurrency auto|N", "The most requests at once.", as_concurrency, default="auto")
_option("--rate N", "The most requests a second.", float)
_option(
    "--limits FILE|auto",
    "Share --rate and pauses with all processes that name this file, or a postgresql:// address; auto: "
    "the archive's database, or a file of this user.",
    as_limits,
)
_option("--timeout SECONDS", "For a call with all its retries [300, and --retry-for].", float)
_option(
    "--retry-for SPAN",
    "How long to wait for an API that is away [5m for export, sync and verify; else 0].",
    as_span,
)
_option("--progress", "How to show progress on stderr.", ["auto", "bar", "plain", "json", "none"])
_flag("--json", "Print JSON on stdout.", name="as_json")
_option("-v --verbose", "Log failures and waits; -vv every request.", count=True)
_flag("-q --quiet", "Print nothing but errors on stderr.", expose_value=False, callback=be_quiet)

# Which sessions and messages: the filters of the library, by its names.
_option("--start TIME", "From this time on (UTC unless it has an offset).", as_time, name="start_time")
_option("--end TIME", "Until this time; a date means its first second.", as_time, name="end_time")
_option("--status active|completed|failed", "Sessions of this status.", as_word_or_number)
_option("--role user|assistant", "Messages of this role.", as_word_or_number)
_option("--session ID", "This session; repeatable.", name="sessions", multiple=True)
_option("--user ID", "Sessions of this user; Lexicon needs one, Kodey.ai takes one.", name="user_id")
_option("--agent-type TYPE", "Sessions with agents of this type (Kodey.ai).")

# How a run works.
_option("--listing", "List from many places at once where that helps, or page by page.", ["auto", "serial"])
_option(
    "--short-pages",
    "Follow the cursor of every short page of messages; or only of some, to see that nothing comes.",
    ["follow", "audit"],
)
_option("--project NAME", "The name the key's project has in the archive.", as_name, default="default")
_flag("--retry-failed", "Retry what failed in earlier runs.")
_flag("--reconcile", "List everything again, and compare it; with --watch, once a day.")
_flag("--server-moved", "The archive's server has another address now; remember that.")
_option(
    "--overlap SPAN", "How far behind the latest known session to list again [24h].", as_span, default="24h"
)
_option(
    "--settle SPAN", "How long messages may arrive after a session ended [120s].", as_span, default="120s"
)
_option("--watch-max-age SPAN", "Sessions that began longer ago are no longer expected to end.", as_span)

# What only one command does.
_option("--store STORE|DEST", "Show how much is saved there.", as_place, name="known_store")
_option("--store STORE|DEST", "Look into this archive, and ask no API.", as_place, name="looked_store")
_option("--limit N", "At most so many [all].", click.IntRange(1))
_flag("--newest", "The newest first.")
_flag("--local-time", "Show times in this machine's time zone.")
_option(
    "--store PATH",
    "Also check this archive, or where it will be; or a database, by its address.",
    as_archive,
    name="checked_store",
)
# The variable names the project that is synced.
_option("--project NAME", "Only this project [all].", name="only_project", envvar=None)
_option(
    "--format NAME,...",
    "How to write the files; repeatable, or with commas. [jsonl]",
    as_formats,
    name="formats",
    multiple=True,
    default=["jsonl"],
)
_option("--from STORE|DEST", "Export this archive as it is, without asking the API.", as_place, name="source")
_flag(
    "--merge-projects",
    "Write all projects into the same files, with a column `project`, in place of those of single projects.",
)
_option(
    "--compress", "Compress text files (gzip, zstd), Parquet (zstd by default).", click.Choice(COMPRESSIONS)
)
_option("--partition", "A Parquet file a month or day in which sessions started.", click.Choice(PARTITIONS))
_flag("--spreadsheet-safe", "CSV without formulas, and with times that spreadsheets read; not exact.")
_option("--min-messages N", "Leave shorter conversations out of openai-jsonl.", click.IntRange(0), default=0)
_option("--max-messages N", "Leave longer conversations out of openai-jsonl.", click.IntRange(0))
_flag("--media", "Also download what the sessions link to, into the folder `media`.")
_flag("--overwrite", "Replace files of the same names that no export wrote.")
_option(
    "--redact KIND,...",
    "Remove emails, phones, cards, ibans, ips, urls, or all; repeatable, or with commas.",
    as_kinds,
    multiple=True,
)
_option(
    "--pseudonymize FILE",
    "Replace users, agents and what --redact names by pseudonyms, with the key in this file.",
    as_pseudonym_key,
)
_option("--watch SPAN", "Run for ever, a round every SPAN.", as_span, name="every")
_PORT = click.IntRange(0, 65535)
_option(
    "--metrics-port PORT",
    "Serve /metrics (Prometheus) and /healthz on this port [0: any free one].",
    _PORT,
)
_option(
    "--metrics-host HOST",
    "The address of that port [127.0.0.1: only this machine]; 0.0.0.0 is every IPv4 interface.",
)
_option("--after TOKEN", "Go on behind this token of an earlier line [the beginning].", as_token)
_option("--consumer NAME", "Go on behind what this consumer was given; the archive remembers it.", as_name)
_flag("--drop", "Forget the consumer.", envvar=None)
_flag("--follow", "Wait for more changes, until stopped.")
_flag("--transcripts", "Print whole sessions with all their messages, instead of what changed in them.")
_option(
    "--dest FOLDER", "Where to make the folder of media [beside the archive].", as_folder, name="media_folder"
)
_flag("--allow-private-media", "Also download from this machine and its networks.")
_option("--max-media-size SIZE", "The most bytes of a file: 200MB [1GB].", as_size, default="1GB")
_option("--max-media-files N", "The most files of a run [100000].", click.IntRange(1), default=100_000)
_option("--limit N", "The most messages [20].", click.IntRange(1), default=20, name="most_hits")
_option("--before TIME", "Sessions that began before this time.", as_time, envvar=None)
_flag("--dry-run", "Only say what would be erased.", envvar=None)
_flag("--files", "Also remove exported files and media that may hold what is erased.", envvar=None)
_option(
    "--dest FOLDER",
    "Where the exported files are [beside the archive].",
    as_folder,
    name="files_folder",
    envvar=None,
)
_flag("--forgotten", "Also search everything for sessions that were forgotten.")
_flag("--quick", "Only sizes, hashes and counts: nothing is parsed.")
_option(
    "--remote PERCENT",
    "Fetch this share of the sessions again (at least one), and compare; needs the key.",
    as_percent,
)
_flag("--repair", "Fetch again what is damaged, missing or stale; needs the key.")
_option("--port", "Where to listen [any free port].", _PORT, default=0)
_flag("--open", "Open the address in a browser.", name="open_browser")
_option("--sessions N", "How many sessions [600].", click.IntRange(0), default=600, name="session_count")
_option("--seed N", "The same seed makes the same data [0].", int, default=0)
_option("--latency SPAN", "Before every answer: 50ms.", as_span, default="0")
_option(
    "--faults TEXT",
    "What goes wrong, and how often: 10%, or 500=5%,reset=0.01; a wrong name lists them all.",
    as_faults,
    default="",
)
_option(
    "--answers TEXT",
    "How to play what the APIs' references leave open; a wrong name lists it all.",
    as_answers,
    default="",
)

CONNECTION = (
    *("api", "project_id", "organization_id", "base_url", "proxy", "cacert", "sandbox", "api_key_file"),
    "api_key_command",
    *("concurrency", "rate", "timeout", "retry_for", "progress", "as_json", "verbose"),
)
OF_A_SERVER = ("base_url", "proxy", "cacert", "api_key_file", "api_key_command")
OF_A_KEY = ("api", "base_url", "project_id", "organization_id", "api_key_file", "api_key_command")
"""What belongs together: whose key it is, and where it may go."""
ASKING = (*(name for name in CONNECTION if name not in ("progress", "as_json", "verbose")), "listing")
SCOPE = ("start_time", "end_time", "status", "role", "sessions", "user_id", "agent_type")
PRIVACY = ("redact", "pseudonymize")
LIMITS_OF_THE_USER = Path(".local", "state", "navtalk", "limits.db")
RUN = (
    *("listing", "short_pages", "project", "retry_failed", "reconcile", "server_moved"),
    *("overlap", "settle", "watch_max_age"),
)
FORMAT_OPTIONS = ("compress", "partition", "spreadsheet_safe", "min_messages", "max_messages")


def privacy_of(redact: Sequence[Sequence[str]], pseudonymize: bytes | None) -> "Privacy | None":
    """What the options of `PRIVACY` ask for; None without them."""
    kinds = [kind for kinds in redact for kind in kinds]
    if not kinds and pseudonymize is None:
        return None
    from navtalk_async.privacy import Privacy  # noqa: PLC0415 - as above

    return Privacy(redact=kinds, pseudonymize=pseudonymize)


NAMED_ARGUMENT = re.compile(
    rf"""\b({"|".join((*CONNECTION, *SCOPE, *RUN, *FORMAT_OPTIONS, "overwrite"))})"""
    r"""=(?:True\b|(['"])(.*?)\2)?"""
)


NAMED_FILTERS = re.compile(r"\b(?:by|option) (\w+(?: and \w+)*)(?=[:.])")


def as_options(text: str) -> str:
    """*text*, in which an error of the library names arguments (`project=`), with the command's options."""

    def option(found: re.Match[str]) -> str:
        is_number = text[found.end() : found.end() + 1].replace("-", "0").isalnum()
        value = "" if found[3] is None else f" {shlex.quote(found[3])}"
        return f"{OPTIONS[found[1]].opts[-1]}{' ' if is_number else value}"

    def all_options(found: re.Match[str]) -> str:
        return re.sub(
            r"\w+", lambda each: OPTIONS[each[0]].opts[-1] if each[0] in OPTIONS else each[0], found[0]
        )

    return NAMED_ARGUMENT.sub(option, NAMED_FILTERS.sub(all_options, text))


def _refuse_to_ask() -> None:
    """Refuse what was given of the options that say how an API is asked."""
    context = click.get_current_context()
    given = [
        name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    ]
    names = [name for name in given if name in ASKING]
    if names:
        options = " and ".join(OPTIONS[name].opts[-1] for name in names)
        raise click.UsageError(f"--store asks no API; leave out {options}.")


class Command(click.Command):
    """A command that takes what the file of `--config` says, below the environment and the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the file, if there is one, before all options; and then all options."""
        from_file = ctx.obj or self._chosen(ctx, args)
        if from_file is not None:
            ctx.obj, ctx.default_map = from_file, from_file.defaults(self.params)
        rest = super().parse_args(ctx, args)
        if from_file is not None and from_file.project is not None:
            for name in OF_A_KEY:
                if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                    raise click.UsageError(
                        f"{from_file.title} says whose key it is and where it goes: "
                        f"leave out {OPTIONS[name].opts[-1]}.",
                        ctx,
                    )
        return rest

    def _chosen(self, ctx: click.Context, args: Sequence[str]) -> "Chosen | None":
        options = {each.name: each for each in self.params}
        if "config" not in options or ctx.resilient_parsing:
            return None
        given, *_ = self.make_parser(ctx).parse_args(args=[*args])
        path, _ = options["config"].consume_value(ctx, given)
        shows_help = self.get_help_option(ctx)
        if not isinstance(path, str) or (shows_help is not None and given.get(str(shows_help.name))):
            return None
        from navtalk_async.cli._config import Chosen  # noqa: PLC0415 - few have such a file

        wanted = None
        if "api" in options:
            chooser = options.get("project") or options.get("only_project")
            wanted, source = (None, None) if chooser is None else chooser.consume_value(ctx, given)
            wanted = None if source is ParameterSource.DEFAULT else wanted
        return Chosen.of(as_path(path), tuple(args), wanted)


def settings_of(context: click.Context) -> "Settings":
    """What the options of the command say how an API is asked."""
    # Imported here: a command that asks no API needs no client.
    from navtalk_async.cli._settings import Settings, Table, usage_errors  # noqa: PLC0415

    connection = {name: context.params[name] for name in CONNECTION}
    if connection["sandbox"]:
        for name in OF_A_SERVER:
            is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            connection[name] = connection[name] if is_given else None
    options: Any = {name: context.params[name] for name in SCOPE + RUN if name in context.params}
    connection["limits"] = _place_of_limits(context.params)
    table = None
    if context.obj is not None and context.obj.project is not None:
        table = Table(context.obj.title, context.obj.project, context.obj.table.get("api-key-variable"))
    with usage_errors(table):
        why_none = "" if context.obj is None else context.obj.why_none
        return Settings(**connection, options=options, table=table, why_none=why_none)


def _place_of_limits(given: Mapping[str, Any]) -> Place | None:
    place: Place | None = given.get("limits")
    if place != "auto":
        return place
    archive = given.get("store", given.get("place"))
    return archive if isinstance(archive, str) else Path.home() / LIMITS_OF_THE_USER


def command(
    *groups: str | Sequence[str],
    needs_key: bool = True,
    offline: str | None = None,
    has_variables: bool = True,
) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function, with the options of these names, in this order in its help.

    With those of `CONNECTION`, all that `Settings` knows becomes its argument `settings`; with *needs_key*,
    the key has been read then. Its help is the docstring, whose `Examples:` come after the options. With the
    option *offline*, no API is asked, and there are no settings; then, `as_json` and the `filters` are
    arguments in any case. Without *has_variables*, the environment sets no option: a command that erases is
    told each time what.
    """
    names = [name for group in groups for name in ([group] if isinstance(group, str) else group)]

    def decorate(function: Callable[..., int]) -> click.Command:
        def call(**given: Any) -> int:
            if "api" in names:
                taken = {name: given.pop(name) for name in CONNECTION}
                taken |= {name: given.pop(name) for name in names if name in (*SCOPE, *RUN, "limits")}
                if offline is not None:
                    filters = {name: taken[name] for name in SCOPE if name in taken}
                    given |= {"as_json": taken["as_json"], "filters": filters}
                if offline is not None and given[offline] is not None:
                    _refuse_to_ask()
                    return function(**given)
                settings = given["settings"] = settings_of(click.get_current_context())
                if needs_key:
                    settings.key.read()
            return function(**given)

        own = ("config", "quiet") if has_variables else ("quiet",)
        params = [copy(OPTIONS[name]) for name in (*names, *own)]
        for each in params:
            each.envvar = each.envvar if has_variables else None
        text, heading, examples = inspect.cleandoc(function.__doc__ or "").partition("Examples:")
        return Command(
            function.__name__.removesuffix("_command"),
            callback=call,
            params=params,
            help=text,
            epilog=f"\b\n{heading}{examples}" if heading else None,
        )

    return decorate
