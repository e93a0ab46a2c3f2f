"""The examples in docstrings run as they stand, against the sandbox, until they print something."""

import ast
import re
import textwrap
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

import navtalk_async
from navtalk_async import Archive, sync
from navtalk_async.dialects import dialect_of, llamacloud
from navtalk_async.sandbox import World

PACKAGE = Path(navtalk_async.__file__).parent
BLOCK = re.compile(r"^\n((?: {4,}.*\n)(?:(?: {4,}.*)?\n)*)", re.MULTILINE)
OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LEXICON = "https://lexicon.example.com"


def wrapped(block):
    # It may set its `token`, which is one of the names.
    return f"async def example():\n    global token\n{textwrap.indent(block, '    ')}"


def is_python(block):
    try:
        ast.parse(wrapped(block))
    except SyntaxError:
        return False
    return True


def examples():
    """The indented blocks of docstrings that are Python, by where they stand."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, OWNERS):
                module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
                where = f"{module}.{getattr(node, 'name', 'module')}"
                for found in BLOCK.finditer(f"{ast.get_docstring(node) or ''}\n"):
                    if is_python(block := textwrap.dedent(found[1])):
                        yield pytest.param((module, block), id=where)


EXAMPLES = list(examples())


class Printed(Exception):
    """An example has come as far as it shows."""


def printing(*values):
    raise Printed(*values)


async def store(changes):
    raise Printed(changes)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_examples():
    assert len(EXAMPLES) > 10


def world():
    """What the examples ask for."""
    made = World(60)
    for session, user in zip(made.sessions, ("ann", "u1"), strict=False):
        made.note(session["id"], user=user)
        made.add_message(session["id"], "A refund, by card")
    return made


@pytest.mark.navtalk_sandbox(world=world)
@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_runs(example, folder, navtalk_environment, navtalk_client, llamacloud_client):
    module, block = example
    face = {name: getattr(navtalk_async, name) for name in navtalk_async.__all__}
    async with Archive.open(folder / "archive.db") as archive:
        await sync(navtalk_client, archive)
        names = {
            **vars(import_module(module.removesuffix(".__init__"))),
            **face,
            "archive": archive,
            "dialect_of": dialect_of,
            "event": llamacloud.Text(content="Hello"),
            "key": "any",
            "llama": llamacloud_client,
            "nt": navtalk_client,
            "print": printing,
            # Not the registry of the process, to which other tests might add the same.
            "prometheus_client": SimpleNamespace(REGISTRY=CollectorRegistry()),
            "session": await llamacloud_client.sessions.list().first(),
            "since": datetime(2025, 11, 1, tzinfo=UTC),
            "store": store,
            "token": None,
        }
        exec(wrapped(block).replace(LEXICON, navtalk_environment.lexicon_url), names)
        shown = False
        try:
            await names["example"]()
        except Printed:
            shown = True
    assert shown == ("print(" in block or "store(" in block)
