"""Type checkers know the filters that a pool takes and the records that it returns."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "support" / "typed_pool.py"


@pytest.mark.slow
def test_mypy_reports_an_error_on_exactly_the_marked_lines(tmp_path):
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", CASES]
    # Elsewhere than the source, so that the installed package is looked at.
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    reported = re.findall(r":(\d+): error: .*\[([\w-]+)\]$", answer, re.MULTILINE)
    lines = enumerate(CASES.read_text().splitlines(), start=1)
    marked = [(str(number), line.partition("# error: ")[2]) for number, line in lines if "# error: " in line]
    assert reported == marked
