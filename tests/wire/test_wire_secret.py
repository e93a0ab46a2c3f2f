"""A client that cannot be made, or is looked at, shows nothing of its key."""

import pickle
from contextlib import suppress
from copy import copy, deepcopy
from functools import partial
from pathlib import Path

import pytest
from key_leaks import HiddenCall, argument_error_of
from rich.pretty import pretty_repr

from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient, NavTalkClient
from navtalk_async.client import Client
from navtalk_async.dialects.navtalk import NavTalk

LONG = "CANARY-" + "K7Zq" * 40
CLIENTS = {
    "any": partial(Client, NavTalk()),
    "navtalk": NavTalkClient,
    "kodey": KodeyClient,
    "lexicon": partial(LexiconClient, base_url="https://example.com"),
    "llamacloud": LlamaCloudClient,
}
every_client = pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)


@every_client
@pytest.mark.parametrize(
    "wrong",
    [
        *({"base_url": "http://example.com"}, {"base_url": LONG}, {"base_url": f"https://a.com?k={LONG}"}),
        *({"base_url": f"https://{LONG}@a.com"}, {"base_url": f"http://a.com/{LONG}"}, {"base_url": 7}),
        *({"rate": -1}, {"rate": "x"}, {"concurrency": 0}, {"concurrency": None}, {"timeout": -1}),
        *({"timeout": "x"}, {"attempt_timeout": 0}, {"nonsense": 1}, {"dialect": 1}),
    ],
    ids=str,
)
def test_a_client_that_cannot_be_made_does_not_bring_the_key_to_light(make, wrong, monkeypatch, leaks):
    call = partial(make, LONG, **wrong)
    assert argument_error_of(HiddenCall(call), leaks) is not None
    for variable in ("NAVTALK", "KODEY", "LEXICON", "LLAMA_CLOUD"):
        monkeypatch.setenv(f"{variable}_API_KEY", LONG)
    assert argument_error_of(HiddenCall(partial(make, **wrong)), leaks) is not None


@every_client
@pytest.mark.parametrize(
    "bad",
    [
        *(f"{LONG}\nX", f"{LONG} X", f"{LONG}\0", f"{LONG}é", LONG.encode(), bytearray(LONG.encode())),
        *([LONG], (LONG,), {"key": LONG}, {LONG}, Path(LONG), memoryview(LONG.encode())),
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_a_key_that_is_refused_is_not_brought_to_light(make, bad, leaks):
    assert isinstance(argument_error_of(HiddenCall(partial(make, bad)), leaks), ValueError)


@pytest.mark.parametrize("name", ["attempt_timeout", "timeout", "lane", "retry", "nonsense"])
def test_a_view_that_cannot_be_made_does_not_bring_the_key_to_light(name, leaks):
    nt = NavTalkClient(LONG)
    with suppress(AttributeError):
        argument_error_of(HiddenCall(partial(nt.using, **{name: -1})), leaks)
    for thing in (nt, vars(nt), nt._wire, vars(nt._wire), vars(nt.sessions), pretty_repr(vars(nt._wire))):
        leaks.see(thing)
    for copied in (copy, deepcopy, pickle.dumps):
        assert argument_error_of(HiddenCall(partial(copied, nt)), leaks) is not None
