"""How the Kodey.ai chat API answers: six endpoints, as its reference page has them."""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import msgspec

from .answers import Answers
from .exchange import NOTHING, Answered, Asked, Refused, Room, opened
from .faults import PAGE_FAULTS
from .routes import Routes
from .table import Row
from .translated import following, role, share, stamped, unknown, user, zoned
from .world import World

NAME: Final = "kodey"
BASE: Final = ""
PREFIX: Final = "/chat"
WRONG_SHAPES: Final = (
    b"null",
    b"[]",
    b'"OK"',
    b'{"items":[],"total":0}',
    b'{"chats":{"0":1},"messages":{"0":1},"id":[7]}',
    b'{"chats":[{"id":[7]}],"messages":[{"id":[7],"createdAt":null}],"id":null}',
)

_ROUTES: Final = Routes(
    PREFIX,
    {
        "GET ": "sessions",
        "POST ": "create",
        "GET {id}": "session",
        "DELETE {id}": "delete",
        "GET {id}/message": "messages",
        "POST {id}/message": "send",
    },
)
_AGENT_TYPES: Final = ("support", "sales", "onboarding")
_NO_USER: Final = "anonymous"
_UPGRADE: Final[Mapping[str, Any]] = {
    "allowedEndpoints": ["GET /chat", "POST /chat", "GET /chat/:chatId", "POST /chat/:chatId/message"],
    "upgradeInstructions": "Use a secret key (sk_live_*) for this endpoint.",
}

_json = msgspec.json.Encoder().encode


def documented() -> World:
    """The world of the reference page: one chat in which every text is ``string``, and its one message."""
    world = World(sessions=0)
    world.add_session("2024-01-15 10:30:00", id="string")
    world.note("string", user="string", agent="string", team="string")
    world.add_message("string", "string", id="string", role=1)
    return world


def kind(asked: Asked) -> str:
    """The endpoint *asked* is for: sessions, session, messages, create, delete, send, or an empty string."""
    return _ROUTES.kind(asked)


def session(asked: Asked) -> str:
    """The id of the chat that is asked about, or an empty string."""
    return _ROUTES.step(asked, "id")


def secret(asked: Asked) -> str:
    """The key that came with a request."""
    return asked.headers.get("x-api-key", "")


def can_play(fault: str, asked: Asked) -> bool:  # noqa: ARG001 - what any API may need
    """Whether *fault* makes sense for this request: there are no pages, so none can be wrong."""
    return fault not in PAGE_FAULTS


def answer(asked: Asked, room: Room, fault: str | None = None) -> Answered:  # noqa: ARG001
    """The answer to *asked*; *fault* is None, since none of them happens inside a page."""
    try:
        data = _data(asked, _world(asked, room), room)
    except Refused as no:
        return _refusal(no.code, no.message, room.answers, no.fields)
    return Answered(204, b"") if data is None else Answered(200, _json(data))


def refusal(
    code: int,
    message: str,
    asked: Asked,  # noqa: ARG001 - what any API may need
    answers: Answers,
    wait: float | None = None,
) -> Answered:
    """A failure, told by status and in words; *wait* is the ``retryAfter`` of the body."""
    fields = {} if wait is None else {"retryAfter": int(wait) if wait == int(wait) else wait}
    return _refusal(code, message, answers, fields)


def headers(asked: Asked, room: Room) -> Mapping[str, str]:
    """How many requests may come, how many still, and the unix second when that begins anew."""
    if room.answers.kodey_limits:
        limit, window = _quota(secret(asked)), room.window(f"{NAME} {secret(asked)}", 60)
    elif room.rate is not None:
        limit, window = room.rate, room.window()
    else:
        return NOTHING
    left, seconds = window.left(room.ticks(), limit)
    over = room.now() + timedelta(seconds=seconds)
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(left),
        "X-RateLimit-Reset": str(ceil(over.timestamp())),
    }


def _refusal(code: int, message: str, answers: Answers, fields: Mapping[str, Any]) -> Answered:
    if answers.errors == "bare":
        return Answered(code, message.encode(), "text/plain")
    told = {"error": HTTPStatus(code).phrase, "message": message, **fields}
    if code == HTTPStatus.UNAUTHORIZED and answers.kodey_401 == "message":
        del told["error"]
    if code == HTTPStatus.FORBIDDEN:
        told |= _UPGRADE
    return Answered(code, _json(told))


def _quota(key: str) -> int:
    return 100 if key.startswith("pk_live_") else 1_000


