"""How each API speaks: questions into requests, answers into values; pure, with no `await`."""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from navtalk_async.dialects.dialect import Dialect

__all__ = ["dialect_of", "dialects"]

BUILT_IN = {"navtalk": "NavTalk", "kodey": "Kodey", "lexicon": "Lexicon", "llamacloud": "LlamaCloud"}
"""The API's short name, which is that of its module, and its class."""

GROUP = "navtalk_async.dialects"
"""The entry points by which other packages register theirs, each under the short name of its API."""


@cache
def dialects() -> "dict[str, type[Dialect]]":
    """Every dialect, by the short name of its API: the built-in ones, then those of other packages."""
    others = {each.name: each for each in entry_points(group=GROUP) if each.name not in BUILT_IN}
    return {api: _built_in(api) for api in BUILT_IN} | {api: others[api].load() for api in sorted(others)}


def dialect_of(api: str, **options: str | None) -> "Dialect":
    """The dialect of *api*, made with those *options* that are not None.

    Raises:
        ValueError: there is none, or it has no such option.
    """
    found = _built_in(api) if api in BUILT_IN else dialects().get(api)
    if found is None:
        raise ValueError(f"Unknown API {api!r}: use one of {', '.join(dialects())}.")
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - signature(found).parameters.keys():
        raise ValueError(f"{found.name} has no option {name}.")
    return found(**given)


def _built_in(api: str) -> "type[Dialect]":
    found: type[Dialect] = getattr(import_module(f"{__name__}.{api}"), BUILT_IN[api])
    return found
