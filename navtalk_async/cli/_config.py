"""The file of `--config`: defaults of options, and projects, each with where its key comes from.

Values are kept as texts, which the options themselves read, as they read those of the command line.
"""

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from navtalk_async.cli._options import CONNECTION, OF_A_KEY, OPTIONS, RUN, SCOPE, as_name, settings_of
from navtalk_async.cli.app import Exit
from navtalk_async.lenient_json import is_list

if TYPE_CHECKING:
    # A client, which `status` does not need.
    from navtalk_async.cli._settings import Settings

Table = Mapping[str, Any]
"""The values of options by their long names: a text, a truth, a number of times, or a list of texts."""

MOST_BYTES = 1 << 20

KEY_SOURCES = {"env": "api-key-variable", "file": "api-key-file", "command": "api-key-command"}

SAY_WHERE = (
    'say where it comes from: "env:NAME" (a variable, in capitals), "file:PATH" or "command:PROGRAM …". '
    "A file like this one gets copied: the key itself must not stand in it."
)

BY_NAME = {
    name: [each for each in OPTIONS.values() if isinstance(each, click.Option) and name in each.opts]
    for name in {each.opts[-1] for each in OPTIONS.values() if isinstance(each, click.Option)}
}
"""The options of a flag: some commands have others of the same name."""

NOT_OF_ONE = {"progress", "as_json", "verbose", "api_key_file", "api_key_command", "project"}
OF_A_PROJECT = {OPTIONS[each].opts[-1][2:] for each in {*CONNECTION, *SCOPE, *RUN} - NOT_OF_ONE}
OF_DEFAULTS = {
    flag[2:]
    for flag, options in BY_NAME.items()
    if any(each.envvar for each in options)
    and not {str(each.name) for each in options} & {*OF_A_KEY, "config"}
} - {"project"}

HOLDS_A_PATH = {"FILE", "PATH", "FOLDER", "STORE", "DEST"}


class ConfigFile(NamedTuple):
    path: Path
    defaults: Table
    projects: Mapping[str, Table]
    limits: Mapping[str, Any]
    """Those of all projects together: the arguments of `sync_all`."""

    @classmethod
    def read(cls, path: Path) -> "ConfigFile":
        """The file at *path*; a `click.UsageError` names what in it cannot be right, and shows no key."""
        found = _tables(path)
        _known(path, found, ("defaults", "projects", "limits"), "a table of this file")
        for name in ("defaults", "projects", "limits"):
            _checked_table(f"{path} [{name}]", found.get(name, {}))
        projects = found.get("projects", {})
        for name, table in projects.items():
            _checked_name(path, name)
            _checked_table(f"{path} [projects.{name}]", table)
        return cls(
            path,
            _values(path, f"{path} [defaults]", found.get("defaults", {}), OF_DEFAULTS),
            {name: _project(path, name, table) for name, table in projects.items()},
            _limits(path, f"{path} [limits]", found.get("limits", {})),
        )

    def several(self) -> str:
        """A sentence that asks for one of the projects."""
        names = ", ".join(self.projects)
        return f"{self.path} has {len(self.projects)} projects: {names}. Choose one with --project NAME."

    def unknown(self, name: str) -> str:
        return f"{self.path} has no project {name!r}.{_meant(name, self.projects)}"


class Chosen(NamedTuple):
    """The file of a command, and the project in it that the command is for."""

    file: ConfigFile
    arguments: Sequence[str]
    """Those of the command line."""
    project: str | None = None
    wanted: str | None = None
    """The name that was asked for."""
    why_none: str = ""
    """Why no project of several is chosen."""

    @classmethod
    def of(cls, path: Path, arguments: Sequence[str], wanted: str | None) -> "Chosen":
        file = ConfigFile.read(path)
        name = next(iter(file.projects)) if wanted is None and len(file.projects) == 1 else wanted
        if not file.projects or name in file.projects:
            return cls(file, arguments, name if file.projects else None, wanted)
        return cls(file, arguments, None, wanted, file.several() if name is None else file.unknown(name))

    @property
    def table(self) -> Table:
        return self.file.projects[self.project] if self.project is not None else {}

    @property
    def title(self) -> str:
        return f"{self.file.path} [projects.{self.project}]"

    def table_of(self, option: click.Parameter) -> str:
        """The table that says the value of *option*."""
        name = option.opts[-1][2:]
        return self.title if name in {*self.table, "project"} else f"{self.file.path} [defaults]"

    def where(self, option: click.Parameter) -> str:
        """What a refusal of the value of *option* names."""
        name = option.opts[-1][2:]
        return f"{self.table_of(option)} {'key' if name in KEY_SOURCES.values() else name}"

    @property
    def says_key(self) -> bool:
        return not self.table.keys().isdisjoint(KEY_SOURCES.values())

    def defaults(self, params: Sequence[click.Parameter]) -> dict[str, Any]:
        """What the file says of *params*, by their names."""
        values = {**self.file.defaults, **self.table}
        names = {str(each.name): each.opts[-1][2:] for each in params if isinstance(each, click.Option)}
        if any(each.name == "session_id" for each in params):
            # There, they choose among the messages of a session.
            names = {name: flag for name, flag in names.items() if name not in SCOPE}
        found = {name: values[flag] for name, flag in names.items() if flag in values}
        return found if self.project is None else {"project": self.project, **found}


