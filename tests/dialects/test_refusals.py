"""A refusal of NavTalk is one of our errors, whatever it looks like, and says how long to wait."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from navtalk_answers import READERS, SESSIONS_ANSWER, sessions
from profiles import examples

from navtalk_async.errors import (
    AccessDenied,
    ApiError,
    BadRequest,
    Conflict,
    NavTalkError,
    NotFound,
    RateLimited,
    Redirected,
    ServerError,
)

# Refusals -------------------------------------------------------------------------------------------------

TABLE = [
    (400, BadRequest),
    (401, AccessDenied),
    (403, AccessDenied),
    (404, NotFound),
    (409, Conflict),
    (422, BadRequest),
    (408, ServerError),
    (418, ApiError),
    (429, RateLimited),
    (500, ServerError),
    (502, ServerError),
    (503, ServerError),
    (599, ServerError),
]


@READERS
@pytest.mark.parametrize(("code", "kind"), TABLE)
@pytest.mark.parametrize("way", ["status", "body", "both"])
def test_a_refusal_is_believed_by_status_and_by_code(read, code, kind, way):
    status = 200 if way == "body" else code
    body = b"no json" if way == "status" else {"code": code, "message": "Because", "data": None}
    with pytest.raises(ApiError) as caught:
        read(body, status)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.code == (None if way == "status" else code)
    assert str(code) in str(caught.value)
    assert way == "status" or "Because" in str(caught.value)


@READERS
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Bad Gateway",
        b"<html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"code":"x"}',
        b"[" * 100_000,
        b'{"message":7}',
    ],
)
def test_a_refusal_that_is_no_json_is_still_the_refusal(read, body):
    with pytest.raises(ServerError, match="500"):
        read(body, 500)


@pytest.mark.parametrize(("status", "code", "kind"), [(400, 404, NotFound), (500, 200, ServerError)])
def test_where_status_and_code_differ_the_more_precise_wins(status, code, kind):
    with pytest.raises(kind) as caught:
        sessions({"code": code, "message": "m"}, status)
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize("code", [200, 400, 500])
def test_a_gateways_429_outranks_the_body(code):
    with pytest.raises(RateLimited):
        sessions({"code": code}, 429)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_that_names_the_place_without_its_query(status):
    with pytest.raises(Redirected, match=r"https://elsewhere\.example/x") as caught:
        sessions(b"", status, Location="https://elsewhere.example/x?apikey=secret")
    assert "secret" not in str(caught.value)


@READERS
@pytest.mark.parametrize("status", [100, 201, 204, 206])
def test_a_success_of_another_kind_is_no_answer(read, status):
    with pytest.raises(ApiError) as caught:
        read(SESSIONS_ANSWER, status)
    assert caught.value.status == status


def test_a_refusal_carries_how_long_to_wait():
    with pytest.raises(RateLimited) as caught:
        sessions(b"", 429, Retry_After="7")
    assert caught.value.retry_after == 7


@READERS
@given(body=st.binary(max_size=200), status=st.integers(100, 599))
@settings(max_examples=examples(100))
def test_whatever_comes_is_an_answer_or_one_of_our_errors(read, body, status):
    with pytest.raises(NavTalkError):
        read(body, status)
        raise NavTalkError
