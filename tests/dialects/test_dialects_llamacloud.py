"""LlamaCloud's dialect: every field of its reference, and both eras."""

import json
import pickle
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llamacloud_answers import (
    ERAS,
    EVENTS,
    ID,
    JOB,
    LLAMA,
    NEW,
    OLD,
    READERS,
    deleted,
    full,
    json_values,
    raw,
    session,
    sessions,
)

from navtalk_async.archive.rows import content_hash, is_same_state
from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.llamacloud import (
    JobMetadata,
    LlamaCloud,
)
from navtalk_async.errors import (
    DecodeFailed,
    NotJson,
    WrongShape,
)
from navtalk_async.models import Request
from navtalk_async.times import parse_time

# What is asked --------------------------------------------------------------------------------------------


def test_it_is_found_by_its_name_and_says_where_its_key_goes():
    found = dialect_of("llamacloud")
    assert isinstance(found, LlamaCloud)
    assert (found.default_base_url, found.key_variable, found.base_url_variable) == (
        "https://api.cloud.llamaindex.ai",
        "LLAMA_CLOUD_API_KEY",
        "LLAMA_CLOUD_BASE_URL",
    )
    assert (found.key_place.where, found.key_place.name, found.key_place.prefix) == (
        "header",
        "Authorization",
        "Bearer ",
    )


@pytest.mark.parametrize("base", ["https://a.example", "https://a.example/", "https://a.example/api/v1/"])
def test_the_base_url_may_have_the_beginning_of_every_path(base):
    assert LLAMA.root(base) == "https://a.example"


def test_every_question_is_as_the_reference_has_it():
    path = "/api/v1/chat"
    assert LLAMA.list_sessions() == Request(path=path, params={"page_size": "100"}, operation="sessions.list")
    assert LLAMA.get_session(ID) == Request(path=f"{path}/{ID}/summary", operation="sessions.get")
    assert LLAMA.list_messages(ID) == Request(path=f"{path}/{ID}", operation="messages.list")
    assert LLAMA.create_session() == Request(
        path=path, method="POST", body=b"{}", operation="sessions.create"
    )
    assert LLAMA.create_session(index_ids=["a"], shared_access="query") == Request(
        path=path,
        method="POST",
        body=b'{"index_ids":["a"],"shared_access":"query"}',
        operation="sessions.create",
    )
    assert LLAMA.create_session(index_ids=[]).body == b'{"index_ids":[]}'
    assert LLAMA.delete_session(ID) == Request(
        path=f"{path}/{ID}", method="DELETE", operation="sessions.delete"
    )
    assert LLAMA.generate_title(ID, "Hi") == Request(
        path=f"{path}/{ID}/title",
        method="POST",
        body=b'{"first_message":"Hi"}',
        operation="sessions.generate_title",
    )
    assert LLAMA.stream(ID, "Hi", index_ids=("a", "b"), require_all_indexes=False) == Request(
        path=f"{path}/{ID}/messages/stream",
        method="POST",
        body=b'{"prompt":"Hi","index_ids":["a","b"],"require_all_indexes":false}',
        operation="sessions.stream",
    )
    assert LLAMA.stream(ID, "Hi", index_ids=[]).body == b'{"prompt":"Hi","index_ids":[]}'


ASKED = [
    lambda dialect: dialect.list_sessions(),
    lambda dialect: dialect.get_session(ID),
    lambda dialect: dialect.list_messages(ID),
    lambda dialect: dialect.create_session(),
    lambda dialect: dialect.delete_session(ID),
    lambda dialect: dialect.generate_title(ID, "Hi"),
    lambda dialect: dialect.stream(ID, "Hi", index_ids=[]),
]


@pytest.mark.parametrize("ask", ASKED)
def test_every_question_says_whose_sessions_are_meant(ask):
    ours = LlamaCloud(project_id="p", organization_id="o")
    assert not {"project_id", "organization_id"} & ask(LLAMA).params.keys()
    assert ask(ours).params.items() >= {"project_id": "p", "organization_id": "o"}.items()
    with pytest.raises(ValueError, match="'' cannot be the id of any project"):
        ask(LlamaCloud(project_id=""))


