"""LlamaCloud's chat API: seven endpoints, as its reference page and its own SDK have them.

A session is the events of its turns. What an answer thought and which tools it called follows from the id of
its message, so an event is the same whenever it is asked for.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec

from ._answers import Answers
from ._api import Api, ApiContext, Refused, SandboxRequest, SandboxResponse
from ._rows import Cursor, Row, RowKey, next_time, row_time, share, unknown_fields
from ._world import World

T = TypeVar("T")
_FAILING: Final = "fail"  # the prompt whose turn fails
_UNKNOWN_INDEX: Final = "unknown"  # the sandbox has every index but those whose ids begin so
_MOST_ROWS: Final = 100
_LONGEST_TITLE: Final = 40
_LINE_ENDS: Final = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}
# No time sorts before the empty one, and none after the tilde.
_BEFORE_ALL: Final[RowKey] = ("", "")
_AFTER_ALL: Final[RowKey] = ("~", "")

_USER: Final = 0
_ASSISTANT: Final = 1
_THOUGHTS: Final = (
    "The user may mean the invoice, or the order.",
    "質問の意図を確認する。\nThen look at the sources.",
    "",
    "First the plan:\r\n1. search\r\n2. read \u2028 3. answer",
)
_RESULTS: Final[tuple[Any, ...]] = (
    [{"text": "Clause 7: thirty days.", "score": 0.75, "page": None}],
    "no match",
    {"rows": [[1, "ü"], [2, None]], "more": False},
    None,
    7,
)
_DELTAS: Final = 40
_PING: Final = 4


class _NewSession(msgspec.Struct):
    index_ids: list[str] | None = None
    shared_access: Literal["query", "read_only"] | None = None


class _NewTitle(msgspec.Struct):
    first_message: str


class _Turn(msgspec.Struct):
    prompt: Annotated[str, msgspec.Meta(max_length=1_000)]
    index_ids: Annotated[list[str], msgspec.Meta(max_length=10)]
    require_all_indexes: bool = False


class _PageQuery(msgspec.Struct):
    page_size: Annotated[int, msgspec.Meta(ge=1)] = 20
    page_token: str = ""


class LlamaCloudApi(Api):
    """LlamaCloud, whose messages are events, and which says what a request lacks as FastAPI says it."""

    name = "llamacloud"
    prefix = "/api/v1/chat"
    routes: ClassVar = {
        "GET ": "sessions",
        "POST ": "create",
        "GET /{id}": "session",
        "DELETE /{id}": "delete",
        "GET /{id}/summary": "summary",
        "POST /{id}/title": "title",
        "POST /{id}/messages/stream": "stream",
    }
    paged = frozenset({"sessions"})
    cursor = "page_token"
    wrong_key = (401, "Invalid authentication token")
    expired_key = (403, "API key expired")
    not_found = "Session not found"

    def key_of(self, request: SandboxRequest) -> str:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def body(self, request: SandboxRequest, context: ApiContext, kind: type[T]) -> T:
        try:
            msgspec.json.decode(request.body, type=dict)
        except msgspec.DecodeError as error:
            raise self.invalid(["body"], str(error), context.answers) from None
        return super().body(request, context, kind)

    def invalid(self, place: Sequence[str | int], problem: str, answers: Answers) -> Refused:  # noqa: ARG002
        return Refused(422, problem, detail=[{"loc": place, "msg": problem, "type": "value_error"}])

    def error_body(self, refused: Refused, answers: Answers) -> Row:  # noqa: ARG002
        return {"detail": refused.message, **refused.fields}

    def sessions(self, request: SandboxRequest, context: ApiContext) -> Row:
        query, answers = self.parameters(request, context, _PageQuery), context.answers
        if query.page_size > _MOST_ROWS and answers.over_limit == "refuse":
            raise self.invalid(["query", "page_size"], f"Expected `int` <= {_MOST_ROWS}", answers)
        try:
            cursor = Cursor.read(query.page_token) if query.page_token else None
        except ValueError:
            raise self.invalid(["query", "page_token"], "Invalid page token", answers) from None
        size = min(query.page_size, _MOST_ROWS, answers.max_page or _MOST_ROWS)
        names, following = _page(request.world, size, cursor, answers, request.fault)
        page: Row = {"items": [_summary(request.world, name, answers) for name in names]}
        if following or answers.last_cursor == "empty":
            page["next_page_token"] = following
        elif answers.last_cursor == "null":
            page["next_page_token"] = None
        return page

    def create(self, request: SandboxRequest, context: ApiContext) -> Row:
        new, world = self.body(request, context, _NewSession), request.world
        name = world.add_session(row_time(context.now()), status=0)["id"]
        world.note(name, index_ids=new.index_ids, shared_access=new.shared_access or "read_only")
        return _summary(world, name, context.answers)

    def session(self, request: SandboxRequest, context: ApiContext) -> Row:
        world, name, answers = request.world, request.row["id"], context.answers
        rows, skips = world.message_table(name).rows, answers.llamacloud_shared_access
        events = history(rows, world.notes, skips=skips, deltas=answers.llamacloud_deltas_in_history)
        return {"events": events, **_summary(world, name, answers)}

    def summary(self, request: SandboxRequest, context: ApiContext) -> Row:
        return _summary(request.world, request.row["id"], context.answers)

    def title(self, request: SandboxRequest, context: ApiContext) -> Row:
        message = self.body(request, context, _NewTitle).first_message
        request.world.note(request.row["id"], title=_title(message))
        return self.summary(request, context)

    def delete(self, request: SandboxRequest, context: ApiContext) -> None:  # noqa: ARG002
        request.world.remove_session(request.row["id"])

    def stream(self, request: SandboxRequest, context: ApiContext) -> SandboxResponse:
        """One more turn: it is in the world as soon as it is asked for, however much of it arrives."""
        turn, world, name = self.body(request, context, _Turn), request.world, request.row["id"]
        skipped = [each for each in turn.index_ids if each.startswith(_UNKNOWN_INDEX)]
        error = "The turn failed" if turn.prompt == _FAILING else None
        if skipped and turn.require_all_indexes:
            error = f"Indexes that cannot be queried: {', '.join(skipped)}"
        texts = [turn.prompt] if error else [turn.prompt, f"You asked: {turn.prompt}"]
        events: list[Row] = []
        for role, text in enumerate(texts):
            time = next_time(world.last_message_time(name), context.now())
            row = world.add_message(name, text, role=role, created_at=time)
            events += message_events(row)
        if error or skipped:
            world.note(row["id"], stop={"error": error, "skipped_index_ids": skipped or None})
        events.append(stop(row, world.notes, skips=context.answers.llamacloud_shared_access))
        pieces = event_stream(with_deltas(events), _LINE_ENDS[context.answers.llamacloud_line_ends])
        return SandboxResponse.stream(list(pieces))


def _summary(world: World, name: str, answers: Answers) -> Row:
    row, rows = world.session_row(name) or {}, world.message_table(name).rows
    noted = _made_up_notes(name, rows) | world.notes.get(name, {})
    summary: Row = {
        "session_id": name,
        "last_updated_at": _updated(world, row).replace(" ", "T"),
        "generated_title": noted["title"],
        "index_ids": noted["index_ids"],
        "job_metadata": last_run(rows, world.notes),
    }
    if answers.llamacloud_shared_access:
        summary["shared_access"] = noted["shared_access"]
    return summary | unknown_fields(row)


def _made_up_notes(name: str, rows: Sequence[Row]) -> Row:
    dice = share(name, 1 << 32)
    first = next((each["content"] for each in rows if each["role"] == 0), None)
    return {
        "title": _title(first) if first is not None and dice % 4 else None,
        "index_ids": [f"index-{dice // 3 % 50 + each}" for each in range(dice % 3)] or None,
        "shared_access": "query" if dice % 5 == 0 else "read_only",
    }


def _title(message: str) -> str:
    return " ".join(message.split())[:_LONGEST_TITLE] or "New chat"


def _updated(world: World, row: Row) -> str:
    """When a session last began, ended or got a message; the microseconds tell each change from the last."""
    name = row["id"]
    moment = max(row["startTime"], row["endTime"] or "", world.last_message_time(name) or "")
    return f"{moment}.{share(name, 500_000) + world.changes[name]:06d}"


def _keys(world: World, *, by_id: bool) -> list[RowKey]:
    rows = world.session_table.rows
    return sorted(("" if by_id else _updated(world, row), row["id"]) for row in rows)


def _page(
    world: World, size: int, cursor: Cursor | None, answers: Answers, fault: str | None
) -> tuple[list[str], str]:
    is_newest_first, by_id = answers.llamacloud_order == "newest", answers.llamacloud_order == "id"
    start = Cursor(_AFTER_ALL if is_newest_first else _BEFORE_ALL)
    here = cursor or start
    if fault == "empty-page":
        return [], str(Cursor(here.key, again=here.again + 1))
    keys = world.derived(("llamacloud", by_id), lambda: _keys(world, by_id=by_id))
    if is_newest_first:
        begin, keys = len(keys) - bisect_left(keys, here.key), keys[::-1]
    else:
        begin = bisect_right(keys, here.key)
    found, more = keys[begin : begin + size], begin + size < len(keys)
    following = ""
    if fault == "repeat-cursor":
        following = str(here)
    elif fault == "cycle":
        following = str(Cursor(keys[begin - size - 1]) if begin > size else start)
    elif found and (more or answers.cursor_on_last_page):
        following = str(Cursor(found[-1]))
    return [name for _, name in found], following


def history(rows: Sequence[Row], notes: Row, *, skips: bool, deltas: bool = False) -> list[Row]:
    """The events of a whole session; *notes* has, by a message's id, how the turn it ended went.

    *skips* is whether a stop says which indexes it left out, *deltas* whether the parts a text came in are
    kept beside it.
    """
    found: list[Row] = []
    for row, following in zip_longest(rows, rows[1:]):
        found += message_events(row)
        if ends_turn(row, following, notes):
            found.append(stop(row, notes, skips=skips))
    return list(with_deltas(found)) if deltas else found


def last_run(rows: Sequence[Row], notes: Row) -> Row | None:
    """How the latest turn that came to its end went, as a summary has it; None when there was none."""
    following = None
    for row in reversed(rows):
        if ends_turn(row, following, notes):
            ended = stop(row, notes, skips=False)
            exported = ["export-config-1"] if _dice(row) % 5 == 0 else None
            shown = {"error": ended["error"], "is_error": ended["is_error"], "export_config_ids": exported}
            return {**ended["usage"], **shown}
        following = row
    return None


def ends_turn(row: Row, following: Row | None, notes: Row) -> bool:
    """Whether a stop comes after *row*: after the last message of an answer, or a prompt that failed."""
    answered = row["role"] == _ASSISTANT and (following is None or following["role"] != _ASSISTANT)
    return answered or "stop" in notes.get(row["id"], {})


def message_events(row: Row) -> list[Row]:
    """The events of one message; what a row has beside the documented fields goes along."""
    more, role, content = unknown_fields(row), row["role"], row["content"]
    if role == _USER:
        return [{"type": "user_input", "content": content} | more]
    if role != _ASSISTANT:
        return [{"type": "annotation", "content": content, "role": role} | more]
    return [*_thinking(_dice(row)), *_tools(_dice(row)), {"type": "text", "content": content} | more]


def stop(row: Row, notes: Row, *, skips: bool) -> Row:
    note = notes.get(row["id"], {}).get("stop", {})
    dice, error = _dice(row), note.get("error")
    event: Row = {
        "type": "stop",
        "error": error,
        "is_error": error is not None,
        "usage": {
            "duration_ms": 250 + dice % 40_000 / 8,
            "total_input_tokens": 20 + dice % 4_001,
            "total_output_tokens": 0 if error else 1 + dice % 997,
            "turns": 1 if error or dice % 3 else 2,
        },
    }
    return event | {"skipped_index_ids": note.get("skipped_index_ids")} if skips else event


def with_deltas(events: Iterable[Row]) -> Iterator[Row]:
    """The *events*, each text and each thinking after the deltas it came in."""
    for event in events:
        if event["type"] in {"text", "thinking"}:
            content = event["content"]
            size = 7 + len(content) // _DELTAS
            for begin in range(0, len(content), size):
                yield {"type": event["type"] + "_delta", "content": content[begin : begin + size]}
        yield event


def event_stream(events: Iterable[Row], line_end: str) -> Iterator[bytes]:
    for number, event in enumerate(events):
        name = "delta" if event["type"].endswith("_delta") else "message"
        head = (": ping" + line_end * 2 if number % _PING == 0 else "") + f"event: {name}{line_end}data: "
        yield head.encode() + msgspec.json.encode(event) + line_end.encode() * 2


def _thinking(dice: int) -> list[Row]:
    if dice % 2:
        return []
    return [{"type": "thinking", "content": _THOUGHTS[dice // 2 % len(_THOUGHTS)]}]


def _tools(dice: int) -> list[Row]:
    if dice % 3:
        return []
    call = {"call_id": f"call_{dice:08x}", "name": "retrieve" if dice % 9 else "read_page"}
    page = {"attachment_name": f"page_{dice % 50}.png", "source_id": f"source-{dice:08x}"}
    arguments = {"query": "refund terms", "top_k": dice % 8, "filters": {"year": [2025, None]}}
    return [
        {"type": "tool_call", "arguments": arguments if dice % 4 else {}} | call,
        {
            "type": "tool_result",
            "result": _RESULTS[dice // 3 % len(_RESULTS)],
            "image_attachment": page if dice % 9 == 0 else None,
        }
        | call,
    ]


def _dice(row: Row) -> int:
    return share(row["id"], 1 << 32)
