"""The file of `--config`: what it sets, what it may not hold, and where the keys in it may go."""

import json
import os
from unittest import mock

import click
import pytest
import shell
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from shell import KEY

from navtalk_async.cli._config import ConfigFile, every_project
from navtalk_async.cli._show_config import secretless
from navtalk_async.cli.app import COMMANDS, navtalk
from navtalk_async.dialects import dialect_of, dialects
from navtalk_async.sandbox import Sandbox, World

ELSEWHERE = "https://theirs.example"


@pytest.fixture
def write(tmp_path):
    """Write a file of settings, and return its path."""

    def written(text, name="navtalk.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("config")


def context_of(*arguments, env=None):
    """What a command line means."""
    name, *rest = map(str, arguments)
    with mock.patch.dict(os.environ, env or {}, clear=True):
        return navtalk.get_command(None, name).make_context(name, rest, click.Context(navtalk))


def settings_of(*arguments, env=None):
    """The settings of each project."""
    context = context_of(*arguments, env=env)
    with mock.patch.dict(os.environ, env or {}, clear=True), context:
        return every_project()


def invoke(*arguments):
    """Do what a command line says, in this process; only for what is refused at once."""
    context = context_of(*arguments)
    with mock.patch.dict(os.environ, {}, clear=True), context:
        context.command.invoke(context)


VALUES = {
    "concurrency": st.sampled_from(["auto", 1, 8, "32"]),
    "rate": st.sampled_from([1, 0.5, "7"]),
    "timeout": st.integers(1, 900),
    "retry-for": st.sampled_from(["5m", 30, "0"]),
    "overlap": st.sampled_from(["24h", 90]),
    "listing": st.sampled_from(["auto", "serial"]),
    "start": st.sampled_from(["2025-11-12", "2025-11-12 18:20:38"]),
    "status": st.sampled_from(["active", 2]),
    "user": st.sampled_from(["ann", 7]),
}
FLAGS = ("reconcile", "retry-failed")


@settings(max_examples=examples(60))
@given(st.fixed_dictionaries({}, optional=VALUES), st.sets(st.sampled_from(FLAGS)), st.booleans())
def test_a_value_of_the_file_means_what_it_means_on_the_command_line(folder, values, flags, has_project):
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    lines += [f"{name} = true" for name in flags]
    path = folder / "same.toml"
    path.write_text("\n".join(["[projects.default]" if has_project else "[defaults]", *lines]))
    texts = [f"--{name}={value}" for name, value in values.items()] + [f"--{name}" for name in flags]
    by_file, by_line = context_of("sync", "a.db", "--config", path), context_of("sync", "a.db", *texts)
    assert by_file.params == by_line.params


def test_a_date_and_a_moment_of_toml_are_times(write):
    path = write("[projects.a]\nstart = 2025-11-12\nend = 2025-12-01T00:00:00+01:00\nsession = []")
    [found] = settings_of("sync", "a.db", "--config", path)
    assert (found.options["start_time"].day, found.options["end_time"].hour) == (12, 23)
    assert found.project == "a"


@given(st.sets(st.sampled_from(["line", "variable", "project", "defaults"])))
def test_the_line_goes_before_the_variable_the_project_and_the_defaults(folder, given_by):
    path = folder / "order.toml"
    project = "concurrency = 3" if "project" in given_by else ""
    defaults = "concurrency = 4" if "defaults" in given_by else ""
    path.write_text(f"[projects.a]\n{project}\n[defaults]\n{defaults}")
    line = ["--concurrency", "1"] if "line" in given_by else []
    env = {"NAVTALK_CONCURRENCY": "2"} if "variable" in given_by else {}
    order = {"line": 1, "variable": 2, "project": 3, "defaults": 4}
    expected = next((order[each] for each in order if each in given_by), "auto")
    env["NAVTALK_CONFIG"] = str(path)
    assert context_of("plan", *line, env=env).params["concurrency"] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[defaults\n", "is not TOML"),
        ("\udcff", "is not UTF-8"),
        ("[default]", "'default' is not a table of this file. Did you mean defaults?"),
        ("defaults = 3", "[defaults] is a value"),
        ("[projects]\na = 3", "[projects.a] is a value"),
        ('[projects." "]', "[projects]: ' ' is not a name"),
        (
            "[defaults]\nconcurency = 3",
            "[defaults]: 'concurency' is no option that can stand here. Did you mean",
        ),
        ("[defaults]\nkey = 'env:A'", "[defaults] key: it belongs to one project"),
        ("[defaults]\nbase-url = 'https://a'", "[defaults] base-url: it belongs to one project"),
        ("[defaults]\ndry-run = true", "'dry-run' is no option"),
        ("[projects.a]\nprogress = 'none'", "[projects.a] progress: it belongs to no project"),
        (
            f"[projects.a]\napi-key = '{KEY}'",
            "[projects.a]: 'api-key' is no option that can stand here. Did you",
        ),
        (f"[projects.a]\nkey = '{KEY}'", "[projects.a] key: say where it comes from"),
        (f"[projects.a]\nkey = 'env:{KEY}'", "[projects.a] key: say where it comes from"),
        (f"[projects.a]\nkey = ['{KEY}']", "[projects.a] key: say where it comes from"),
        ("[projects.a]\nkey = 'file:'", "[projects.a] key: say where it comes from"),
        ("[projects.a]\nrate = true", "[projects.a] rate: write a text, a number or a date"),
        ("[projects.a]\nrate = [1]", "[projects.a] rate: it takes one value"),
        ("[projects.a]\nrate = 'fast'", "[projects.a] rate: 'fast' is not a valid float"),
        ("[defaults]\nrate = 'fast'", "[defaults] rate: 'fast' is not a valid float"),
        ("[projects.a]\napi = 'slack'", "[projects.a] api: 'slack' is not one of"),
        ("[projects.a]\nreconcile = 'yes'", "[projects.a] reconcile: write true or false"),
        ("[defaults]\nverbose = true", "[defaults] verbose: write a whole number"),
        ("[projects.a]\nstart = 12:00:00", "[projects.a] start: write a text"),
        ("[projects.a]\nstart = 'soon'", "[projects.a] start: 'soon' is not a time"),
        ("[projects.a]\nsession = ['x']\nstatus = 1", "[projects.a]: --session says exactly which"),
        ("[limits]\nconcurrency = 0", "[limits] concurrency: '0' is neither auto nor"),
        (
            "[limits]\ntimeout = 1",
            "[limits]: 'timeout' is no option that can stand here. There are: concurrency, rate.",
        ),
        ("[projects.a]\n[projects.b]\nrate = 'x'", "[projects.b] rate: 'x'"),
    ],
)
def test_what_cannot_be_right_is_refused_by_file_table_and_name_and_no_key_is_repeated(tmp_path, text, words):
    path = tmp_path / "navtalk.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(click.UsageError) as refusal:
        settings_of("config", "--config", path)
    said = refusal.value.format_message()
    assert str(path) in said
    assert words in said.replace("Invalid value for ", "")
    assert KEY not in said