def _world(asked: Asked, room: Room) -> World:
    key = secret(asked)
    world = opened(key, room)
    if world is None or key == "expired":
        raise Refused(401, "Invalid or missing API key")
    if room.answers.kodey_limits:
        window, now = room.window(f"{NAME} {key}", 60), room.ticks()
        if not window.allows(now, _quota(key)):
            wait = ceil(window.left(now, _quota(key))[1])
            raise Refused(429, f"Rate limit exceeded. Try again in {wait} seconds.", retryAfter=wait)
    if not asked.kind:
        raise _ROUTES.refused(asked)
    if asked.kind == "delete" and key.startswith("pk_live_limited"):
        raise Refused(403, "This endpoint is not available to publishable keys")
    return world


def _data(asked: Asked, world: World, room: Room) -> dict[str, Any] | None:
    if asked.kind == "sessions":
        return {"chats": _chats(world, asked.query, room.answers)}
    if asked.kind == "create":
        return _created(world, asked.fields(), room)
    row = world.session_row(session(asked))
    if row is None:
        raise Refused(404, "Chat not found")
    match asked.kind:
        case "delete":
            world.remove_session(row["id"])
            return None
        case "send":
            return _reply(world, row["id"], asked.fields(), room)
        case "messages":
            return {"messages": _messages(world, row["id"], room.answers)}
    return _chat(world, row, room.answers)


def _chats(world: World, query: Mapping[str, str], answers: Answers) -> list[Row]:
    rows = (_listed(world, session, answers) for session in world.session_table.rows)
    wanted = [
        row
        for row in rows
        if query.get("userId") in {None, row.get("userId")}
        and query.get("agentType") in {None, _agent_type(row["agentId"])}
    ]
    return _ordered(wanted, answers)


def _ordered(rows: list[Row], answers: Answers) -> list[Row]:
    if answers.kodey_order == "none":
        return sorted(rows, key=lambda row: share(row["id"], 1 << 32))
    return rows if answers.kodey_order == "asc" else rows[::-1]


def _listed(world: World, session: Row, answers: Answers) -> Row:
    name = session["id"]
    row = {"id": name, "agentId": _agent(world, name), "userId": _user(world, name)}
    if row["userId"] is None and answers.kodey_user != "null":
        row["userId"] = _NO_USER
        if answers.kodey_user == "missing":
            del row["userId"]
    return row | {"createdAt": zoned(session["startTime"])} | unknown(session)


def _chat(world: World, session: Row, answers: Answers) -> Row:
    name = session["id"]
    said = _messages(world, name, answers) if answers.kodey_messages == "all" else []
    row = {"id": name, "agentId": _agent(world, name), "teamId": _team(world, name), "messages": said}
    if answers.kodey_messages == "missing":
        del row["messages"]
    return row | {"createdAt": zoned(session["startTime"])} | unknown(session)


def _messages(world: World, session_id: str, answers: Answers) -> list[Row]:
    return _ordered([_said(row) for row in world.message_table(session_id).rows], answers)


def _said(row: Row) -> Row:
    return {
        "id": row["id"],
        "content": row["content"],
        "role": role(row["role"]),
        "createdAt": zoned(row["createdAt"]),
    } | unknown(row)


def _created(world: World, fields: Mapping[str, Any], room: Room) -> Row:
    agent, user_id, metadata = fields.get("agentId"), fields.get("userId"), fields.get("metadata", {})
    if not isinstance(agent, str) or not agent:
        raise Refused(400, "agentId is required")
    if not isinstance(user_id, str | None) or not isinstance(metadata, dict):
        raise Refused(400, "userId must be a string, and metadata an object")
    row = world.add_session(stamped(room.now()), status=0)
    name = row["id"]
    world.note(name, agent=agent, user=user_id, metadata=metadata)
    return {
        "id": name,
        "agentId": agent,
        "teamId": _team(world, name),
        "createdAt": zoned(row["startTime"]),
    }


def _reply(world: World, session_id: str, fields: Mapping[str, Any], room: Room) -> Row:
    content = fields.get("content")
    if not isinstance(content, str):
        raise Refused(400, "content is required")
    if fields.get("role", "user") != "user":
        raise Refused(400, "role must be user")
    for number, text in enumerate((content, f"You said: {content}")):
        time = following(world.last_said(session_id), room.now())
        row = world.add_message(session_id, text, role=number, created_at=time)
    return {"chatId": session_id} | _said(row)


def _agent(world: World, session_id: str) -> str:
    noted: str | None = world.notes.get(session_id, {}).get("agent")
    return noted or f"agent-{share(session_id, 3)}"


def _agent_type(agent: str) -> str:
    return _AGENT_TYPES[share(agent, len(_AGENT_TYPES))]


def _team(world: World, session_id: str) -> str:
    team: str = world.notes.get(session_id, {}).get("team", f"team-{world.seed}")
    return team


def _user(world: World, session_id: str) -> str | None:
    """Whose a chat is; one of seven that are made up was made without a user."""
    notes = world.notes.get(session_id, {})
    if "user" in notes:
        name: str | None = notes["user"]
        return name
    return None if share(session_id, 7) == 6 else user(session_id)
