"""The APIs this folder speaks: every module in it that has a ``NAME``, and so all that `Api` promises."""

import sys
from functools import cache
from importlib import import_module
from os.path import commonpath
from pkgutil import iter_modules

from .exchange import Api


@cache
def apis() -> dict[str, Api]:
    """All there are, by name, longest paths first; `TypeError` for one that breaks its promise."""
    package = sys.modules[__name__.rpartition(".")[0]]
    parts = [import_module(f"{package.__name__}.{each.name}") for each in iter_modules(package.__path__)]
    found: dict[str, Api] = {}
    for part in parts:
        if hasattr(part, "NAME"):
            if not isinstance(part, Api):
                raise TypeError(f"{part.__name__} has a NAME, and lacks something else that an Api has")
            found[part.NAME] = part
    return dict(sorted(found.items(), key=lambda item: -len(item[1].PREFIX)))


def fitting(path: str) -> Api:
    """The API that *path* belongs to, or else the one whose paths begin most like it."""
    for api in apis().values():
        if path.startswith(api.PREFIX):
            return api
    return max(apis().values(), key=lambda api: len(commonpath([api.PREFIX, f"/{path}"])))
