"""The command finds key and address in the environment, and no vendor gets another's key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.cli._settings import given_address, key_variable
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
