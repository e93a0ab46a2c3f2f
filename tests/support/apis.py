"""The APIs that every law holds for, a row each: a new API needs another row, and no other test.

A row says how to read everything without our code, what the sandbox may answer, and which changes the API
shows; the rest comes from the dialect of that name.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
from changes import CHANGES

from navtalk_async.errors import AccessDenied, BadRequest, NavTalkError
from navtalk_async.sandbox import Answers

Ask = Callable[..., Awaitable[Any]]


class ApiTranscript(NamedTuple):
    """A session and its messages as the JSON of its API."""

    id: str
    session: dict
    messages: list


@dataclass(frozen=True, kw_only=True)
class Api:
    """What the laws need to know about an API."""

    name: str
    key_arguments: Callable[[str], dict[str, Any]]
    """The arguments with which aiohttp sends a key."""
    sessions: Callable[[Ask], Awaitable[list[dict]]]
    """All sessions in the API's order, read with `await ask(path, **params)`, which returns the JSON."""
    messages: Callable[[Ask, str], Awaitable[list[dict]]]
    """All messages of the session of that id, likewise."""
    session_columns: dict[str, str]
    """The API's field of each column of an archive; other columns are empty."""
    message_columns: dict[str, str]
    answers: dict[str, tuple]
    """The possible values of the fields of `Answers` that concern it."""
    is_complete: Callable[[Answers], bool] = lambda _: True
    """Whether a server with these answers shows everything it has."""
    filters: dict[str, str] = field(default_factory=dict)
    """The filters that a list of sessions needs."""
    changes: tuple[str, ...] = CHANGES
    """The changes of a session that the next sync finds."""
    open_only: tuple[str, ...] = ()
    """Those of them that it finds in open sessions only."""
    is_always_reread: Callable[[dict], bool] = lambda _: False
    """Whether a session's messages are read in every round, changed or not."""
    wrong_key: type[NavTalkError] = AccessDenied

    def __str__(self):
        return self.name


def columns_from(columns, *names):
    """*columns* by the names of their fields, and *names* that are the API's own."""
    return {name: name for name in names} | columns


async def pages_of_navtalk(ask, path, **params):
    found, more = [], {}
    while True:
        data = (await ask(path, **params, **more))["data"]
        found += data["data"]
        if not data["data"] or not data.get("nextCursor"):
            return found
        more = {"cursor": data["nextCursor"]}


async def pages_of_lexicon(ask, path, kind):
    found = []
    while rows := (await ask(path, offset=len(found), limit=100, order="asc"))[kind]:
        found += rows
    return found


async def pages_of_llamacloud(ask):
    found, more = [], {}
    while True:
        page = await ask("/api/v1/chat", page_size=100, **more)
        found += page["items"]
        if not page["items"] or not page.get("next_page_token"):
            return found
        more = {"page_token": page["next_page_token"]}


async def field_of(answer, name):
    return (await answer)[name]


NAVTALK = Api(
    name="navtalk",
    key_arguments=lambda key: {"params": {"apikey": key}},
    sessions=lambda ask: pages_of_navtalk(ask, "/api/chat/sessions", limit=100),
    messages=lambda ask, name: pages_of_navtalk(ask, "/api/chat/messages", sessionId=name, limit=200),
    session_columns=columns_from(
        {"start_time": "startTime", "end_time": "endTime", "video_url": "videoUrl"}, "id", "status"
    ),
    message_columns=columns_from({"type": "messageType", "created_at": "createdAt"}, "id", "role", "content"),
    answers={
        "cursor_on_last_page": (True, False),
        "last_cursor": ("null", "empty", "missing"),
        "errors": ("status", "body", "both", "bare"),
        "start_inclusive": (True, False),
        "end_inclusive": (True, False),
        "end_bounds": ("start", "end"),
        "filters_ignored": (False, True),
        "cursor_needs_filters": (True, False),
        "over_limit": ("clamp", "refuse"),
        "max_page": (None, 3, 20),
    },
    open_only=CHANGES,
    is_always_reread=lambda session: session["endTime"] is None,
    wrong_key=BadRequest,
)

