"""The sandbox as pytest fixtures, where pytest or pytest-asyncio is missing."""

import subprocess
import sys

import pytest


@pytest.mark.subprocess
@pytest.mark.parametrize("module", ["pytest_asyncio", "pytest"])
def test_importing_the_fixtures_without_pytest_says_what_to_install(module):
    program = f"import sys; sys.modules[{module!r}] = None; import navtalk_async.testing"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: navtalk_async.testing needs {module}, which is not installed: "
        "pip install pytest-asyncio"
    )
