"""Type checkers know the options and filters that calls take, and the records that a pool returns."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "support" / "typed_pool.py"


def marked():
    """The code of the error that is marked on each line."""
    lines = enumerate(CASES.read_text(encoding="utf-8").splitlines(), start=1)
    return {number: line.partition("# error: ")[2] for number, line in lines if "# error: " in line}


@pytest.mark.slow
def test_mypy_reports_an_error_on_exactly_the_marked_lines(tmp_path):
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", CASES]
    # Elsewhere than the source, so that the installed package is looked at.
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    reported = re.findall(r":(\d+): error: .*\[([\w-]+)\]$", answer, re.MULTILINE)
    assert reported == [(str(number), code) for number, code in marked().items()]


@pytest.mark.slow
def test_pyright_reports_an_error_on_the_same_lines(tmp_path):
    (tmp_path / CASES.name).write_text(CASES.read_text(encoding="utf-8"), encoding="utf-8")
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(CASES.parents[2])]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    found = json.loads(answer)["generalDiagnostics"]
    assert {each["range"]["start"]["line"] + 1 for each in found} == marked().keys(), answer
