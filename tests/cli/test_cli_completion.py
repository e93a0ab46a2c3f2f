"""The scripts of `navtalk completion`, in the shells themselves."""

import os
import pty
import select
import subprocess
import time

import click
import pytest
import shell
from programs import program

from navtalk_async.cli._completion import SCRIPTS, commands
from navtalk_async.cli.app import COMMANDS, navtalk

FOUND = list(commands())

# What stands before the TAB, and what may come of the last word.
CASES = {
    "sync --api ko": ["kodey"],
    "sync --api=ko": ["kodey"],
    "export --format jsonl,mark": ["jsonl,markdown"],
    "export --redact ib": ["ibans"],
    "sessions --status c": ["completed"],
    "sync --concurrency ": ["auto"],
    "verify --quic": ["--quick"],
    "exp": ["export"],
    "completion f": ["fish"],
    "sync --user ": [],
    "sync arch": ["archive of mine.db"],
    "export arch": [],
    "export fol": ["folder"],
    "doctor --cacert arch": ["archive of mine.db"],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "archive of mine.db").touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def words_of_bash(line):
    """*line* as readline divides it for a completion function."""
    return [*line.replace("=", " = ").split(), *([""] if line[-1:] in ("", " ") else [])]


def in_bash(folder, lines):
    """What the function of the script replies to each of *lines*; no program can be started meanwhile."""
    calls = [
        f"COMP_WORDS=(navtalk {' '.join(map(repr, words))}); COMP_CWORD={len(words)}; _navtalk; reply"
        for words in map(words_of_bash, lines)
    ]
    reply = 'reply() { (IFS=$"\\t"; printf "%s\\t" "${COMPREPLY[@]}"; echo); }'
    program = "\n".join([SCRIPTS["bash"](FOUND), "PATH=", reply, *calls])
    ended = subprocess.run(
        ["bash", "--norc", "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    return [sorted(filter(None, each.split("\t"))) for each in ended.stdout.splitlines()]


def test_bash_completes_each_value(folder):
    found = dict(zip(CASES, in_bash(folder, CASES), strict=True))
    assert found == CASES


def test_bash_completes_every_command_and_every_option(tmp_path):
    names, *options = in_bash(tmp_path, ["", *(f"{name} -" for name in COMMANDS)])
    assert names == sorted([*COMMANDS, "--help", "--version"])
    for name, found in zip(COMMANDS, options, strict=True):
        params = navtalk.get_command(click.Context(navtalk), name).params
        declared = [flag for each in params if isinstance(each, click.Option) for flag in each.opts]
        assert found == sorted([*declared, "-h", "--help"])


@pytest.mark.program
def test_fish_completes_each_value(folder):
    program("fish")
    (folder / "navtalk.fish").write_text(SCRIPTS["fish"](FOUND), encoding="utf-8")
    asked = "\n".join(f"complete -C 'navtalk {line}'; echo ==" for line in CASES)
    script = f"source navtalk.fish; set PATH; {asked}"
    env = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    replies = [part.split("\n") for part in ended.stdout.split("==\n")]
    found = [
        [line.split("\t")[0].rpartition("=")[2].rstrip("/") for line in each if line] for each in replies
    ]
    assert dict(zip(CASES, map(sorted, found), strict=False)) == CASES


def typed(command, setup, line, expected, folder):
    """What an interactive shell shows after *setup*, and *line* and a TAB: until it shows *expected*."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(folder)
        os.execvpe(command[0], command, {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder)})
    shown, end = "", time.monotonic() + 20
    os.write(terminal, f"{setup}; echo READY''NOW\n".encode())
    try:
        asked = False
        while expected not in shown and time.monotonic() < end:
            if select.select([terminal], [], [], 0.5)[0]:
                shown += os.read(terminal, 65536).decode(errors="replace")
            if "READYNOW" in shown and not asked:
                asked, shown = True, ""
                os.write(terminal, f"{line}\t".encode())
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    return shown


@pytest.mark.program
@pytest.mark.parametrize(
    ("command", "setup"),
    [
        (["bash", "--norc", "-i"], "source ./script"),
        (["zsh", "-f", "-i"], "autoload -U compinit; compinit -D -u; source ./script"),
    ],
    ids=["bash", "zsh"],
)
@pytest.mark.parametrize(
    ("line", "expected"), [("navtalk sync --api ko", "kodey"), ("navtalk expo", "export")]
)
def test_a_tab_completes_in_an_interactive_shell(folder, command, setup, line, expected):
    program(command[0])
    (folder / "script").write_text(SCRIPTS[command[0]](FOUND), encoding="utf-8")
    assert expected in typed(command, setup, line, expected, folder)


async def test_the_command_prints_the_script():
    assert (await shell.navtalk("completion", "fish")) == (0, SCRIPTS["fish"](FOUND), "")
