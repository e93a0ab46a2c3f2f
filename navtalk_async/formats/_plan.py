"""What an export is to write, and whether that can be done."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, NamedTuple, Required, Unpack

import msgspec

from navtalk_async.formats._compression import ZSTD
from navtalk_async.formats._csv import CSV
from navtalk_async.formats._duckdb import DUCKDB, PARQUET
from navtalk_async.formats._folder import FolderContent, ProjectFiles, label_of
from navtalk_async.formats._format import Format, FormatKeywords, FormatOptions
from navtalk_async.formats._jsonl import JSONL
from navtalk_async.formats._markdown import MARKDOWN
from navtalk_async.formats._openai import OPENAI
from navtalk_async.formats.html import HTML
from navtalk_async.privacy import Privacy

FORMATS: dict[str, Format] = {
    each.name: each for each in (JSONL, CSV, PARQUET, DUCKDB, MARKDOWN, OPENAI, HTML)
}
"""Every format, by its name."""


class ExportPlan(NamedTuple):
    """What to write, and how."""

    formats: Sequence[Format]
    options: FormatOptions
    is_merged: bool
    privacy: Privacy | None

    def label_of(self, project: str, found: FolderContent) -> str:
        """The label of the files of *project*."""
        return "" if self.is_merged else label_of(project, found.owners)

    def has_written(self, entry: ProjectFiles, changes: int) -> bool:
        """Whether *entry* lists what this plan would write after so many *changes*."""
        runs = [entry.formats.get(each.name) for each in self.formats]
        how = (changes, self.options, self.description())
        return (entry.changes, entry.merged) == (changes, self.is_merged) and all(
            run is not None and (run.changes, run.options, run.privacy) == how for run in runs
        )

    def description(self) -> dict[str, Any]:
        """What is removed, for the manifest."""
        return {} if self.privacy is None else self.privacy.description()

    def removed(self) -> Counter[str]:
        """How often something was removed so far, by its kind."""
        return Counter() if self.privacy is None else Counter(self.privacy.counts)


class PlanKeywords(FormatKeywords, total=False):
    """The arguments of `checked_plan`."""

    formats: Required[str | Sequence[str]]
    merge_projects: bool
    privacy: Privacy | None


def checked_plan(
    formats: str | Sequence[str],
    *,
    merge_projects: bool = False,
    privacy: Privacy | None = None,
    **options: Unpack[FormatKeywords],
) -> ExportPlan:
    """The plan of an export; a ValueError or ImportError, in words, for one that cannot be carried out."""
    names = [formats] if isinstance(formats, str) else list(dict.fromkeys(formats))
    unknown = [each for each in names if each not in FORMATS]
    if unknown or not names:
        raise ValueError(f"{(*unknown, '')[0]!r} is no format; choose from {', '.join(FORMATS)}.")
    try:
        checked = msgspec.convert(options, FormatOptions, strict=True)
    except msgspec.ValidationError as refusal:
        what, _, where = str(refusal).partition(" - at `$.")
        raise ValueError(f"{where.rstrip('`') or 'options'}: {what}.") from None
    chosen = [FORMATS[each] for each in names]
    refuse_options(chosen, checked)
    return ExportPlan(chosen, checked, merge_projects, privacy)


def refuse_options(formats: Sequence[Format], options: FormatOptions) -> None:
    """Raise a ValueError for options that *formats* do not know, an ImportError for a missing library."""
    method = options.compress
    can = [each for each in formats if each.compressions]
    unable = next((each for each in can or formats if method not in (None, *each.compressions)), None)
    if unable is not None:
        ways = f" with {method}; it knows {', '.join(unable.compressions)}" if unable.compressions else ""
        raise ValueError(f"{unable.name} cannot be compressed{ways}.")
    for option, name in OF_ONE_FORMAT.items():
        if getattr(options, option) and name not in [each.name for each in formats]:
            raise ValueError(f"{option}= is an option of the format {name}, which is not chosen.")
    for each in formats:
        module = ZSTD if method == "zstd" and each.needs == "" and each.compressions else each.needs
        if module and not _is_installed(module):
            raise ImportError(
                f"The format {each.name}{' with zstd' if module == ZSTD else ''} needs the package {module}: "
                f"pip install 'navtalk-async[{EXTRAS[module]}]'."
            )


def _is_installed(module: str) -> bool:
    with suppress(ModuleNotFoundError):
        return find_spec(module) is not None
    return False


OF_ONE_FORMAT = {
    "partition": "parquet",
    "spreadsheet_safe": "csv",
    "min_messages": "openai-jsonl",
    "max_messages": "openai-jsonl",
}


EXTRAS = {"duckdb": "duckdb", "jinja2": "html", ZSTD: "zstd"}
"""What installs a module that a format needs."""