def test_a_file_that_is_not_there_is_refused_and_help_needs_none(tmp_path):
    with pytest.raises(click.UsageError, match="nowhere cannot be read"):
        context_of("status", __file__, "--config", tmp_path / "nowhere")
    with pytest.raises(click.exceptions.Exit):
        context_of("status", "--config", tmp_path / "nowhere", "--help")


APIS = sorted(dialects())
VARIABLES = {each: dialect_of(each).key_variable for each in APIS}
ADDRESSES = {each: dialect_of(each).base_url_variable for each in APIS}


@settings(max_examples=examples(200))
@given(
    st.sampled_from(APIS),
    st.sampled_from([None, "env:MINE", "file:key", "command:pass show key"]),
    st.sampled_from([None, "https://mine.example"]),
    st.sets(
        st.sampled_from(
            [*VARIABLES.values(), *ADDRESSES.values(), "MINE", "NAVTALK_API", "NAVTALK_API_KEY_FILE"]
        )
    ),
)
def test_the_key_of_one_vendor_is_not_sent_to_another(folder, api, key, base_url, known):
    path = folder / "keys.toml"
    lines = {"api": api, "key": key, "base-url": base_url}
    path.write_text("\n".join(["[projects.a]", *(f"{n} = {json.dumps(v)}" for n, v in lines.items() if v)]))
    env = {name: ELSEWHERE if name in ADDRESSES.values() else "kodey" for name in known}
    with mock.patch.dict(os.environ, env, clear=True):
        [found] = settings_of("sync", "a.db", "--config", path, env=env)
        url, variable = found.address.url, found.key_variable
    assert (found.api, found.api_key_file is not None) == (api, key == "file:key")
    # What the table says of the address holds; and without it, a key of the table goes to the vendor.
    if base_url or key:
        assert url == base_url
    else:
        assert url == (ELSEWHERE if ADDRESSES[api] in known else None)
    assert variable == ("MINE" if key == "env:MINE" else VARIABLES[api])


