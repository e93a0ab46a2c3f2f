"""Who gets an answer of the viewer: one browser, from this machine, that reads."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.view._guard import Guard
from navtalk_async.view._reader import NoSuchPage, _only_of, address_of_session, key_of

HOST = "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": HOST}, None),
        ("HEAD", {"Host": "localhost:8000"}, None),
        ("GET", {"Host": "LOCALHOST:8000"}, None),
        ("GET", {"Host": "[::1]:8000"}, None),
        ("GET", {"Host": HOST, "Origin": f"http://{HOST}"}, None),
        ("GET", {"Host": HOST, "Origin": "http://evil.example"}, 403),
        ("GET", {"Host": HOST, "Origin": "null"}, 403),
        ("GET", {"Host": HOST, "Origin": f"https://{HOST}"}, 403),
        ("GET", {"Host": HOST, "Origin": "http://localhost:8000"}, 403),
        ("GET", {"Host": HOST, "Origin": ""}, 403),
        ("GET", {}, 421),
        ("GET", {"Host": ""}, 421),
        ("GET", {"Host": "127.0.0.1"}, 421),
        ("GET", {"Host": "127.0.0.1:8001"}, 421),
        ("GET", {"Host": "evil.example:8000"}, 421),
        ("GET", {"Host": "127.0.0.1.evil.example:8000"}, 421),
        ("GET", {"Host": "127.0.0.1:8000@evil.example"}, 421),
        ("GET", {"Host": "0.0.0.0:8000"}, 421),
        *(
            (method, {"Host": HOST}, 405)
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get")
        ),
    ],
)
def test_a_request_is_refused_by_method_host_and_origin(method, headers, status):
    refusal = Guard(8000).refusal(method, headers)
    assert (refusal and refusal.status) == status


def test_the_token_is_exchanged_once_for_a_cookie_that_only_the_browser_has():
    guard = Guard(8000)
    assert guard.exchange("") is None
    assert guard.exchange(guard.token[:-1]) is None
    cookie = guard.exchange(guard.token)
    assert guard.exchange(guard.token) is None
    pair, *attributes = cookie.split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert guard.token not in cookie
    for site, is_known in (
        (None, True),
        ("none", True),
        ("same-origin", True),
        ("same-site", False),
        ("cross-site", False),
    ):
        headers = {"Cookie": f"a=b; {pair}; c"} | ({} if site is None else {"Sec-Fetch-Site": site})
        assert guard.is_known(headers) == is_known
    assert not guard.is_known({"Cookie": f"{pair}x"})
    assert not Guard(8000).is_known({"Cookie": pair})


@given(st.text(), st.text())
def test_no_header_and_no_token_that_is_made_up_lets_anybody_in(token, cookie):
    guard = Guard(8000)
    assert guard.exchange(token) is None
    assert not guard.is_known({"Cookie": cookie})
    assert not guard.is_known({"Cookie": f"navtalk-view-8000={cookie}"})
    assert not guard.is_known({})


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_name_is_an_address_and_back(project, session_id):
    assert _only_of(key_of(project)) == project
    address = address_of_session(project, session_id, 3)
    assert address.isascii()
    assert address.isprintable()
    assert address.split("?")[0].count("/") == 2
    assert ".." not in address.split("?")[0]


@given(st.text())
def test_a_key_that_is_none_is_no_page(text):
    with suppress(NoSuchPage):
        assert isinstance(_only_of(f"p{text}"), str)
