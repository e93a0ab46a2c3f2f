"""How LlamaCloud's chat API answers: seven endpoints, as its reference page and its own SDK have them."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from weakref import WeakKeyDictionary
from zlib import crc32

import msgspec

from .answers import Answers
from .exchange import NOTHING, Answered, Asked, Refused, Room, Streamed, opened
from .faults import PAGE_FAULTS
from .llamacloud_events import Event, history, in_parts, last_run, said, stop, wire
from .table import Key, Row
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
    b'{"items":[{"session_id":7}],"next_page_token":null}',
    b'{"session_id":"a","last_updated_at":null,"events":"none"}',
)
MOST_PROMPT: Final = 1_000
MOST_INDEXES: Final = 10
UNKNOWN_INDEX: Final = "unknown"
"""How the id of an index begins that the sandbox has not; it has all others."""
FAILING: Final = "fail"
"""The prompt whose turn fails."""

_USUAL_PAGE: Final = 20
_MOST_PAGE: Final = 100
_LONGEST_NUMBER: Final = 9
_LONGEST_TITLE: Final = 40
_KINDS: Final = {
    ("GET",): "sessions",
    ("POST",): "create",
    ("GET", ""): "session",
    ("DELETE", ""): "delete",
    ("GET", "summary"): "summary",
    ("POST", "title"): "title",
    ("POST", "messages/stream"): "stream",
}
_LINE_ENDS: Final = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}
_BEFORE_ALL: Final[Key] = ("", "")

_json = msgspec.json.Encoder().encode
_orders: WeakKeyDictionary[World, tuple[tuple[bool, int], list[Key]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Token:
    """Where a page left off: after the session of that *key*; *again* tells apart two that stand there."""

    key: Key
    again: int = 0

    def __str__(self) -> str:
        return urlsafe_b64encode(_json([*self.key, self.again])).decode()

    @classmethod
    def read(cls, text: str) -> "Token":
        """The token *text* was made from; `ValueError` when it is none of ours."""
        time, name, again = msgspec.json.decode(urlsafe_b64decode(text), type=tuple[str, str, int])
        return cls((time, name), again)


def kind(asked: Asked) -> str:
    """The endpoint *asked* is for, or an empty string."""
    steps = asked.steps(PREFIX)
    if steps and not steps[0]:
        return ""
    return _KINDS.get((asked.method, "/".join(steps[1:])) if steps else (asked.method,), "")


def session(asked: Asked) -> str:
    """The id of the session that is asked about, or an empty string."""
    return (asked.steps(PREFIX) or [""])[0]


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
        known = asked.steps(PREFIX)[1:] in ([], ["summary"], ["title"], ["messages", "stream"])
        raise Refused(405, "Method Not Allowed") if known else Refused(404, "Not Found")
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
        return Answered(200, _page(asked.query, world, answers, fault))
    if asked.kind == "create":
        return Answered(200, _json(_create(asked, room, world)))
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
            world.note(name, generated_title=_title(_text(_fields(asked), "first_message")))
        case "session":
            events = _history(world, name, answers)
            return Answered(200, _json(_summary(world, name, answers) | {"events": events}))
    return Answered(200, _json(_summary(world, name, answers)))


# What a session is told as ---------------------------------------------------------------------------------


def _history(world: World, name: str, answers: Answers) -> list[Event]:
    rows = world.message_table(name).rows
    return history(rows, world.notes, skips=answers.shared_access, deltas=answers.deltas_in_history)


def _summary(world: World, name: str, answers: Answers) -> Row:
    row, rows = world.session_row(name) or {}, world.message_table(name).rows
    dice = crc32(name.encode())
    first = next((each["content"] for each in rows if each["role"] == 0), None)
    told: Row = {
        "session_id": name,
        "last_updated_at": _updated(world, row),
        "generated_title": _title(first) if first is not None and dice % 4 else None,
        "index_ids": [f"index-{dice // 3 % 50 + each}" for each in range(dice % 3)] or None,
        "job_metadata": last_run(rows, world.notes),
        "shared_access": "query" if dice % 5 == 0 else "read_only",
    }
    told |= unknown(row)
    told |= {field: value for field, value in world.notes.get(name, {}).items() if field in told}
    if not answers.shared_access:
        del told["shared_access"]
    return told


def _title(first_message: str) -> str:
    return " ".join(first_message.split())[:_LONGEST_TITLE] or "New chat"


def _updated(world: World, row: Row) -> str:
    """When a session was last updated: it began, it ended, or something was said; each change is told apart."""
    name = row["id"]
    moment: str = max(row["startTime"], row["endTime"] or "", world.last_said(name) or "")
    return f"{moment.replace(' ', 'T')}.{crc32(name.encode()) % 500_000 + world.changes[name]:06d}"


# The listing -----------------------------------------------------------------------------------------------


def _page(query: Mapping[str, str], world: World, answers: Answers, fault: str | None) -> bytes:
    size, text = _page_size(query, answers), query.get("page_token")
    token = _token(text) if text else None
    keys, backwards = _order(world, answers), answers.sessions_order == "newest"
    if fault == "empty-page":
        here = token or Token(("\uffff", "\uffff") if backwards else _BEFORE_ALL)
        return _encoded([], str(Token(here.key, here.again + 1)), answers)
    if backwards:
        reach = bisect_left(keys, token.key) if token else len(keys)
        found, more = keys[max(0, reach - size) : reach][::-1], reach > size
        earlier = keys[reach + size : reach + size + 1]
    else:
        begin = bisect_right(keys, token.key) if token else 0
        found, more = keys[begin : begin + size], begin + size < len(keys)
        earlier = keys[max(0, begin - size - 1) : max(0, begin - size)]
    following: str | None = None
    if fault == "repeat-cursor":
        following = text
    elif fault == "cycle":
        following = str(Token(earlier[0] if earlier else ("\uffff", "\uffff") if backwards else _BEFORE_ALL))
    elif found and (more or answers.cursor_on_last_page):
        following = str(Token(found[-1]))
    return _encoded([_summary(world, name, answers) for _, name in found], following, answers)


def _order(world: World, answers: Answers) -> list[Key]:
    """The sessions in the order they are listed in, or the reverse of it when the newest comes first."""
    kept = _orders.get(world)
    state = (answers.sessions_order == "id", world.changes.total())
    if kept is None or kept[0] != state:
        rows = world.session_table.rows
        keys = [("" if state[0] else _updated(world, row), row["id"]) for row in rows]
        kept = _orders[world] = state, sorted(keys)
    return kept[1]


def _encoded(items: list[Row], following: str | None, answers: Answers) -> bytes:
    page: Row = {"items": items}
    if following is not None:
        page["next_page_token"] = following
    elif answers.last_cursor != "missing":
        page["next_page_token"] = None if answers.last_cursor == "null" else ""
    return _json(page)


def _page_size(query: Mapping[str, str], answers: Answers) -> int:
    text = query.get("page_size", str(_USUAL_PAGE))
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= _LONGEST_NUMBER):
        raise _invalid(("query", "page_size"), "Input should be a valid integer", "int_parsing")
    size = int(text)
    if size < 1:
        raise _invalid(("query", "page_size"), "Input should be at least 1", "greater_than_equal")
    if size > _MOST_PAGE and answers.over_limit == "refuse":
        raise _invalid(("query", "page_size"), f"Input should be at most {_MOST_PAGE}", "less_than_equal")
    return min(size, _MOST_PAGE, answers.max_page or _MOST_PAGE)


def _token(text: str) -> Token:
    try:
        return Token.read(text)
    except ValueError:
        raise _invalid(("query", "page_token"), "Invalid page token", "value_error") from None


# Writing ---------------------------------------------------------------------------------------------------


def _create(asked: Asked, room: Room, world: World) -> Row:
    fields = _fields(asked)
    index_ids = _texts(fields, "index_ids") if fields.get("index_ids") is not None else None
    access = fields.get("shared_access")
    if access not in {None, "query", "read_only"}:
        raise _invalid(("body", "shared_access"), "Input should be 'query' or 'read_only'", "literal_error")
    name = world.add_session(room.now(), status=0)["id"]
    world.note(name, index_ids=index_ids, shared_access=access or "read_only")
    return _summary(world, name, room.answers)


def _stream(asked: Asked, name: str, room: Room, world: World) -> Streamed:
    """One more turn: it is in the world as soon as it is asked for, however much of it arrives."""
    prompt, skipped, all_needed = _turn(_fields(asked))
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
    events.append(stop(row, world.notes, skips=room.answers.shared_access))
    pieces = wire(in_parts(events), _LINE_ENDS[room.answers.line_ends])
    return Streamed(200, "text/event-stream", list(pieces))


def _say(world: World, name: str, content: str, now: datetime, role: int = 0) -> Row:
    """One more message, at least a second after the one before: of one second, the ids would give the order."""
    latest = datetime.fromisoformat(world.last_said(name) or stamped(now)) + timedelta(seconds=1)
    return world.add_message(name, content, role=role, created_at=max(stamped(now), stamped(latest)))


def _turn(fields: Row) -> tuple[str, list[str], bool]:
    """The prompt, the indexes that there are not, and whether all are needed."""
    prompt, index_ids = _text(fields, "prompt"), _texts(fields, "index_ids")
    all_needed = fields.get("require_all_indexes", False)
    if len(prompt) > MOST_PROMPT:
        too_long = f"String should have at most {MOST_PROMPT} characters"
        raise _invalid(("body", "prompt"), too_long, "string_too_long")
    if len(index_ids) > MOST_INDEXES:
        raise _invalid(("body", "index_ids"), f"List should have at most {MOST_INDEXES} items", "too_long")
    if not isinstance(all_needed, bool):
        raise _invalid(("body", "require_all_indexes"), "Input should be a valid boolean", "bool_parsing")
    return prompt, [each for each in index_ids if each.startswith(UNKNOWN_INDEX)], all_needed


def _fields(asked: Asked) -> dict[str, Any]:
    try:
        return msgspec.json.decode(asked.body or b"null", type=dict[str, Any])
    except msgspec.ValidationError:
        raise _invalid(("body",), "Input should be a valid object", "model_attributes_type") from None
    except msgspec.DecodeError:
        raise _invalid(("body",), "JSON decode error", "json_invalid") from None


def _text(fields: Row, name: str) -> str:
    value = _required(fields, name)
    if not isinstance(value, str):
        raise _invalid(("body", name), "Input should be a valid string", "string_type")
    return value


def _texts(fields: Row, name: str) -> list[str]:
    value = _required(fields, name)
    if not isinstance(value, list):
        raise _invalid(("body", name), "Input should be a valid list", "list_type")
    for number, each in enumerate(value):
        if not isinstance(each, str):
            raise _invalid(("body", name, number), "Input should be a valid string", "string_type")
    return value


def _required(fields: Row, name: str) -> Any:
    if name not in fields:
        raise _invalid(("body", name), "Field required", "missing")
    return fields[name]


def _invalid(where: tuple[str | int, ...], message: str, name: str) -> Refused:
    """What cannot be validated, told in the way of the framework the API is made with."""
    return Refused(422, message, detail=[{"loc": list(where), "msg": message, "type": name}])