@given(st.text(min_size=1))
def test_no_id_leads_to_another_place(session_id):
    try:
        checked = LLAMA.checked_id(session_id)
    except ValueError:
        return
    for request in (LLAMA.list_messages(checked), LLAMA.get_session(checked)):
        assert request.path.count("/") == 4 + request.path.endswith("/summary")
        assert not {"?", "#", "\\"} & set(request.path)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 1.5])
def test_a_page_size_out_of_range_is_refused_before_it_is_sent(limit):
    with pytest.raises(ValueError, match=r"page_size=.* from 1 to 1000"):
        LLAMA.list_sessions(limit=limit)


@pytest.mark.parametrize("prompt", ["x", "x" * 1000, "\U0001f600" * 1000])
def test_a_prompt_may_have_a_thousand_characters(prompt):
    assert json.loads(LLAMA.stream(ID, prompt, index_ids=["i"] * 10).body)["prompt"] == prompt


@pytest.mark.parametrize(
    ("prompt", "index_ids", "words"),
    [
        ("", [], "prompt='' is blank"),
        (" \n", [], "prompt=.* is blank"),
        (None, [], "prompt=None is blank or no text"),
        ("x\ud800", [], "prompt=.* half of a surrogate pair"),
        ("x" * 1001, [], "1,001 characters"),
        ("x", ["i"] * 11, "11 indexes"),
        ("x", "index-1", "no list of ids"),
        ("x", None, "no list of ids"),
        ("x", 5, "no list of ids"),
        ("x", {"a": 1}, "no list of ids"),
        ("x", [None], "id of any index"),
        ("x", [""], "cannot be the id of any index"),
    ],
)
def test_what_the_api_would_refuse_is_never_asked(prompt, index_ids, words):
    with pytest.raises(ValueError, match=words):
        LLAMA.stream(ID, prompt, index_ids=index_ids)


@pytest.mark.parametrize("bad", [None, "", " ", 5, ["x"], b"x", "x\ud800"])
def test_what_says_nothing_is_never_sent(bad):
    with pytest.raises(ValueError, match="first_message"):
        LLAMA.generate_title(ID, bad)
    if bad is not None:
        with pytest.raises(ValueError, match="shared_access"):
            LLAMA.create_session(shared_access=bad)
        with pytest.raises(ValueError, match="page_token"):
            LLAMA.list_sessions(page_token=bad)
        with pytest.raises(ValueError, match="require_all_indexes"):
            LLAMA.stream(ID, "x", index_ids=["i"], require_all_indexes=bad)
        with pytest.raises(ValueError, match=r"index"):
            LLAMA.create_session(index_ids=[bad] if isinstance(bad, list) else bad)


def test_a_smaller_page_has_half_the_rows_and_is_of_the_same_list():
    ours = LlamaCloud(project_id="p")
    request = ours.list_sessions(limit=5, page_token="t")
    assert LLAMA.page_limit(request) == 5
    smaller = LLAMA.halved(request)
    assert smaller == ours.list_sessions(limit=2, page_token="t")
    assert LLAMA.halved(LLAMA.list_sessions(limit=1)) is None
    assert LLAMA.halved(LLAMA.list_messages(ID)) is None


# Sessions -------------------------------------------------------------------------------------------------


def test_every_field_of_a_session_is_read():
    read = session(NEW)
    assert (read.id, read.title, read.updated_at_text) == (ID, "Refund terms", NEW["last_updated_at"])
    assert (read.index_ids, read.shared_access) == (["index-1", "index-2"], "read_only")
    assert read.job_metadata == JobMetadata(**JOB)
    assert (read.status, read.start_time, read.end_time, read.video_url) == (None, None, None, None)
    assert read.extra == {}


