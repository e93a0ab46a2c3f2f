"""The blocks of the README."""

import re
from pathlib import Path

README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
PYTHON = [block for language, block in BLOCKS if language == "python"]
WORKERS = {match[1]: block for block in PYTHON if (match := re.match(r"# (into_\w+)\.py", block))}
"""Programs that go on until they are stopped, by their names."""
RECEIVERS = {match[1]: block for block in PYTHON if (match := re.match(r"# (on_\w+)\.py", block))}
"""Web apps, by the names of their modules."""
APPS = {match[1]: block for block in PYTHON if (match := re.match(r"# (app_\w+)\.py", block))}
"""Web apps that ask the API for a browser."""
PATIENT_APPS = {name: block.replace("timeout=5.0", "timeout=300.0") for name, block in APPS.items()}
"""The same for a machine that is much slower, or has much else to do."""
PROGRAMS = [block for block in PYTHON if "asyncio.run" in block and block not in WORKERS.values()]
NOTEBOOK = [block for block in PYTHON if block.startswith("# %%")]
"""Cells, each of which begins with `# %%`."""


def recipe(language, first_line=""):
    """The one block in *language* that begins with *first_line*, without that."""
    [found] = [text for name, text in BLOCKS if name == language and text.startswith(first_line)]
    return found.removeprefix(first_line).lstrip()