def contexts(context: click.Context) -> list[click.Context]:
    """What the command line means for each project of the file; or for the one that was chosen, or without a
    file. A `click.UsageError` names the first value that cannot be right.
    """
    chosen = context.obj
    if chosen is None or not chosen.why_none:
        return [context]
    if chosen.wanted is not None:
        raise click.UsageError(chosen.why_none)
    make = context.command.make_context
    return [
        make(
            context.info_name,
            [*chosen.arguments],
            context.parent,
            obj=chosen._replace(project=name, why_none=""),
        )
        for name in chosen.file.projects
    ]


def every_project() -> list["Settings"]:
    """The settings of those; no key is read."""
    return [settings_of(each) for each in contexts(click.get_current_context())]


def code_of_all(codes: Sequence[int]) -> int:
    """The exit code of several projects: the one that all of them end with, or else 3."""
    return codes[0] if len(set(codes)) == 1 else Exit.PARTIAL


def limits_of_all() -> Mapping[str, Any]:
    """The limits of the file for all projects together."""
    chosen: Chosen = click.get_current_context().obj
    return chosen.file.limits


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as failure:
        raise click.UsageError(f"{path} cannot be read: {failure.strerror}.") from None
    if len(data) > MOST_BYTES:
        raise click.UsageError(f"{path} is no file of settings: it has more than a megabyte.")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise click.UsageError(f"{path} is not UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as refusal:
        raise click.UsageError(f"{path} is not TOML: {str(refusal).removesuffix('.')}.") from None


def _checked_table(where: str, table: object) -> None:
    if not isinstance(table, dict):
        raise click.UsageError(f"{where} is a value, and not a table.")


def _checked_name(path: Path, name: str) -> None:
    try:
        as_name(name)
    except click.BadParameter as refusal:
        raise click.UsageError(f"{path} [projects]: {refusal.message}") from None


def _known(where: object, names: Collection[str], known: Collection[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise click.UsageError(f"{where}: {name!r} is not {what}.{_meant(name, known)}")


def _meant(name: str, known: Collection[str]) -> str:
    found = get_close_matches(name, known, 1) or [each for each in known if each == "key" and each in name]
    return f" Did you mean {found[0]}?" if found else f" There are: {', '.join(sorted(known))}."


def _project(path: Path, name: str, table: Table) -> Table:
    where, given = f"{path} [projects.{name}]", dict(table)
    key: Table = _key(path, where, given.pop("key")) if "key" in given else {}
    return {**_values(path, where, given, OF_A_PROJECT), **key}


def _limits(path: Path, where: str, table: Table) -> dict[str, Any]:
    values, found = _values(path, where, table, ("concurrency", "rate")), dict[str, Any]()
    for name, text in values.items():
        try:
            found[name] = OPTIONS[name].type.convert(text, None, None)
        except click.BadParameter as refusal:
            raise click.UsageError(f"{where} {name}: {refusal.message}") from None
    # Each client learns for itself how many it can have.
    return {name: value for name, value in found.items() if value != "auto"}


def _key(path: Path, where: str, value: object) -> Table:
    """Where the key comes from; a refusal does not repeat *value*, which may be the key."""
    kind, _, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    rest = rest.strip()
    if kind not in KEY_SOURCES or not rest or (kind == "env" and not re.fullmatch("[A-Z_][A-Z0-9_]*", rest)):
        raise click.UsageError(f"{where} key: {SAY_WHERE}")
    return {KEY_SOURCES[kind]: str(path.parent / Path(rest).expanduser()) if kind == "file" else rest}


def _values(path: Path, where: str, table: Table, known: Collection[str]) -> dict[str, Any]:
    for name in table:
        if name not in known:
            _refuse_name(where, name, known)
    return {
        name: _value(path, f"{where} {name}", BY_NAME[f"--{name}"][0], each) for name, each in table.items()
    }


def _refuse_name(where: str, name: str, known: Collection[str]) -> NoReturn:
    if known is OF_DEFAULTS and name in {*OF_A_PROJECT, "key"}:
        raise click.UsageError(f"{where} {name}: it belongs to one project: write it into [projects.NAME].")
    if known is OF_A_PROJECT and name in OF_DEFAULTS:
        raise click.UsageError(f"{where} {name}: it belongs to no project: write it into [defaults].")
    known = {*known, "key"} if known is OF_A_PROJECT else known
    raise click.UsageError(f"{where}: {name!r} is no option that can stand here.{_meant(name, known)}")


def _value(path: Path, where: str, option: click.Option, value: object) -> Any:
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.UsageError(f"{where}: write true or false.")
        return value
    if option.count:
        if not isinstance(value, int) or isinstance(value, bool):
            raise click.UsageError(f"{where}: write a whole number.")
        return value
    if is_list(value) and not option.multiple:
        raise click.UsageError(f"{where}: it takes one value, and this is a list.")
    values: list[Any] = value if is_list(value) else [value]
    texts = [_text(where, each) for each in values]
    words = (option.metavar or "").split("|")
    if HOLDS_A_PATH.intersection(words):
        texts = [
            each if "://" in each or not each or each in words else str(path.parent / each) for each in texts
        ]
    return texts if option.multiple else texts[0]


def _text(where: str, value: object) -> str:
    """*value* as the command line would have it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | dict | list | time):
        raise click.UsageError(f"{where}: write a text, a number or a date.")
    return value.isoformat() if isinstance(value, date) else f"{value}"
