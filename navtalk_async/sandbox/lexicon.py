"""How the Lexicon Labs chats API answers: five endpoints, as its reference pages have them."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from .answers import Answers
from .exchange import NOTHING, Answered, Asked, Refused, Room, opened
from .faults import PAGE_FAULTS
from .routes import Routes
from .table import Row
from .translated import role, share, stamped, unknown, user, zoned
from .world import World

NAME: Final = "lexicon"
BASE: Final = ""
PREFIX: Final = "/api/v1/chats"
WRONG_SHAPES: Final = (
    b"null",
    b"[]",
    b'"OK"',
    b'{"items":[],"next":null}',
    b'{"chats":{"0":1},"messages":{"0":1},"id":[7],"success":"perhaps"}',
    b'{"chats":[{"id":[7]}],"messages":[{"id":[7],"created_at":null}],"total":1,"id":null,"success":null}',
)

_ROUTES: Final = Routes(
    PREFIX,
    {
        "POST ": "create",
        "GET user/{user}": "sessions",
        "GET {id}": "session",
        "DELETE {id}": "delete",
        "GET {id}/messages": "messages",
    },
)
_MOST: Final = 100
_USUAL: Final = 50
_LONGEST_NUMBER: Final = 9
_TOO_MANY: Final = 11  # the sample has four messages, and counts fifteen
_STATUSES: Final = ("active", "completed", "failed")
_SAMPLE: Final = "chat-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d"
_SAMPLE_MESSAGES: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    (
        "msg-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d",
        "Hello, I need help with my account",
        "2024-01-15 10:30:00",
        {"user_agent": "Mozilla/5.0..."},
    ),
    (
        "msg-b2c3d4e5-f6a7-4b8c-9d0e-1f2a3b4c5d6e",
        "I'd be happy to help you with your account! What specific issue are you experiencing?",
        "2024-01-15 10:30:05",
        {"model": "gpt-4", "tokens_used": 87},
    ),
    (
        "msg-c3d4e5f6-a7b8-4c9d-0e1f-2a3b4c5d6e7f",
        "I can't log into my account. It says my password is incorrect.",
        "2024-01-15 10:30:30",
        {},
    ),
    (
        "msg-d4e5f6a7-b8c9-4d0e-1f2a-3b4c5d6e7f8a",
        (
            "I understand you're having trouble logging in. Let me help you troubleshoot this issue. "
            "First, let's try resetting your password."
        ),
        "2024-01-15 10:30:35",
        {"model": "gpt-4", "tokens_used": 124},
    ),
)

_json = msgspec.json.Encoder().encode
# A user's chats in order are the same until the world changes, and a listing asks for them page by page.
_Ordered = dict[tuple[str, str], list[Row]]
_ordered: WeakKeyDictionary[World, tuple[int, _Ordered]] = WeakKeyDictionary()


def documented() -> World:
    """The world of the reference page: one chat of ``user-0``, and its four messages."""
    world = World(sessions=0)
    world.add_session("2024-01-15 10:30:00", id=_SAMPLE)
    world.note(_SAMPLE, user="user-0")
    for number, (name, content, time, metadata) in enumerate(_SAMPLE_MESSAGES):
        world.add_message(_SAMPLE, content, id=name, role=number % 2, created_at=time)
        world.note(name, metadata=metadata)
    return world


def kind(asked: Asked) -> str:
    """The endpoint *asked* is for: sessions, session, messages, create, delete, or an empty string."""
    # The slash at the end belongs to where chats are made, as the reference has it.
    return "" if asked.path == PREFIX else _ROUTES.kind(asked)


def session(asked: Asked) -> str:
    """The id of the chat that is asked about, or an empty string."""
    return _ROUTES.step(asked, "id")


def secret(asked: Asked) -> str:
    """The key that came with a request."""
    return asked.headers.get("X-API-Key", "")


def can_play(fault: str, asked: Asked) -> bool:
    """Whether *fault* makes sense for this request: pages can be empty, and there are no cursors."""
    return fault not in PAGE_FAULTS or (fault == "empty-page" and asked.kind in {"sessions", "messages"})


def answer(asked: Asked, room: Room, fault: str | None = None) -> Answered:
    """The answer to *asked*; *fault* may be an empty page, which says that there is more."""
    try:
        data = _data(asked, _world(asked, room), room, fault)
    except Refused as no:
        return refusal(no.code, no.message, asked, room.answers)
    return Answered(201 if asked.kind == "create" else 200, _json(data))


def refusal(
    code: int,
    message: str,
    asked: Asked,  # noqa: ARG001 - what any API may need
    answers: Answers,
    wait: float | None = None,
) -> Answered:
    """A failure, told by status and in the words of *answers*; *wait* is its ``Retry-After``."""
    headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
    if answers.errors == "bare":
        return Answered(code, message.encode(), "text/plain", headers)
    told = {"error": HTTPStatus(code).phrase, "message": message}
    body = {"detail": message} if answers.lexicon_errors == "detail" else told
    return Answered(code, _json(body), headers=headers)


def headers(asked: Asked, room: Room) -> Mapping[str, str]:  # noqa: ARG001 - what any API may need
    """Nothing: its reference knows no rate limit."""
    return NOTHING


def _world(asked: Asked, room: Room) -> World:
    if not asked.kind:
        raise _ROUTES.refused(asked)
    world = opened(secret(asked), room)
    if world is None or secret(asked) == "expired":
        raise Refused(401, "Invalid or missing API key")
    return world


def _data(asked: Asked, world: World, room: Room, fault: str | None) -> dict[str, Any]:
    if asked.kind == "create":
        return _created(world, asked.fields(), room)
    if asked.kind == "sessions":
        time = room.answers.lexicon_sorts_by
        sessions = _of_user(world, _ROUTES.step(asked, "user"), time)
        rows, told = _page(sessions, asked.query, room.answers, fault, order="desc")
        return {"chats": [_chat(world, row) for row in rows]} | told
    row = world.session_row(session(asked))
    if row is None:
        raise Refused(404, "Chat not found")
    match asked.kind:
        case "delete":
            return _deleted(world, row["id"], room)
        case "messages":
            said = world.message_table(row["id"]).rows
            rows, told = _page(said, asked.query, room.answers, fault, order="asc")
            return {"messages": [_message(world, each) for each in rows]} | told
    count = world.message_count(row["id"])
    return _chat(world, row) | {"message_count": count, "status": _status(row["status"])}


def _page(
    rows: Sequence[Row], query: Mapping[str, str], answers: Answers, fault: str | None, *, order: str
) -> tuple[Sequence[Row], dict[str, Any]]:
    """The page of *rows*, which are in ascending order, that *query* asks for, and what is said about it."""
    invalid = int(answers.lexicon_invalid)
    offset, limit = _number(query, "offset", 0, invalid), _number(query, "limit", _USUAL, invalid)
    order = query.get("order", order)
    if limit < 1 or (limit > _MOST and answers.over_limit == "refuse") or order not in {"asc", "desc"}:
        raise Refused(invalid, f"limit must be between 1 and {_MOST}, and order asc or desc")
    limit = min(limit, _MOST)
    most = 0 if fault == "empty-page" else min(limit, answers.max_page or limit)
    page = (rows if order == "asc" else rows[::-1])[offset : offset + most]
    more = offset + len(page) < len(rows)
    totals = {"right": len(rows), "few": len(page), "many": len(rows) + _TOO_MANY}
    promises = {"right": more, "false": False, "true": bool(page) or more}
    told = {
        "total": totals.get(answers.lexicon_total),
        "offset": offset,
        "limit": limit,
        "has_more": promises.get(answers.lexicon_has_more),
    }
    return page, {field: value for field, value in told.items() if value is not None}


def _number(query: Mapping[str, str], name: str, usual: int, invalid: int) -> int:
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise Refused(invalid, f"{name} must be a whole number, and not below nought")
    return int(text)


def _of_user(world: World, name: str, time: str) -> list[Row]:
    version, known = _ordered.get(world, (-1, {}))
    if version != world.version:
        known = {}
        _ordered[world] = (world.version, known)
    if (name, time) not in known:
        rows = [row for row in world.session_table.rows if _user(world, row["id"]) == name]
        if time == "updated_at":
            rows.sort(key=lambda row: (_updated(world, row), row["id"]))
        known[name, time] = rows
    return known[name, time]


def _chat(world: World, session: Row) -> Row:
    name = session["id"]
    notes = world.notes.get(name, {})
    made_up = f"Chat {name[:8]}" if share(name, 2) else None
    return {
        "id": name,
        "user_id": _user(world, name),
        "tenant_id": notes.get("tenant", f"tenant-{world.seed}"),
        "title": notes.get("title", made_up),
        "config": {"metadata": notes.get("metadata", {})},
        "created_at": zoned(session["startTime"]),
        "updated_at": zoned(_updated(world, session)),
        "last_message_at": zoned(world.last_said(name)),
    } | unknown(session)


def _message(world: World, row: Row) -> Row:
    notes = world.notes.get(row["id"], {})
    return {
        "id": row["id"],
        "content": row["content"],
        "sender_role": role(row["role"]),
        "media_type": notes.get("media_type", f"type-{row['messageType']}" if row["messageType"] else None),
        "media_url": notes.get("media_url"),
        "created_at": zoned(row["createdAt"]),
        "metadata": notes.get("metadata", {}),
    } | unknown(row)


def _created(world: World, fields: Mapping[str, Any], room: Room) -> Row:
    name, title, metadata = fields.get("user_id"), fields.get("title"), fields.get("metadata")
    if not isinstance(name, str) or not name:
        raise Refused(int(room.answers.lexicon_invalid), "user_id is required")
    if not isinstance(title, str | None) or not isinstance(metadata, dict | None):
        raise Refused(int(room.answers.lexicon_invalid), "title must be a string, and metadata an object")
    row = world.add_session(stamped(room.now()), status=0)
    world.note(row["id"], user=name, title=title, metadata=metadata or {})
    return _chat(world, row)


def _deleted(world: World, session_id: str, room: Room) -> Row:
    if session_id in world.joined:
        raise Refused(409, "Chat has an active websocket connection")
    world.remove_session(session_id)
    return {
        "success": True,
        "message": "Chat deleted successfully",
        "deleted_at": zoned(stamped(room.now())),
    }


def _updated(world: World, session: Row) -> str:
    times = (session["startTime"], session["endTime"], world.last_said(session["id"]))
    return max(time for time in times if time)


def _user(world: World, session_id: str) -> str:
    noted: str | None = world.notes.get(session_id, {}).get("user")
    return noted or user(session_id)


def _status(number: int) -> str:
    return _STATUSES[number] if 0 <= number < len(_STATUSES) else f"status-{number}"
