"""How LlamaCloud's chat API answers: seven endpoints, as its reference page and its own SDK have them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from zlib import crc32

import msgspec

from .answers import Answers
from .exchange import NOTHING, Answered, Asked, Refused, Room, Streamed, opened
from .faults import PAGE_FAULTS
from .llamacloud_events import history, in_parts, last_run, said, stop, wire
from .llamacloud_pages import page, updated
from .llamacloud_requests import first_message, invalid, new_session, page_size, turn
from .routes import Routes
from .table import Row
from .translated import stamped, unknown
from .world import World

NAME: Final = "llamacloud"
BASE: Final = ""
PREFIX: Final = "/api/v1/chat"
WRONG_SHAPES: Final = (
    b"null",
    b"[]",
    b'"ok"',
    b'{"detail":"Not Found"}',
    b'{"items":{"0":1},"next_page_token":7}',
    b'{"items":[{"session_id":[7]}],"next_page_token":null}',
    b'{"session_id":"a","last_updated_at":null,"events":"none"}',
)
FAILING: Final = "fail"
"""The prompt whose turn fails."""

_LONGEST_TITLE: Final = 40
_ROUTES: Final = Routes(
    PREFIX,
    {
        "GET ": "sessions",
        "POST ": "create",
        "GET {id}": "session",
        "DELETE {id}": "delete",
        "GET {id}/summary": "summary",
        "POST {id}/title": "title",
        "POST {id}/messages/stream": "stream",
    },
)
_LINE_ENDS: Final = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}

_json = msgspec.json.Encoder().encode


def kind(asked: Asked) -> str:
    """The endpoint *asked* is for: sessions, session, create, delete, summary, title, stream, or none."""
    return _ROUTES.kind(asked)


def session(asked: Asked) -> str:
    """The id of the session that is asked about, or an empty string."""
    return _ROUTES.step(asked, "id")


def secret(asked: Asked) -> str:
    """The key that came with a request."""
    scheme, _, key = asked.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def can_play(fault: str, asked: Asked) -> bool:
    """Whether *fault* makes sense for this request: only a listing can be paged wrongly."""
    if fault not in PAGE_FAULTS:
        return True
    return asked.kind == "sessions" and (fault == "empty-page" or bool(asked.query.get("page_token")))


def headers(asked: Asked, room: Room) -> Mapping[str, str]:  # noqa: ARG001 - what any API may need
    """Nothing: its reference knows no rate limit."""
    return NOTHING


def answer(asked: Asked, room: Room, fault: str | None = None) -> Answered | Streamed:
    """The answer to *asked*; *fault* is one of those that happen inside a page."""
    try:
        return _answer(asked, room, _world(asked, room), fault)
    except Refused as no:
        if "detail" in no.fields and room.answers.errors != "bare":
            return Answered(no.code, _json(no.fields))
        return refusal(no.code, no.message, asked, room.answers)


def refusal(
    code: int,
    message: str,
    asked: Asked,  # noqa: ARG001 - what any API may need
    answers: Answers,
    wait: float | None = None,
) -> Answered:
    """A failure, always told by status, with its words as the ``detail``; *wait* is its ``Retry-After``."""
    headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
    if answers.errors == "bare":
        return Answered(code, message.encode(), "text/plain", headers)
    return Answered(code, _json({"detail": message}), headers=headers)


def _world(asked: Asked, room: Room) -> World:
    if not asked.kind:
        raise _ROUTES.refused(asked)
    key = secret(asked)
    if key == "expired":
        raise Refused(403, "API key expired")
    world = opened(key, room)
    if world is None:
        raise Refused(401, "Invalid authentication token")
    return world


def _answer(asked: Asked, room: Room, world: World, fault: str | None) -> Answered | Streamed:
    answers = room.answers
    if asked.kind == "sessions":
        return Answered(200, _listed(asked, world, answers, fault))
    if asked.kind == "create":
        fields = new_session(asked)
        name = world.add_session(stamped(room.now()), status=0)["id"]
        world.note(name, **fields)
        return Answered(200, _json(_summary(world, name, answers)))
    name = session(asked)
    if world.session_row(name) is None:
        raise Refused(404, "Session not found")
    match asked.kind:
        case "stream":
            return _stream(asked, name, room, world)
        case "delete":
            world.remove_session(name)
            return Answered(204, b"")
        case "title":
            world.note(name, title=_title(first_message(asked)))
        case "session":
            return Answered(200, _json(_whole(world, name, answers)))
    return Answered(200, _json(_summary(world, name, answers)))


def _summary(world: World, name: str, answers: Answers) -> Row:
    row, rows = world.session_row(name) or {}, world.message_table(name).rows
    kept = _made_up(name, rows) | world.notes.get(name, {})
    told: Row = {
        "session_id": name,
        "last_updated_at": updated(world, row),
        "generated_title": kept["title"],
        "index_ids": kept["index_ids"],
        "job_metadata": last_run(rows, world.notes),
    }
    if answers.llamacloud_shared_access:
        told["shared_access"] = kept["shared_access"]
    return told | unknown(row)


def _whole(world: World, name: str, answers: Answers) -> Row:
    skips, deltas = answers.llamacloud_shared_access, answers.llamacloud_deltas_in_history
    events = history(world.message_table(name).rows, world.notes, skips=skips, deltas=deltas)
    return {"events": events, **_summary(world, name, answers)}


def _made_up(name: str, rows: Sequence[Row]) -> Row:
    """What a session is noted for, where nothing was noted."""
    dice = crc32(name.encode())
    first = next((each["content"] for each in rows if each["role"] == 0), None)
    return {
        "title": _title(first) if first is not None and dice % 4 else None,
        "index_ids": [f"index-{dice // 3 % 50 + each}" for each in range(dice % 3)] or None,
        "shared_access": "query" if dice % 5 == 0 else "read_only",
    }


def _title(message: str) -> str:
    return " ".join(message.split())[:_LONGEST_TITLE] or "New chat"


def _listed(asked: Asked, world: World, answers: Answers, fault: str | None) -> bytes:
    size, token = page_size(asked.query, answers), asked.query.get("page_token", "")
    try:
        names, following = page(world, size, token, answers, fault)
    except ValueError:
        raise invalid(("query", "page_token"), "Invalid page token", "value_error") from None
    listed: Row = {"items": [_summary(world, name, answers) for name in names]}
    if following or answers.last_cursor == "empty":
        listed["next_page_token"] = following
    elif answers.last_cursor == "null":
        listed["next_page_token"] = None
    return _json(listed)


def _stream(asked: Asked, name: str, room: Room, world: World) -> Streamed:
    """One more turn: it is in the world as soon as it is asked for, however much of it arrives."""
    prompt, skipped, all_needed = turn(asked)
    error = "The turn failed" if prompt == FAILING else None
    if skipped and all_needed:
        error = f"Indexes that cannot be queried: {', '.join(skipped)}"
    row = _say(world, name, prompt, room.now())
    events = said(row)
    if error is None:
        row = _say(world, name, f"You asked: {prompt}", room.now(), role=1)
        events += said(row)
    if error or skipped:
        world.note(row["id"], stop={"error": error, "skipped_index_ids": skipped or None})
    events.append(stop(row, world.notes, skips=room.answers.llamacloud_shared_access))
    pieces = wire(in_parts(events), _LINE_ENDS[room.answers.llamacloud_line_ends])
    return Streamed(200, "text/event-stream", list(pieces))


def _say(world: World, name: str, content: str, now: datetime, role: int = 0) -> Row:
    """One more message, a second after the one before: those of one second stand in the order of ids."""
    moment, latest = stamped(now), world.last_said(name)
    if latest is not None:
        moment = max(moment, (datetime.fromisoformat(latest) + timedelta(seconds=1)).isoformat(" "))
    return world.add_message(name, content, role=role, created_at=moment)