@pytest.mark.parametrize(
    "option", ["--api=kodey", "--base-url=https://a.example", "--api-key-file=f", "--api-key-command=f"]
)
def test_the_line_cannot_send_the_key_of_a_table_elsewhere(write, option):
    path = write("[projects.a]\nkey = 'env:MINE'")
    with pytest.raises(click.UsageError, match=r"\[projects.a\] says whose key it is"):
        context_of("sync", "a.db", "--config", path, option)


def test_paths_are_those_from_the_folder_of_the_file_on(write, tmp_path):
    path = write(
        "[projects.a]\nkey = 'file:keys/a'\ncacert = 'ca.pem'\n[defaults]\nstore = 'postgresql://h/d'"
    )
    [found] = settings_of("sync", "a.db", "--config", path)
    assert (found.api_key_file, found.cacert) == (tmp_path / "keys" / "a", tmp_path / "ca.pem")
    assert ConfigFile.read(path).defaults == {"store": "postgresql://h/d"}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"forget"}))
def test_every_command_takes_the_file_unless_it_erases(name):
    assert "config" in {each.name for each in navtalk.get_command(None, name).params}
    assert "config" not in {each.name for each in navtalk.get_command(None, "forget").params}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("proxy", f"http://me:{KEY}@proxy:80", "http://…@proxy:80"),
        ("base-url", f"https://{KEY}@host/path?apikey={KEY}", "https://…@host/path?…"),
        ("base-url", f"https://[{KEY}", "[not a URL]"),
        ("proxy", f"me:{KEY}@proxy:80", "[not a URL]"),
        ("store", f"postgresql://me:{KEY}@host/db", "postgresql://…@host/db"),
        ("user", "ann@example.com", "ann@example.com"),
    ],
)
def test_no_password_of_a_url_is_shown(name, value, shown):
    assert secretless(name, value) == shown


@pytest.fixture
async def several(write):
    """A file with a good project, one without a key, and one whose server is away."""
    async with Sandbox(World(5, messages=2)) as box:
        good = f'[projects.good]\nbase-url = "{box.navtalk_url}"\nkey = "env:GOOD_KEY"\n'
        keyless = '[projects.keyless]\napi = "kodey"\nkey = "file:nowhere"\n'
        away = '[projects.away]\nbase-url = "http://127.0.0.1:9"\nkey = "command:echo any"\n'
        yield write(f"[defaults]\nlimit = 2\n{good}{keyless}{away}")


ENV = {"GOOD_KEY": KEY, "NAVTALK_API_KEY": None}


async def test_a_command_asks_the_project_that_is_chosen(several):
    for chosen, words in (
        ((), "has 3 projects: good, keyless, away. Choose one"),
        (("god",), "Did you mean good?"),
    ):
        options = [f"--project={each}" for each in chosen]
        with pytest.raises(click.UsageError, match=words):
            invoke("sessions", "--config", several, *options)
    env = {**ENV, "NAVTALK_CONFIG": str(several)}
    assert len((await shell.navtalk("sessions", "--project", "good", "--json", env=env)).rows) == 2


async def test_doctor_checks_every_project_and_goes_on_after_a_bad_one(several):
    done = await shell.navtalk("doctor", "--config", several, "--json", env=ENV)
    checks = {(each["project"], each["name"]): each for each in done.rows[0]["checks"]}
    assert checks["good", "listing"]["verdict"] == "ok"
    assert checks["keyless", "key"]["code"] == 2
    assert str(several.parent / "nowhere") in checks["keyless", "key"]["said"]
    assert checks["away", "connection"]["code"] == 5
    assert done.code == 2
    [one] = settings_of("doctor", "--config", several, "--project", "good")
    assert one.table.project == "good"


