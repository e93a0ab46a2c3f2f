"""`navtalk config`: the settings in force, by project, with where each comes from; and no secret."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from navtalk_async.archive.rows import format_time
from navtalk_async.cli._config import Chosen, contexts
from navtalk_async.cli._options import CONNECTION, RUN, SCOPE, command, settings_of
from navtalk_async.cli._output import put_json, put_lines
from navtalk_async.cli._settings import Settings
from navtalk_async.cli.app import run
from navtalk_async.dialects import dialect_of
from navtalk_async.lenient_json import is_list

ALWAYS_SHOWN = ("api", "base-url", "key")

HOLD_NO_SETTING = {"api_key_file", "api_key_command", "base_url", "project"}


@command(RUN, SCOPE, CONNECTION, needs_key=False)
def config_command(*, settings: Settings) -> int:
    """Show the settings in force, by project, and where each comes from.

    They are those that `navtalk sync` would have with the same options. No key is read, and neither a key nor
    a password is shown. Settings that are at their defaults are only in --json.

    Examples:
      navtalk config --config navtalk.toml
      navtalk config --config navtalk.toml --project support --json
    """
    context = click.get_current_context()
    if context.obj is None:
        raise click.UsageError("Give --config FILE, or set NAVTALK_CONFIG.")
    chosen: Chosen = context.obj
    projects = {each.obj.project: settings_in(each) for each in contexts(context)}
    shown = {name: secretless(name, each) for name, each in chosen.file.defaults.items()}

    async def work() -> int:
        if settings.as_json:
            found = [{"project": name, "settings": each} for name, each in projects.items()]
            facts = {"file": str(chosen.file.path), "defaults": shown, "projects": found}
            await put_json({"command": "config", "exit_code": 0, **facts})
        else:
            for name, each in projects.items():
                await put_lines([f"{name or chosen.file.path}:", *rows(each)])
            others = {name: each for name, each in shown.items() if name not in next(iter(projects.values()))}
            if others:
                by = {"from": f"{chosen.file.path} [defaults]"}
                await put_lines(
                    ["other commands:", *rows({n: {"value": each, **by} for n, each in others.items()})]
                )
        return 0

    return run(work(), settings.reporter)


def settings_in(context: click.Context) -> dict[str, dict[str, Any]]:
    """The value of each setting by its long name, and where it is from: an option, a variable, a table of the
    file, or `default`.
    """
    settings = settings_of(context)
    address, table = settings.address, settings.table
    url = address.url or dialect_of(settings.api).default_base_url
    origins = {_origin(context, "api_key_file"), _origin(context, "api_key_command")} - {"default"}
    by = table.title if table and context.obj.says_key else next(iter(origins), "the environment")
    found: dict[str, dict[str, Any]] = {
        "api": {"value": settings.api, "from": _origin(context, "api")},
        "base-url": {"value": secretless("base-url", url), "from": address.by},
        "key": {"value": settings.key_place, "from": by},
    }
    for param in context.command.params:
        name = str(param.name)
        if name in context.params and name not in HOLD_NO_SETTING:
            flag = param.opts[-1][2:]
            value = secretless(flag, context.params[name])
            found[flag] = {"value": value, "from": _origin(context, name)}
    return found


def _origin(context: click.Context, name: str) -> str:
    match context.get_parameter_source(name):
        case ParameterSource.COMMANDLINE:
            return "the command line"
        case ParameterSource.ENVIRONMENT:
            return "the environment"
        case ParameterSource.DEFAULT_MAP:
            [param] = [each for each in context.command.params if each.name == name]
            return str(context.obj.table_of(param))
    return "default"


def rows(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each that is not at its default."""
    shown = {
        name: (_text(each["value"]), each["from"])
        for name, each in settings.items()
        if each["from"] != "default" or name in ALWAYS_SHOWN
    }
    widths = [max(map(len, column)) for column in (shown, [value for value, _ in shown.values()])]
    return [f"  {n:<{widths[0]}}  {value:<{widths[1]}}  {by}" for n, (value, by) in shown.items()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    values: list[Any] = value if is_list(value) else [value]
    return ", ".join(map(str, values))


def secretless(name: str, value: Any) -> Any:
    """*value* of the setting *name* for JSON, without the password of a URL."""
    values: Any = value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [secretless(name, each) for each in values]
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, str | Path) and ("://" in str(value) or name in ("base-url", "proxy")):
        return _without_secrets(str(value))
    return str(value) if isinstance(value, Path) else value


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not parts.netloc:
        return "[not a URL]"
    # A token may stand where a user does.
    user, _, host = parts.netloc.rpartition("@")
    rest = "?…" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{'…@' if user else ''}{host}{parts.path}{rest}"
