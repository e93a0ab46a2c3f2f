"""A refusal of any API is one of our errors, whatever it looks like, and says how long to wait."""

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from navtalk_answers import READERS, SESSIONS_ANSWER, answer, sessions
from profiles import examples

from navtalk_async.dialects import dialects
from navtalk_async.dialects.answers import read_done, reader, refuse, refused
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
from navtalk_async.models import Response

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


# Of every API, whatever was asked --------------------------------------------------------------------------


def readings():
    """Every way to read an answer, of every API."""
    for api, dialect in dialects().items():
        speaking = dialect()
        asked = speaking.get_session("c")
        reads = [speaking.read_sessions, speaking.read_session, speaking.read_messages]
        others = [reader(kind) for kind in speaking.record_kinds]
        named = zip(["sessions", "session", "messages"], reads, strict=True)
        yield from (pytest.param(partial(read, asked), id=f"{api}-{name}") for name, read in named)
        if api != "navtalk":
            calls = zip(["made", "said", "done", "stream"], [*others, read_done, refuse], strict=True)
            yield from (pytest.param(partial(read, asked), id=f"{api}-{name}") for name, read in calls)


EVERY_READER = pytest.mark.parametrize("read", [*readings()])
FLAWS = [
    {"loc": ["body", "prompt"], "msg": "Too long", "type": "string_too_long"},
    {"msg": "Bad"},
    {"loc": ["query"]},
    7,
]


SAID = [
    ({"detail": "Because"}, "Because"),
    ({"detail": FLAWS}, r"body\.prompt: Too long; Bad; \{'loc': \['query'\]\}; 7\."),
    (
        {"detail": [{"loc": ["query", "limit"], "msg": "too large"}], "trace": "t1"},
        "query.limit: too large",
    ),
    ({"detail": [{"msg": "one"}, "two"]}, "one; two"),
    ({"detail": {"code": 7}}, "{'code': 7}"),
    ({"detail": [], "message": "Because"}, "Because"),
    ({"detail": None}, "no reason given"),
    ({"error": "No", "message": "Because"}, "Because"),
    ({"message": "Because"}, "Because"),
    ({"error": "No"}, "No"),
    ({"message": None, "error": "No"}, "No"),
    (b"<html>", "no reason given"),
    (b"no", "no reason given"),
    (b"", "no reason given"),
    (b"null", "no reason given"),
    (b"[1]", "no reason given"),
    (b"\xff", "no reason given"),
    (b"[" * 100_000, "no reason given"),
]


@EVERY_READER
@pytest.mark.parametrize(("status", "kind"), [(405, ApiError), *TABLE])
def test_a_refusal_says_why_whatever_its_form(read, status, kind):
    for body, reported in SAID:
        with pytest.raises(kind, match=f"{status}: {reported}") as caught:
            read(answer(body, status))
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.retry_after) == (status, None)
        assert caught.value.details == (body if isinstance(body, dict) else {})


@EVERY_READER
def test_a_429_waits_as_long_as_its_body_or_its_header_says(read):
    body = {"error": "Too Many Requests", "message": "Rate limit exceeded.", "trace": "t1"}
    for waits, headers, seconds in (
        ({"retryAfter": 60}, {}, 60.0),
        ({"retry_after": 7}, {}, 7.0),
        ({}, {"Retry-After": "7"}, 7.0),
    ):
        with pytest.raises(RateLimited, match="Rate limit exceeded") as caught:
            read(answer(body | waits, 429, **headers))
        assert (caught.value.retry_after, caught.value.details) == (seconds, body | waits)


@pytest.mark.parametrize(
    ("wait", "header", "seconds"),
    [
        (0.5, None, 0.5),
        ("7", None, 7.0),
        (0, None, 0.0),
        (-3, None, 0.0),
        (None, None, None),
        ("soon", None, None),
        (True, None, None),
        ([60], None, None),
        (10**400, None, None),
        (60, "5", 60.0),
        (5, "60", 60.0),
        ("soon", "60", 60.0),
    ],
)
def test_a_429_waits_for_the_longer_of_body_and_header(wait, header, seconds):
    headers = {} if header is None else {"Retry-After": header}
    with pytest.raises(RateLimited) as caught:
        sessions({"error": "Too Many Requests", "retryAfter": wait}, 429, **headers)
    assert caught.value.retry_after == seconds


def test_of_a_long_refusal_texts_are_cut_and_other_long_fields_left_out():
    fields = {"detail": "x" * 200_000, "list": [{}] * 100_000, "retryAfter": 7, "code": 503}
    error = refused(Response(status=503, headers={}, body=json.dumps(fields).encode()))
    assert error.details.keys() == {"detail", "retryAfter", "code"}
    assert (error.retry_after, len(error.details["detail"])) == (7, 65536)