async def test_config_shows_what_is_in_force_and_no_secret(several):
    env = {**ENV, "NAVTALK_PROXY": f"http://me:{KEY}@p.example"}
    shown = await shell.navtalk("config", "--config", several, "--rate", "5", env=env)
    assert shown.code == 0
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["rate", "5.0", "the", "command", "line"] in rows
    assert ["key", "the", "output", "of", "echo", str(several), "[projects.away]"] in rows
    assert ["proxy", "http://…@p.example", "the", "environment"] in rows
    assert ["limit", "2", str(several), "[defaults]"] in rows
    [found] = (await shell.navtalk("config", "--config", several, "--json", env=ENV)).rows
    assert [each["project"] for each in found["projects"]] == ["good", "keyless", "away"]
    assert found["projects"][1]["settings"]["api"] == {
        "value": "kodey",
        "from": f"{several} [projects.keyless]",
    }
    assert found["projects"][0]["settings"]["overlap"] == {"value": "86400s", "from": "default"}
    with pytest.raises(click.UsageError, match="Give --config FILE"):
        invoke("config")


async def test_all_projects_are_synced_in_one_run_and_a_bad_one_stops_no_other(several, tmp_path):
    with several.open("a") as file:
        file.write("retry-for = 0\n[limits]\nconcurrency = 4\nrate = 500\n")
    arguments = ("sync", tmp_path / "a.db", "--config", several)
    done = await shell.navtalk(*arguments, "--json", "--progress", "json", env=ENV)
    [found] = done.rows
    assert (done.code, found["exit_code"], found["complete"]) == (3, 3, False)
    assert [each["exit_code"] for each in found["projects"]] == [0, 2, 5]
    assert [each["run"] and each["run"]["inserted"] for each in found["projects"]] == [5, None, 0]
    shown = [json.loads(line) for line in done.err.splitlines()]
    assert {each["project"] for each in shown if each["event"] == "project"} == {"good", "away"}
    again = await shell.navtalk(*arguments, "--progress", "plain", env=ENV)
    assert (again.code, again.out) == (3, "")
    assert "navtalk: good: no changes; fetched" in again.err
    assert "navtalk: away failed: ConnectFailed: " in again.err
    assert "navtalk: keyless is left out: " in again.err
    assert "1 of 3 projects brought up to date." in again.err
    assert [each.project for each in settings_of(*arguments, "--project", "good")] == ["good"]


async def test_an_export_writes_the_files_of_all_projects_and_verifies(write, tmp_path):
    async with Sandbox(World(5, messages=2)) as box:
        url = f'key = "env:GOOD_KEY"\nbase-url = "{box.navtalk_url}"\n'
        path = write(
            f"[projects.a]\n{url}[projects.b]\n{url}status = 2\n[defaults]\nformat = ['jsonl', 'csv']"
        )
        done = await shell.navtalk("export", tmp_path / "out", "--config", path, "--json", env=ENV)
        [found] = done.rows
        assert (done.code, found["complete"], found["command"]) == (0, True, "export")
        names = {each["name"] for each in found["files"]}
        assert {"transcripts.jsonl", "transcripts.b.jsonl", "messages.b.csv"} <= names
        assert (tmp_path / "out" / "transcripts.jsonl").read_text().count("\n") == 5
    assert (await shell.navtalk("verify", tmp_path / "out")).code == 0


async def test_projects_that_all_have_their_keys_refused_end_with_4_and_those_of_a_key_share_its_limit(
    write, tmp_path
):
    async with Sandbox(World(5), keys={"another"}) as box:
        url = f'base-url = "{box.navtalk_url}"\nkey = "env:GOOD_KEY"\n'
        path = write(f"[projects.a]\n{url}[projects.b]\n{url}")
        refused = await shell.navtalk("sync", tmp_path / "a.db", "--config", path, env=ENV)
        assert (refused.code, "0 of 2 projects" in refused.err) == (4, True)
        path = write(f"[projects.a]\n{url}[projects.b]\n{url}rate = 5")
        before = box.counts.total
        two = await shell.navtalk("sync", tmp_path / "a.db", "--config", path, env=ENV)
        assert (two.code, box.counts.total) == (2, before)
        assert "[projects.b] rate: a has the same server and key, and another rate" in two.err


async def test_plan_plans_every_project_and_what_takes_one_asks_which(several, tmp_path):
    planned = await shell.navtalk("plan", "--config", several, "--json", env=ENV)
    assert [(each["project"], each["listed"]["sessions"]) for each in planned.rows] == [("good", 5)]
    assert planned.code == 3
    for arguments in (("export", tmp_path / "out", "--media"), ("sync", tmp_path / "a.db", "--watch", "60s")):
        with pytest.raises(click.UsageError, match="Choose one with --project NAME"):
            invoke(*arguments, "--config", several)