@ERAS
def test_a_session_of_either_era_comes_back_as_it_was(row):
    read = session(row)
    assert json.loads(read.raw) == row
    assert read.shared_access == row.get("shared_access")
    assert LLAMA.session_of(read.raw) == read == sessions({"items": [row]}).items[0]
    assert pickle.loads(pickle.dumps(read)) == read


@ERAS
def test_a_session_is_final_since_it_was_last_changed(row):
    read = session(row)
    assert read.is_final
    assert parse_time(read.final_since) == datetime(2026, 4, 22, 12, 34, 41, 342245, tzinfo=UTC)


@ERAS
def test_the_same_state_has_the_same_hash_however_it_was_asked_for(row):
    alone = content_hash(full(row | {"events": EVENTS}))
    assert is_same_state(content_hash(session(row)), alone, is_listed=False)


def test_what_a_session_has_that_nobody_knows_is_kept():
    read = session(NEW | {"colour": "red", "job_metadata": JOB | {"cost": 7}})
    assert read.extra == {"colour": "red"}
    assert json.loads(read.raw)["job_metadata"]["cost"] == 7
    assert read.job_metadata == JobMetadata(**JOB)


def test_a_session_with_a_field_of_another_shape_is_read_without_it():
    read = session(NEW | {"index_ids": "index-1", "job_metadata": {"turns": "two"}})
    assert (read.index_ids, read.job_metadata, read.title) == (None, None, "Refund terms")
    assert read.extra == {"index_ids": "index-1", "job_metadata": {"turns": "two"}}


def test_a_page_leads_to_the_next_with_all_its_filters():
    ours = LlamaCloud(project_id="p")
    request = ours.list_sessions(limit=2)
    page = sessions({"items": [NEW, OLD], "next_page_token": "t2"}, request=request)
    assert [each.shared_access for each in page.items] == ["read_only", None]
    assert page.next == ours.list_sessions(limit=2, page_token="t2")


@pytest.mark.parametrize("end", [{}, {"next_page_token": None}, {"next_page_token": ""}])
def test_a_list_ends_without_a_token_whatever_it_has(end):
    assert sessions({"items": [NEW]} | end).next is None
    assert sessions({"items": []} | end).items == []


# Refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"OK", b"{"])
def test_a_page_of_a_proxy_is_no_deletion(body):
    with pytest.raises(NotJson):
        deleted(body)


@pytest.mark.parametrize(("status", "body"), [(204, b""), (200, b""), (200, b'{"ok":true}'), (202, b"null")])
def test_any_success_is_a_deletion(status, body):
    assert deleted(body, status) is None


@READERS
@pytest.mark.parametrize("body", [b"", b"no", b"<html></html>", b'{"items":[', b"\xff\xfe"])
def test_what_is_no_json_is_told(read, body):
    with pytest.raises(NotJson):
        read(body)


@READERS
@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"ok"',
        b"7",
        b'{"detail":"Not Found"}',
        b'{"items":{"0":1},"next_page_token":7,"events":"none"}',
        b'{"items":[{"session_id":""}],"session_id":"","events":7}',
        b'{"items":[{"session_id":null}],"session_id":null,"events":{}}',
        b'{"items":' + b"[" * 100_000 + b"]" * 100_000 + b',"session_id":7,"events":null}',
    ],
)
def test_json_of_another_shape_is_told(read, body):
    with pytest.raises(WrongShape):
        read(body)


@READERS
@given(body=st.binary() | json_values.map(raw))
def test_whatever_comes_is_a_value_or_an_error_of_ours(read, body):
    with suppress(DecodeFailed):
        assert read(body) is not None


def test_a_full_session_as_a_dict_has_its_events_as_the_api_wrote_them():
    read = full(NEW | {"events": EVENTS})
    fields = read.to_dict()
    assert (fields["title"], fields["usage"]["turns"], fields["events"]) == (
        "Refund terms",
        JOB["turns"],
        EVENTS,
    )
    assert json.loads(json.dumps(fields)) == fields
    assert read.to_dict(by_alias=True) == NEW | {"events": EVENTS}
