"""The README's recipes for a server do what they say; only the places of files are the tests' own."""

import asyncio
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from command_runs import command_runner
from postgres_box import postgres_programs, run_sql
from programs import program
from readme import recipe
from shell import KEY, environment, result_of, start_command

from navtalk_async import Archive, NavTalkClient, sync
from navtalk_async.archive.records import ProjectCounts
from navtalk_async.events import Stats
from navtalk_async.ingest import RoundResult, RunReport
from navtalk_async.metrics import Metrics
from navtalk_async.sandbox import Sandbox, World

ROOT = Path(__file__).parents[1]


@pytest.fixture
def placed(tmp_path):
    """A recipe with its places in a folder of the test's own."""
    for name in ("var", "backups", "etc"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc" / "key").write_text(KEY)
    (tmp_path / "etc" / "key").chmod(0o400)
    places = {
        "/opt/navtalk/bin": Path(sys.executable).parent,
        "/var/lib/navtalk": tmp_path / "var",
        "/var/backups/navtalk": tmp_path / "backups",
        "/etc/navtalk": tmp_path / "etc",
    }

    def place(text):
        for place, own in places.items():
            text = text.replace(place, str(own))
        return text

    return place


async def sh(command, box=None, **env):
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", command),
        env=environment(box, env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return await result_of(process)


async def synced(box, place):
    async with NavTalkClient(KEY, base_url=box.navtalk_url) as nt, Archive.open(place) as archive:
        await sync(nt, archive)


async def sessions(place):
    async with Archive.open(place, read_only=True) as archive:
        return {each.session.id async for each in archive.transcripts()}


# cron -----------------------------------------------------------------------------------------------------


async def test_cron_mails_failures_but_not_that_an_earlier_run_goes_on(placed, tmp_path):
    line = recipe("crontab")
    command = re.fullmatch(r"(?:\S+ ){5}(.*)\n", line)[1]
    assert "%" not in command  # which cron takes for the end of a line
    command, log, archive = placed(command), tmp_path / "var" / "sync.log", tmp_path / "var" / "archive.db"
    async with Sandbox(World(5, messages=1)) as box:
        assert await sh(command, box, NAVTALK_API_KEY=None) == (0, "", "")
        assert "5 new" in log.read_text()
        async with Archive.open(archive):
            assert await sh(command, box, NAVTALK_API_KEY=None) == (0, "", "")
        assert "Another run is writing" in log.read_text()
        box.keys = {}
        refused = await sh(command, box, NAVTALK_API_KEY=None)
    assert refused.out == f"navtalk sync failed: see {log}\n"
    assert len(re.findall(r"^\d{4}-\d\d-\d\dT", log.read_text(), re.MULTILINE)) == 3


# systemd --------------------------------------------------------------------------------------------------

UNITS = ("navtalk.service", "navtalk-nightly.service", "navtalk-nightly.timer")


@pytest.mark.program
def test_systemd_finds_nothing_wrong_with_the_units(placed, tmp_path):
    script = tmp_path / "backup.sh"
    script.write_text(recipe("sh", "# /opt/navtalk/backup.sh\n"))
    for name in UNITS:
        unit = placed(recipe("ini", f"# /etc/systemd/system/{name}\n"))
        (tmp_path / name).write_text(unit.replace("/opt/navtalk/backup.sh", str(script)))
    verify = [program("systemd-analyze", package="systemd"), "verify", "--man=no"]
    units = [tmp_path / each for each in UNITS]
    done = subprocess.run([*verify, *units], capture_output=True, text=True, check=False)
    # It says the same of other units of the machine.
    said = [line for line in done.stderr.splitlines() if "navtalk" in line or str(tmp_path) in line]
    assert (done.returncode, said) == (0, []), done.stderr


# Backups --------------------------------------------------------------------------------------------------


@pytest.fixture
async def syncing():
    """A worker in the middle of its first round, and the server that it asks: `await begin(place)`."""
    async with Sandbox(World(60, messages=1), latency=0.02) as box:
        workers = []

        async def begin(place):
            started = start_command("sync", place, "--watch", "10ms", "--concurrency", "2", box=box)
            workers.append(started)
            worker = await started.__aenter__()
            await box.arrived(40)
            return box, worker

        yield begin
        for each in workers:
            await each.__aexit__(None, None, None)


async def test_a_backup_beside_a_worker_is_whole_and_a_sync_goes_on_from_it(placed, tmp_path, syncing):
    archive, backup = tmp_path / "var" / "archive.db", tmp_path / "backups" / "archive.db"
    script = placed(recipe("sh", "# /opt/navtalk/backup.sh\n"))
    backup.write_bytes(b"the last one")
    box, worker = await syncing(archive)
    done = await sh(script)
    assert (done.code, "nothing is wrong" in done.err) == (0, True), done
    assert worker.returncode is None
    assert [each.name for each in backup.parent.iterdir()] == ["archive.db"]
    assert backup.stat().st_mode & 0o777 == 0o600
    there = await sessions(backup)
    assert there <= {each["id"] for each in box.world.sessions}
    box.latency = 0
    await synced(box, backup)
    assert await sessions(backup) == {each["id"] for each in box.world.sessions}


async def test_a_damaged_backup_does_not_take_the_place_of_the_last_one(placed, tmp_path):
    archive, backup = tmp_path / "var" / "archive.db", tmp_path / "backups" / "archive.db"
    script = placed(recipe("sh", "# /opt/navtalk/backup.sh\n"))
    async with Sandbox(World(5, messages=2)) as box:
        await synced(box, archive)
    backup.write_bytes(b"the last one")
    with closing(sqlite3.connect(archive)) as db, db:
        db.execute("UPDATE messages SET content = 'damaged'")
    assert (await sh(script)).code == 6
    assert backup.read_bytes() == b"the last one"


async def test_a_backup_of_postgres_beside_a_worker_is_whole(placed, tmp_path, syncing, postgres):
    await run_sql(postgres, "CREATE DATABASE chats")
    host = postgres.rpartition("host=")[2]
    commands = placed(recipe("sh", "# a backup of a database, restored into another one and checked there\n"))
    commands = commands.replace("chats@db.example", "postgres@")
    _, worker = await syncing(f"postgresql://postgres@/chats?host={host}")
    path = f"{postgres_programs() / 'bin'}:{os.environ['PATH']}"
    done = await sh(f"set -e; cd {tmp_path}\n{commands}", PGHOST=host, PATH=path)
    assert (done.code, "nothing is wrong" in done.err) == (0, True), done
    assert worker.returncode is None


# Docker ---------------------------------------------------------------------------------------------------


def dockerfile():
    """The instructions of the Dockerfile, each with its arguments."""
    lines = [line.partition(" ") for line in recipe("dockerfile").splitlines()]
    return [(name, text) for name, _, text in lines]


def given(name):
    [found] = [text for each, text in dockerfile() if each == name]
    return found


def test_the_dockerfile_names_what_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = [each for name, text in dockerfile() if name == "COPY" for each in text.split()[:-1]]
    assert all((ROOT / each).exists() for each in copied)
    wanted = [project["project"]["readme"], *project["project"]["license-files"]]
    wanted += project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {"pyproject.toml", *wanted} == set(copied)
    extras = re.search(r"/src\[(.*?)\]", given("RUN"))[1].split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    [entry] = json.loads(given("ENTRYPOINT"))
    assert entry in project["project"]["scripts"]
    assert f"useradd --uid {given('USER')} " in given("RUN")
    assert json.loads(given("CMD"))[1].startswith(given("VOLUME") + "/")
    assert given("EXPOSE") in json.loads(given("CMD"))


# Both -----------------------------------------------------------------------------------------------------


@pytest.fixture
def volume():
    """A folder where another user may write."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


async def test_workers_run_as_nobody_are_healthy_and_stop_on_sigterm(volume, placed, tmp_path):
    key = volume / "key"
    key.write_text(KEY)
    places = {"/data/archive.db": volume / "archive.db", "/run/secrets/navtalk": key, "9108": "0"}
    contained = [str(places.get(each, each)) for each in json.loads(given("CMD"))]
    unit = placed(recipe("ini", "# /etc/systemd/system/navtalk.service\n"))
    _, *started = shlex.split(commands_of(unit)[0].replace("9108", "0"))
    nightly = commands_of(placed(recipe("ini", "# /etc/systemd/system/navtalk-nightly.service\n")))[-1]
    async with Sandbox(World(5, messages=1)) as box, command_runner() as commands:
        env = {"NAVTALK_BASE_URL": box.navtalk_url}
        run = await commands.begin(*contained, env=env, as_nobody=True)
        await has_said(run, "Round 1: 5 new")
        [port] = re.findall(r"Metrics: http://0\.0\.0\.0:(\d+)/", run.err)
        _, _, health = given("HEALTHCHECK").partition(" ")
        _, *python = [each.replace("9108", port) for each in json.loads(health)]
        healthy = await asyncio.create_subprocess_exec(sys.executable, *python)
        assert await healthy.wait() == 0
        assert await stopped(run) == 143
        assert await sessions(volume / "archive.db") == {each["id"] for each in box.world.sessions}
        run = await commands.begin(*started, env=env)
        await has_said(run, "Round 1: 5 new")
        assert f"SuccessExitStatus={await stopped(run)}\n" in unit
        assert (await commands.run(*shlex.split(nightly)[1:], env={})).code == 0
    assert (tmp_path / "var" / "files" / "manifest.json").exists()


async def stopped(run):
    os.kill(run.pid, signal.SIGTERM)
    return await run.ended()


def commands_of(unit):
    return re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)


async def has_said(run, text):
    """Until *run* has said *text*."""
    while text not in run.err:
        assert run.code is None, run.err
        await asyncio.sleep(0.01)


# Prometheus -----------------------------------------------------------------------------------------------


def exported():
    """The names that a worker's metrics have, with the labels and values of each."""
    metrics = Metrics(Stats, rounds=True)
    metrics.set_kept(ProjectCounts(**dict.fromkeys(ProjectCounts.__struct_fields__, 0)))
    metrics.count(RoundResult(1, RunReport(), None, 0, 0.1, 60.0))
    found = {}
    for line in metrics.text().decode().splitlines():
        if match := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'\w+="[^"]*"', match[2] or ""))
    return found


def test_the_rules_for_prometheus_ask_for_metrics_that_there_are():
    [group] = yaml.safe_load(recipe("yaml", "# navtalk.rules.yml\n"))["groups"]
    there = exported() | {"up": {'job="navtalk"'}}
    for rule in group["rules"]:
        assert {"alert", "expr", "annotations"} <= rule.keys() <= {"alert", "expr", "for", "annotations"}
        asked = re.findall(r"\b(navtalk_\w+|up)\b(?:\{(.*?)\})?", rule["expr"])
        assert asked
        for name, labels in asked:
            assert name in there, rule["alert"]
            assert set(filter(None, labels.split(","))) <= there[name], rule["alert"]
