"""The README is true: every block of it runs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from readme import BLOCKS, NOTEBOOK, PROGRAMS, PYTHON, README, WORKERS

from navtalk_async.cli.app import navtalk

CI = Path(__file__).parent.parent.joinpath(".ci", "run").read_text(encoding="utf-8")
TRANSCRIPTS = [block for language, block in BLOCKS if language == "console"]


def run(*command, folder):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("block", PROGRAMS)
def test_a_python_block_runs_as_it_stands(block, tmp_path):
    ended = run(sys.executable, "-W", "error", "-c", block, folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.usefixtures("navtalk_environment")
@pytest.mark.parametrize("notebook", NOTEBOOK)
async def test_the_cells_of_a_notebook_run_in_a_loop_that_runs(notebook):
    names = {}
    for cell in notebook.split("# %%")[1:]:
        # As IPython runs a cell.
        code = compile(f"#{cell}", "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (running := eval(code, names)) is not None:
            await running
    assert len(names["page"].items) == 20
    assert names["rows"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The programs of the README, each in a file."""
    folder = tmp_path_factory.mktemp("readme")
    named = {f"block_{number}": block for number, block in enumerate(PROGRAMS)}
    for name, block in (named | WORKERS).items():
        (folder / f"{name}.py").write_text(block, encoding="utf-8")
    return folder


def test_the_programs_import_from_the_face_alone(programs):
    text = "".join(each.read_text(encoding="utf-8") for each in programs.iterdir())
    modules = set(re.findall(r"^\s*(?:from|import) (navtalk_async[\w.]*)", text, re.MULTILINE))
    face = {"navtalk_async", "navtalk_async.errors", "navtalk_async.events", "navtalk_async.sandbox"}
    assert modules <= face | {"navtalk_async.tracing"}


@pytest.mark.slow
def test_the_programs_pass_mypy_strict(programs):
    # asyncpg has no types.
    strict = ["--strict", "--disable-error-code", "import-untyped"]
    ended = run(sys.executable, "-m", "mypy", *strict, *sorted(programs.iterdir()), folder=programs)
    assert ended.returncode == 0, ended.stdout


def test_the_programs_pass_pyright_strict(programs):
    # asyncpg has no types.
    settings = '{"typeCheckingMode": "strict", "ignore": ["into_postgres.py"]}'
    (programs / "pyrightconfig.json").write_text(settings, encoding="utf-8")
    ended = run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, folder=programs)
    assert ended.returncode == 0, ended.stdout


def test_the_block_for_your_tests_passes(tmp_path):
    [block] = [each for each in PYTHON if "test_yours.py" in each]
    (tmp_path / "test_yours.py").write_text(block, encoding="utf-8")
    options = ["-p", "navtalk_async.testing", "-o", "asyncio_mode=strict"]
    ended = run(sys.executable, "-m", "pytest", "-q", *options, folder=tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


def steps(transcript):
    """The commands of a transcript, each with what it printed."""
    for part in transcript.split("$ ")[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
def test_a_transcript_shows_what_the_commands_print(transcript, tmp_path):
    for command, printed in steps(transcript):
        ended = run("sh", "-c", f"{command} 2>&1", folder=tmp_path)
        assert ended.returncode == 0, ended.stdout
        # Only the time it took may differ, and how many pages a database needs.
        varying = r"in [\d.]+ s|files of [\d.]+ MB"
        assert re.sub(varying, "…", ended.stdout) == re.sub(varying, "…", printed)


def test_the_shell_blocks_are_the_two_commands_that_ci_runs():
    shell = [block for language, block in BLOCKS if language == "shell"]
    named = re.findall(r"<!-- (command: \w+) -->\n```shell\n", README)
    assert len(shell) == len(named) == 2
    assert all(f"readme '{name}'" in CI for name in named)


def test_every_command_appears(tmp_path):
    ended = run("navtalk", "--help", folder=tmp_path)
    commands = re.findall(r"^  ([a-z]+)  ", ended.stdout.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        assert re.search(rf"`navtalk {command}\b|`{command} ", README), command


def test_every_option_stands_in_it():
    commands = [navtalk.get_command(None, name) for name in navtalk.list_commands(None)]
    options = {
        option for each in commands for given in each.params for option in given.opts if option[:2] == "--"
    }
    assert sorted(each for each in options if f"`{each}" not in README) == []
