"""The dialects there are: whatever stands in this folder, and whatever else is imported."""

from functools import cache
from importlib import import_module
from inspect import isabstract, signature
from pkgutil import iter_modules

from navtalk_async import dialects as folder
from navtalk_async.dialects.dialect import Dialect

__all__ = ["dialect_of", "dialects"]


def dialects() -> dict[str, type[Dialect]]:
    """Every dialect, by the short name of its API; NavTalk's first, the others by name."""
    _import_folder()
    found = {each.api: each for each in Dialect.__subclasses__() if not isabstract(each)}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "navtalk", item[0])))


def dialect_of(api: str, **options: str | None) -> Dialect:
    """The dialect of *api*, made with those *options* that are not None.

    Raises:
        ValueError: there is none, or it has no such option.
    """
    found = dialects().get(api)
    if found is None:
        raise ValueError(f"{api!r} is no API we know; there are {', '.join(dialects())}.")
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - signature(found).parameters.keys():
        raise ValueError(f"{found.name} knows no {name}.")
    return found(**given)


@cache
def _import_folder() -> None:
    for module in iter_modules(folder.__path__):
        import_module(f"{folder.__name__}.{module.name}")
