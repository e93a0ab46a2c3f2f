"""The plugin of pytest: in every mode of the plugins that run asynchronous tests, and as it is installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = {"anyio", "asyncio", "navtalk_async.testing", "xdist"}
USERS_TESTS = ROOT / "tests" / "support" / "users_tests.py"
PLUGIN = ("-p", "navtalk_async.testing")
# Other plugins take longer to load than the tests take.
LEFT_OUT = [f"-pno:{each.name}" for each in entry_points(group="pytest11") if each.name not in NEEDED]
TEN_LINES = """
import pytest

@pytest.mark.asyncio
async def test_the_server_has_a_bad_day(navtalk_sandbox, navtalk_client):
    navtalk_sandbox.fail_next("500", times=2)
    page = await navtalk_client.sessions.list(limit=10)
    assert len(page.items) == 10
    assert [each.kind for each in navtalk_sandbox.counts.asked] == ["sessions"] * 3
"""


def run_pytest(folder, *options, python=sys.executable, env=os.environ):
    """What pytest prints at its end, and all that it prints; warnings are errors."""
    # pytest-asyncio warns where the scope is left to it.
    settings = ["-o", "asyncio_default_fixture_loop_scope=function", "-W", "error", *LEFT_OUT]
    command = [python, "-W", "error::ResourceWarning", "-m", "pytest", "-q", *settings, *options]
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return ended.stdout.splitlines()[-1].split(" in ")[0], ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize(
    "options",
    [
        ["-o", "asyncio_mode=strict"],
        ["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session", "-n", "1"],
    ],
    ids=["strict", "auto, loops of the session, xdist"],
)
def test_the_fixtures_work_in_each_mode(tmp_path, options):
    shutil.copy(USERS_TESTS, tmp_path / "test_theirs.py")
    summary, printed = run_pytest(tmp_path, *PLUGIN, *options)
    assert summary == "8 passed", printed


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_users_test_passes_where_only_the_wheel_is_installed(tmp_path):
    building = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(building, cwd=ROOT, capture_output=True, check=True)
    venv, tests = tmp_path / "venv", tmp_path / "tests"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / ("bin/python" if os.name == "posix" else "Scripts/python.exe")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    [wheel] = tmp_path.glob("*.whl")
    # All that pip does with a wheel of plain Python.
    zipfile.ZipFile(wheel).extractall(site)
    # What the wheel depends on, and pytest, come from here.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    tests.mkdir()
    (tests / "test_yours.py").write_text(TEN_LINES, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for mode in ("strict", "auto"):
        summary, printed = run_pytest(tests, "-o", f"asyncio_mode={mode}", python=python, env=env)
        assert summary == "1 passed", printed
    where = [python, "-c", "import navtalk_async.testing; print(navtalk_async.__file__)"]
    found = subprocess.run(where, cwd=tests, env=env, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(site))


WRONG = {
    "navtalk_sandbox(sesions=5)": "got an unexpected keyword argument 'sesions'",
    "navtalk_sandbox(faults='501=5%')": "no such fault: '501'",
    "navtalk_sandbox(5)": "@pytest.mark.navtalk_sandbox takes options by name only, not 5.",
    "navtalk_client(timeouts=5)": "NavTalkClient has no option 'timeouts'",
    "navtalk_client(timeout=0)": "timeout=0 leaves no time to ask",
}


@pytest.mark.subprocess
def test_a_wrong_option_of_a_marker_is_said(tmp_path):
    tests = [
        f"@pytest.mark.{marker}\ndef test_{number}(navtalk_client): pass\n"
        for number, marker in enumerate(WRONG)
    ]
    (tmp_path / "test_theirs.py").write_text("\n".join(["import pytest", *tests]), encoding="utf-8")
    summary, printed = run_pytest(tmp_path, *PLUGIN, "--strict-markers", "--tb=line")
    assert summary == f"{len(WRONG)} errors", printed
    for sentence in WRONG.values():
        assert sentence in printed


def python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.subprocess
def test_the_plugin_imports_nothing_of_ours_before_a_fixture_is_used():
    own = "[name for name in sys.modules if name.startswith(('navtalk', 'aio', 'asyncio.'))]"
    ended = python(f"import sys, navtalk_async.testing; print({own})")
    assert ended.stdout == "['navtalk_async', 'navtalk_async.testing']\n"


@pytest.mark.subprocess
def test_importing_the_fixtures_without_pytest_says_what_to_install():
    ended = python("import sys; sys.modules['pytest'] = None; import navtalk_async.testing")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: navtalk_async.testing needs pytest, which is not installed: pip install pytest"
    )
