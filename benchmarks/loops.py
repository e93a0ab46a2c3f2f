"""Event loops by name: uvloop where it is installed, and asyncio's own."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    from uvloop import run as run_on_uvloop
except ImportError:
    run_on_uvloop = asyncio.run

T = TypeVar("T")


def run_on(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """What *main* returns, run on the event *loop* of that name."""
    return run_on_uvloop(main) if loop == "uvloop" else asyncio.run(main)
