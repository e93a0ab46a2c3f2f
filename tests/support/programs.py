"""Programs that Debian has and Python's registry has not: `.ci/run` installs them."""

import os
import shutil

import pytest


def program(name, *others, package=None):
    """The path of a program of one of these names; a test without it is skipped, but fails in CI. By default,
    the *package* that has it has its first name.
    """
    found = next(filter(None, map(shutil.which, (name, *others))), None)
    if found is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"There is no {name} here: apt-get install {package or name}.")
    return found
