"""One API more is a package of its own with a dialect and a sandbox, registered by entry points."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
FIFTH = SUPPORT / "fifth"
LAWS = (
    "whatever_the_server_answers or walked_wide or refusal or stopped_at or after_every or a_file_has "
    "or exports_verifies"
)
ENTRY_POINTS = """
[navtalk_async.dialects]
fifth = fifth_dialect:Fifth

[navtalk_async.sandbox]
fifth = fifth_sandbox:FifthApi
"""


@pytest.mark.slow
async def test_an_api_of_another_package_obeys_the_laws(tmp_path):
    metadata = tmp_path / "fifth-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fifth\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    path = [str(tmp_path), str(SUPPORT), str(FIFTH), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "fifth_row", "-p", "no:cacheprovider"),
        *(str(HERE / "test_laws.py"), str(HERE / "test_laws_kept.py"), "-k", f"fifth and ({LAWS})"),
        cwd=tmp_path,
        env={"HYPOTHESIS_PROFILE": "quick", **os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await run.communicate()
    assert run.returncode == 0, out.decode()
    assert " passed" in out.decode()
    assert "skipped" not in out.decode()


def test_the_dialect_and_the_sandbox_of_an_api_are_small():
    files = [FIFTH / "fifth_dialect.py", FIFTH / "fifth_sandbox.py"]
    assert sum(len(file.read_text().splitlines()) for file in files) <= 90
