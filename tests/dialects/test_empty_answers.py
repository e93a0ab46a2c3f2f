"""An empty list in other words is an empty list, and a code in other words is that code."""

import json

import pytest

from navtalk_async.dialects import dialect_of
from navtalk_async.errors import ApiError, WrongShape
from navtalk_async.models import Response

ID = "9e3779b1-dede-11f0-92bc-000e1eed4a72"
ROWS = {"navtalk": "data", "kodey": "chats", "lexicon": "chats", "llamacloud": "items"}
FILTERS = {"lexicon": {"user_id": "u"}}
EMPTY = [{}, {"rows": None}, {"rows": []}, {"rows": {}}, {"rows": ""}]


def sessions_in(api, answer, **envelope):
    dialect = dialect_of(api)
    body = json.dumps({"code": 200, "data": answer, **envelope} if api == "navtalk" else answer).encode()
    request = dialect.list_sessions(**FILTERS.get(api, {}))
    return dialect.read_sessions(request, Response(status=200, headers={}, body=body))


def with_rows(api, answer):
    return {ROWS[api] if name == "rows" else name: value for name, value in answer.items()}


@pytest.mark.parametrize("answer", EMPTY, ids=json.dumps)
@pytest.mark.parametrize("api", ROWS)
def test_rows_that_are_null_left_out_or_empty_are_no_rows(api, answer):
    page = sessions_in(api, with_rows(api, answer))
    assert (page.items, page.next) == ([], None)


@pytest.mark.parametrize("data", [None, [], "", {}])
def test_data_that_is_nothing_is_an_empty_list(data):
    assert sessions_in("navtalk", data).items == []


@pytest.mark.parametrize(
    "answer", [{"error": "maintenance"}, {"others": [1]}, {"rows": 7}, {"rows": {"a": 1}}]
)
@pytest.mark.parametrize("api", ROWS)
def test_an_error_or_another_list_is_no_empty_list(api, answer):
    with pytest.raises(WrongShape):
        sessions_in(api, with_rows(api, answer))


@pytest.mark.parametrize("cursor", [None, 0, False, ""])
@pytest.mark.parametrize(("api", "field"), [("navtalk", "nextCursor"), ("llamacloud", "next_page_token")])
def test_a_cursor_that_is_nothing_ends_the_list(api, field, cursor):
    assert sessions_in(api, with_rows(api, {"rows": []}) | {field: cursor}).next is None


@pytest.mark.parametrize("code", ["200", 200.0, None])
def test_a_code_in_other_words_is_that_code(code):
    assert sessions_in("navtalk", {"data": []}, code=code).items == []


@pytest.mark.parametrize("code", ["500", 500.0, -1, "0"])
def test_another_code_is_a_refusal(code):
    with pytest.raises(ApiError, match="answered"):
        sessions_in("navtalk", {"data": []}, code=code)
