"""Programs that Debian has and Python's registry has not: `.ci/run` installs them."""

import os
import shutil

import pytest


def program(package, *others):
    """The path of a program of one of these names; a test without it is skipped, but fails in CI."""
    found = next(filter(None, map(shutil.which, (package, *others))), None)
    if found is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"There is no {package} here: apt-get install {package}.")
    return found
