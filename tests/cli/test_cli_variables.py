"""The command finds key, address and options in the environment, and no vendor gets another's key."""

import click
import pytest
import shell
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.cli._settings import given_address, key_variable
from navtalk_async.cli.app import COMMANDS, navtalk
from navtalk_async.dialects import dialect_of, dialects

SHARED = {"NAVTALK_API_KEY": "their key", "NAVTALK_BASE_URL": "https://theirs.example"}
SISTERS = sorted(dialects().keys() - {"navtalk"})
HERE = "http://127.0.0.1:8765"


def found(api, env, *, base_url=None, has_key=False):
    """The address, and the variable that the key is looked for in."""
    dialect = dialect_of(api)
    address = given_address(dialect, base_url, env, has_key=has_key)
    return address.url, key_variable(dialect, address, env)


@pytest.mark.parametrize("api", sorted(dialects()))
def test_each_api_has_variables_of_its_own(api):
    dialect = dialect_of(api)
    env = {**SHARED, dialect.key_variable: "ours", dialect.base_url_variable: "https://ours.example"}
    assert found(api, env) == ("https://ours.example", dialect.key_variable)
    assert found(api, env, base_url="https://given.example") == (
        "https://given.example",
        dialect.key_variable,
    )


@pytest.mark.parametrize("api", SISTERS)
def test_the_commands_variables_replace_them_as_a_pair_for_a_given_address_and_on_this_machine(api):
    own = dialect_of(api)
    assert found(api, SHARED) == (SHARED["NAVTALK_BASE_URL"], "NAVTALK_API_KEY")
    key = {"NAVTALK_API_KEY": "their key"}
    assert found(api, key, base_url=HERE) == (HERE, "NAVTALK_API_KEY")
    assert found(api, key | {own.base_url_variable: HERE}) == (HERE, "NAVTALK_API_KEY")
    assert found(api, {own.key_variable: "ours", "NAVTALK_BASE_URL": HERE}) == (HERE, own.key_variable)


@given(
    st.sampled_from(SISTERS),
    st.sets(st.sampled_from(["NAVTALK_API_KEY", "NAVTALK_BASE_URL", "own key", "own address"])),
    st.booleans(),
)
def test_no_vendor_gets_the_key_of_another(api, known, has_key):
    own = dialect_of(api)
    names = {"own key": own.key_variable, "own address": own.base_url_variable}
    env = {names.get(each, each): f"https://{each.partition(' ')[0].lower()}.example" for each in known}
    url, variable = found(api, env, has_key=has_key)
    is_theirs = url == env.get("NAVTALK_BASE_URL", "none")
    sends_ours = has_key or variable != "NAVTALK_API_KEY"
    assert not (is_theirs and sends_ours and (has_key or own.key_variable in env))
    assert not (not is_theirs and variable == "NAVTALK_API_KEY" and not has_key)


def options_of(name):
    params = navtalk.get_command(click.Context(navtalk), name).params
    options = [each for each in params if isinstance(each, click.Option) and each.name != "only_project"]
    return {each.opts[-1]: each.envvar for each in options}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_the_variable_of_its_name_unless_it_erases(name):
    for flag, variable in options_of(name).items():
        has_own_rules = name == "forget" or flag in {"--base-url", "--drop"}
        assert variable == (None if has_own_rules else f"NAVTALK_{flag[2:].replace('-', '_').upper()}")


async def test_variables_set_options_and_the_command_line_goes_before_them():
    env = {"NAVTALK_SANDBOX": "1", "NAVTALK_JSON": "1", "NAVTALK_LIMIT": "3", "NAVTALK_CACERT": "/nowhere"}
    assert len((await shell.navtalk("sessions", env=env)).rows) == 3
    assert len((await shell.navtalk("sessions", "--limit", "2", env=env)).rows) == 2


async def test_a_wrong_variable_is_named_and_those_of_kubernetes_are_none():
    wrong = await shell.navtalk("sessions", env={"NAVTALK_LIMIT": "few"})
    assert (wrong.code, wrong.out) == (2, "")
    assert "Invalid value for NAVTALK_LIMIT: 'few'" in wrong.err
    service = {"NAVTALK_PORT": "tcp://10.0.0.1:80", "NAVTALK_SEED": "x"}
    assert "NAVTALK_SEED" in (await shell.navtalk("sandbox", env=service)).err


async def test_quiet_leaves_the_exit_code_stdout_and_errors(tmp_path):
    loud = await shell.navtalk("export", tmp_path / "loud", "--sandbox", "--json")
    quiet = await shell.navtalk("export", tmp_path / "quiet", "--sandbox", "--json", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
    assert loud.err
    assert quiet.rows[0].keys() == loud.rows[0].keys()
    variables = {"NAVTALK_CONCURRENCY": "2"}
    again = await shell.navtalk(
        "export", tmp_path / "tables", "--from", tmp_path / "quiet", "-q", env=variables
    )
    assert (again.code, again.out, again.err) == (0, "", "")
    refused = await shell.navtalk("status", tmp_path / "nothing", "-q")
    assert (refused.code, refused.out) == (2, "")
    assert "There is nothing at" in refused.err
