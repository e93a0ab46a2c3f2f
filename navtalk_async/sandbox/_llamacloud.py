"""LlamaCloud's chat API: seven endpoints, as its reference page and its own SDK have them.

A session is the events of its turns. What an answer thought and which tools it called follows from the id of
its message, so an event is the same whenever it is asked for.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec

from ._api import Answers, Api, Refused, SandboxRequest, SandboxResponse
from ._generated import Row, share, unknown_fields
from ._world import Cursor, RowKey, World

T = TypeVar("T")
_FAILING: Final = "fail"  # the prompt whose turn fails
_UNKNOWN_INDEX: Final = "unknown"  # the sandbox has every index but those whose ids begin so
_MOST_ROWS: Final = 100
_LONGEST_TITLE: Final = 40
_LINE_ENDS: Final = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}
# No time sorts before the empty one, and none after the tilde.
_BEFORE_ALL: Final = Cursor(("", ""))
_AFTER_ALL: Final = Cursor(("~", ""))

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


class _SizeQuery(msgspec.Struct):
    page_size: Annotated[int, msgspec.Meta(ge=1)] = 20


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
    next_cursor = "next_page_token"
    wrong_key = (401, "Invalid authentication token")
    expired_key = (403, "API key expired")
    not_found = "Session not found"

    def key_of(self, request: SandboxRequest) -> str:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def body(self, request: SandboxRequest, kind: type[T]) -> T:
        try:
            msgspec.json.decode(request.body, type=dict)
        except msgspec.DecodeError as error:
            raise self.invalid(["body"], str(error), request.answers) from None
        return super().body(request, kind)

    def invalid(self, place: Sequence[str | int], problem: str, answers: Answers) -> Refused:  # noqa: ARG002
        return Refused(422, problem, detail=[{"loc": place, "msg": problem, "type": "value_error"}])

    def error_body(self, refused: Refused, answers: Answers) -> Row:  # noqa: ARG002
        return {"detail": refused.message, **refused.fields}

    def sessions(self, request: SandboxRequest) -> Row:
        asked = self.parameters(request, _SizeQuery).page_size
        size, world = self.page_size(request, "page_size", asked, _MOST_ROWS), request.world
        order, is_down = request.answers.llamacloud_order, request.answers.llamacloud_order == "newest"

        def key(row: Row) -> RowKey:
            return "" if order == "id" else _updated_at(world, row), row["id"]

        rows = world.derived(
            ("llamacloud", order), lambda: sorted(world.session_rows, key=key, reverse=is_down)
        )
        first = _AFTER_ALL if is_down else _BEFORE_ALL
        page, following = self.cursor_page(request, rows, key, size, first, is_down=is_down)
        return {"items": [self._summary(row, request) for row in page], **following}

    def create(self, request: SandboxRequest) -> Row:
        new = self.body(request, _NewSession)
        shared = new.shared_access or "read_only"
        return self._summary(self.begin(request, index_ids=new.index_ids, shared_access=shared), request)

    def session(self, request: SandboxRequest) -> Row:
        events: Iterable[Row] = history(request.world.message_rows(request.row["id"]), request.world.notes)
        if request.answers.llamacloud_deltas_in_history:
            events = with_deltas(events)
        return {"events": [_of_era(each, request) for each in events], **self.summary(request)}

    def summary(self, request: SandboxRequest) -> Row:
        return self._summary(request.row, request)

    def title(self, request: SandboxRequest) -> Row:
        message = self.body(request, _NewTitle).first_message
        request.world.note(request.row["id"], title=_title(message))
        return self.summary(request)

    def delete(self, request: SandboxRequest) -> None:
        request.world.remove_session(request.row["id"])

    def stream(self, request: SandboxRequest) -> SandboxResponse:
        """One more turn: it is in the world as soon as it is asked for, however much of it arrives."""
        turn, world = self.body(request, _Turn), request.world
        skipped = [each for each in turn.index_ids if each.startswith(_UNKNOWN_INDEX)]
        error = "The turn failed" if turn.prompt == _FAILING else None
        if skipped and turn.require_all_indexes:
            error = f"Indexes that cannot be queried: {', '.join(skipped)}"
        said = [self.say(request, turn.prompt, _USER)]
        if not error:
            said.append(self.say(request, f"You asked: {turn.prompt}", _ASSISTANT))
        if error or skipped:
            world.note(said[-1]["id"], stop={"error": error, "skipped_index_ids": skipped or None})
        events = [event for row in said for event in message_events(row)]
        events.append(_of_era(stop(said[-1], world.notes), request))
        line_end = _LINE_ENDS[request.answers.llamacloud_line_ends]
        return SandboxResponse.stream(list(event_stream(with_deltas(events), line_end)))

    def _summary(self, session: Row, request: SandboxRequest) -> Row:
        name, world = session["id"], request.world
        rows, dice = world.message_rows(name), share(name, 1 << 32)
        first = next((each["content"] for each in rows if each["role"] == _USER), None)
        indexes = [f"index-{dice // 3 % 50 + each}" for each in range(dice % 3)] or None
        title = _title(first) if first is not None and dice % 4 else None
        summary: Row = {
            "session_id": name,
            "last_updated_at": _updated_at(world, session).replace(" ", "T"),
            "generated_title": world.noted(name, "title", title),
            "index_ids": world.noted(name, "index_ids", indexes),
            "job_metadata": last_run(rows, world.notes),
        }
        if request.answers.llamacloud_shared_access:
            access = "query" if dice % 5 == 0 else "read_only"
            summary["shared_access"] = world.noted(name, "shared_access", access)
        return summary | unknown_fields(session)


def _of_era(event: Row, request: SandboxRequest) -> Row:
    if not request.answers.llamacloud_shared_access:
        event.pop("skipped_index_ids", None)
    return event


def _title(message: str) -> str:
    return " ".join(message.split())[:_LONGEST_TITLE] or "New chat"


def _updated_at(world: World, session: Row) -> str:
    """When a session last changed; the microseconds tell each change from the last."""
    name = session["id"]
    return f"{world.last_change_time(session)}.{share(name, 500_000) + world.changes[name]:06d}"


def history(rows: Sequence[Row], notes: Row) -> list[Row]:
    """The events of a whole session; *notes* has, by a message's id, how the turn it ended went."""
    found: list[Row] = []
    for row, following in zip_longest(rows, rows[1:]):
        found += message_events(row)
        if ends_turn(row, following, notes):
            found.append(stop(row, notes))
    return found