KODEY = Api(
    name="kodey",
    key_arguments=lambda key: {"headers": {"x-api-key": key}},
    sessions=lambda ask: field_of(ask("/chat"), "chats"),
    messages=lambda ask, name: field_of(ask(f"/chat/{name}/message"), "messages"),
    session_columns=columns_from({"start_time": "createdAt", "user_id": "userId"}, "id"),
    message_columns=columns_from({"created_at": "createdAt"}, "id", "role", "content"),
    answers={
        "errors": ("status", "bare"),
        "kodey_messages": ("empty", "all", "missing"),
        "kodey_user": ("string", "null", "missing"),
        "kodey_401": ("message", "both"),
        "kodey_order": ("asc", "desc", "none"),
    },
    is_always_reread=lambda _: True,
)

LEXICON = Api(
    name="lexicon",
    key_arguments=lambda key: {"headers": {"X-API-Key": key}},
    sessions=lambda ask: pages_of_lexicon(ask, "/api/v1/chats/user/user-0", "chats"),
    messages=lambda ask, name: pages_of_lexicon(ask, f"/api/v1/chats/{name}/messages", "messages"),
    session_columns=columns_from({"start_time": "created_at"}, "id", "title", "user_id", "updated_at"),
    message_columns=columns_from(
        {"role": "sender_role", "type": "media_type"}, "id", "content", "created_at"
    ),
    answers={
        "errors": ("status", "bare"),
        "lexicon_errors": ("detail", "error"),
        "lexicon_invalid": ("400", "422"),
        "lexicon_has_more": ("right", "false", "true", "missing"),
        "lexicon_total": ("right", "few", "many", "missing"),
        "lexicon_sorts_by": ("created_at", "updated_at"),
        "over_limit": ("clamp", "refuse"),
        "max_page": (None, 3, 20),
    },
    # Without a right total or has_more, nobody can know that there is more.
    is_complete=lambda answers: (
        answers.lexicon_total in {"right", "many"}
        or answers.lexicon_has_more in {"right", "true"}
        or answers.lexicon_total == answers.lexicon_has_more == "missing"
    ),
    filters={"user_id": "user-0"},
    changes=("begin", "say", "end", "remove"),
)

LLAMACLOUD = Api(
    name="llamacloud",
    key_arguments=lambda key: {"headers": {"Authorization": f"Bearer {key}"}},
    sessions=pages_of_llamacloud,
    messages=lambda ask, name: field_of(ask(f"/api/v1/chat/{name}"), "events"),
    session_columns={"id": "session_id", "title": "generated_title", "updated_at": "last_updated_at"},
    message_columns=columns_from({}, "type", "content"),
    answers={
        "errors": ("status", "bare"),
        "cursor_on_last_page": (True, False),
        "last_cursor": ("null", "empty", "missing"),
        "llamacloud_order": ("newest", "oldest", "id"),
        "llamacloud_shared_access": (True, False),
        "llamacloud_deltas_in_history": (False, True),
        "max_page": (None, 3, 20),
    },
)

APIS = [NAVTALK, KODEY, LEXICON, LLAMACLOUD]


@asynccontextmanager
async def plain_requests(api, box, key="k"):
    """`await ask(path, **params)`: the JSON that *box* answers, without any of our code."""
    async with aiohttp.ClientSession() as http:

        async def ask(path, **params):
            carried = api.key_arguments(key)
            carried["params"] = params | carried.get("params", {})
            async with http.get(box.url + path, **carried) as answer:
                assert answer.status == 200, answer
                return json.loads(await answer.read())

        yield ask


async def sessions_of(api, box, key="k"):
    """All sessions that *api* has in *box*, in its order."""
    async with plain_requests(api, box, key) as ask:
        return await api.sessions(ask)


async def transcripts_of(api, box, key="k"):
    """All that *api* has in *box*, in its order."""
    async with plain_requests(api, box, key) as ask:
        sessions = await api.sessions(ask)
        ids = [each[api.session_columns["id"]] for each in sessions]
        messages = await asyncio.gather(*(api.messages(ask, each) for each in ids))
    return list(map(ApiTranscript, ids, sessions, messages))
