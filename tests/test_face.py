"""The public face is written down in face.txt, so that a break is seen; and all of it is documented.

`python tests/test_face.py` writes face.txt anew; what changed in it belongs into CHANGELOG.md.
"""

import enum
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_origin

import pytest

FACE = Path(__file__).with_name("face.txt")
MODULES = (
    *("navtalk_async", "navtalk_async.errors", "navtalk_async.events"),
    *("navtalk_async.sandbox", "navtalk_async.testing"),
    *("navtalk_async.metrics", "navtalk_async.tracing"),
)


def public_names():
    for module in MODULES:
        loaded = importlib.import_module(module)
        for name in sorted(loaded.__all__):
            yield f"{module}.{name}", getattr(loaded, name)


def members(owner):
    """The public members that a class adds to its public bases."""
    bases = {value for _, value in public_names() if isinstance(value, type)} - {owner}
    for name in sorted(dir(owner)):
        home = next((each for each in owner.__mro__ if name in vars(each)), owner)
        if not name.startswith("_") and home not in bases and home.__module__.startswith("navtalk_async"):
            yield name, vars(home).get(name)


def line_of(name, value):
    is_alias = get_origin(value) is not None
    if is_alias or isinstance(value, (property, type)) or not callable(getattr(value, "__func__", value)):
        return name
    signature = inspect.signature(getattr(value, "__func__", value))
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return name + re.sub(r" at 0x[0-9a-f]+", "", text)


def face():
    for name, value in public_names():
        if isinstance(value, type) and not issubclass(value, enum.Enum):
            yield name
            yield from (f"{name}.{line_of(each, member)}" for each, member in members(value))
        else:
            yield line_of(name, value)


def test_the_face_is_what_is_written_down():
    recorded = FACE.read_text(encoding="utf-8").splitlines()
    assert list(face()) == recorded, (
        "A public name changed: python tests/test_face.py, and CHANGELOG.md says so."
    )


@pytest.mark.parametrize("name", [name for name, _ in public_names()])
def test_a_public_name_is_documented(name):
    value = dict(public_names())[name]
    if get_origin(value) is not None or not (isinstance(value, type) or callable(value)):
        return
    assert inspect.getdoc(value), name
    if isinstance(value, type):
        undocumented = [
            each
            for each, member in members(value)
            if (callable(member) or isinstance(member, property)) and not inspect.getdoc(getattr(value, each))
        ]
        assert undocumented == []


def test_importing_the_package_loads_no_room_and_no_aiohttp():
    program = (
        "import sys, navtalk_async; print([name for name in sys.modules if name.startswith(('aio', 'nav'))])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "['navtalk_async']\n"


if __name__ == "__main__":
    FACE.write_text("\n".join(face()) + "\n", encoding="utf-8")
