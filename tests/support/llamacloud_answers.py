"""Answers of LlamaCloud with every field of its reference, and what its dialect reads out of answers."""

import json

import pytest
from hypothesis import strategies as st

from navtalk_async.dialects.answers import read_done, refuse
from navtalk_async.dialects.llamacloud import (
    LlamaCloud,
)
from navtalk_async.models import Response

LLAMA = LlamaCloud()
ID = "chat-1"

# Every field that the reference names, with a value that is none of our defaults.
JOB = {
    "duration_ms": 1250.5,
    "error": "The index is away.",
    "export_config_ids": ["export-1"],
    "is_error": True,
    "total_input_tokens": 20,
    "total_output_tokens": 30,
    "turns": 2,
}
OLD = {
    "last_updated_at": "2026-04-22T12:34:41.342245",
    "session_id": ID,
    "generated_title": "Refund terms",
    "index_ids": ["index-1", "index-2"],
    "job_metadata": JOB,
}
NEW = OLD | {"shared_access": "read_only"}
LEAST = {"last_updated_at": "2026-04-22T12:34:41.342245", "session_id": ID}
NULLS = LEAST | {"generated_title": None, "index_ids": None, "job_metadata": None}
CALL = {"arguments": {"query": "refund", "filters": {"year": [2025, None]}}, "call_id": "c1", "name": "find"}
PAGE = {"attachment_name": "page_7.png", "source_id": "source-7"}
RESULT = {"call_id": "c1", "name": "find", "result": [{"text": "Thirty days."}], "image_attachment": PAGE}
USAGE = {"duration_ms": 1250.5, "total_input_tokens": 20, "total_output_tokens": 30, "turns": 2}
STOP = {"error": "It failed.", "is_error": True, "usage": USAGE}
EVENTS = [
    {"type": "user_input", "content": "What do the terms say?"},
    {"type": "thinking_delta", "content": "Look "},
    {"type": "thinking", "content": "Look at the terms."},
    {"type": "tool_call"} | CALL,
    {"type": "tool_result"} | RESULT,
    {"type": "text_delta", "content": "Thirty"},
    {"type": "text", "content": "Thirty days."},
    {"type": "stop", "skipped_index_ids": ["index-2"]} | STOP,
]
ROLES = ["user", "assistant", "assistant", "assistant", "tool", "assistant", "assistant", "assistant"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["type", "content", *CALL, *RESULT, *STOP, "skipped_index_ids", "id"]) | st.text()
types = st.sampled_from([each["type"] for each in EVENTS])
objects = st.dictionaries(names, json_values, max_size=6)
any_event = objects | st.builds(lambda fields, kind: fields | {"type": kind}, objects, types)


def answer(body, status=200, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=headers, body=body)


def sessions(body, status=200, request=None, **headers):
    return LLAMA.read_sessions(request or LLAMA.list_sessions(), answer(body, status, **headers))


def session(body, status=200):
    return LLAMA.read_session(LLAMA.get_session(ID), answer(body, status))


def full(body, status=200):
    return LLAMA.read_full_session(LLAMA.list_messages(ID), answer(body, status))


def messages(body, status=200, session_id=ID):
    return LLAMA.read_messages(LLAMA.list_messages(session_id), answer(body, status))


def deleted(body, status=204):
    return read_done(LLAMA.delete_session(ID), answer(body, status))


def streaming(body, status=200):
    return refuse(LLAMA.stream(ID, "?", index_ids=[]), answer(body, status))


def raw(fields):
    return json.dumps(fields).encode()


READERS = pytest.mark.parametrize("read", [sessions, session, full, messages])
ERAS = pytest.mark.parametrize("row", [OLD, NEW, LEAST, NULLS], ids=["2.7", "2.18", "least", "nulls"])
EACH_EVENT = pytest.mark.parametrize("fields", EVENTS, ids=[each["type"] for each in EVENTS])
