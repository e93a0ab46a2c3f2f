"""One API more is a file among the dialects, a file in the sandbox and a row for the laws: nothing else."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import navtalk_async

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
FIFTH = SUPPORT / "fifth"
LAWS = (
    "whatever_the_server_answers or walked_wide or refusal or stopped_at or after_every or a_file_has "
    "or exports_verifies"
)


async def test_an_api_that_nobody_has_obeys_the_laws_once_it_has_two_files_and_a_row(tmp_path):
    house = tmp_path / "navtalk_async"
    shutil.copytree(Path(navtalk_async.__file__).parent, house, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FIFTH / "dialect.py", house / "dialects" / "fifth.py")
    metadata = tmp_path / "fifth-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fifth\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[navtalk_async.sandbox]\nfifth = fifth_sandbox:FifthApi\n")
    path = os.pathsep.join(map(str, (tmp_path, SUPPORT, FIFTH)))
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "fifth_row", "-p", "no:cacheprovider"),
        *(str(HERE / "test_laws.py"), "-k", f"fifth and ({LAWS})"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await run.communicate()
    assert run.returncode == 0, out.decode()
    assert " passed" in out.decode()
    assert "skipped" not in out.decode()