def last_run(rows: Sequence[Row], notes: Row) -> Row | None:
    """How the latest turn that came to its end went, as a summary has it; None when there was none."""
    ends = [row for row, following in zip_longest(rows, rows[1:]) if ends_turn(row, following, notes)]
    if not ends:
        return None
    ended, exported = stop(ends[-1], notes), ["export-config-1"] if _dice(ends[-1]) % 5 == 0 else None
    shown = {name: ended[name] for name in ("error", "is_error")}
    return {**ended["usage"], **shown, "export_config_ids": exported}


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
    dice, text = _dice(row), {"type": "text", "content": content} | more
    thoughts = [] if dice % 2 else [{"type": "thinking", "content": _THOUGHTS[dice // 2 % len(_THOUGHTS)]}]
    return [*thoughts, *_tool_events(dice), text]


def stop(row: Row, notes: Row) -> Row:
    note = notes.get(row["id"], {}).get("stop", {})
    dice, error = _dice(row), note.get("error")
    return {
        "type": "stop",
        "error": error,
        "is_error": error is not None,
        "usage": {
            "duration_ms": 250 + dice % 40_000 / 8,
            "total_input_tokens": 20 + dice % 4_001,
            "total_output_tokens": 0 if error else 1 + dice % 997,
            "turns": 1 if error or dice % 3 else 2,
        },
        "skipped_index_ids": note.get("skipped_index_ids"),
    }


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


def _tool_events(dice: int) -> list[Row]:
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
