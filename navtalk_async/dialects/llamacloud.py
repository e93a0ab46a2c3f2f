"""How LlamaCloud's chat API speaks (source: its reference, "Chat"; the `llama-cloud` SDK, 2.6 to 2.19).

The reference is of the time before `shared_access`: a session may have it or not. What happens in a session
comes event by event (source: "Get Full Session"), each of the kind that its `type` names:

    match event:
        case Text(content=content): ...
        case ToolCall(name=name, arguments=arguments): ...
        case Stop(is_error=True, error=error): ...

The reference has `type` as optional. An event without one is recognized by a field that only one kind has: a
tool's call, its result, and a stop. Any other event, or one without what its type needs, is an
`UnknownEvent`; nothing is refused, and every event keeps the JSON it came as.
The file is long because each kind of event has its struct here.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Literal, TypeAlias
from urllib.parse import unquote

import msgspec

from navtalk_async.dialects.answers import loads
from navtalk_async.dialects.arguments import Argument, a_text, checked_id, instance_of
from navtalk_async.dialects.dialect import ByCursor, Call, Dialect, Endpoint
from navtalk_async.dialects.sse import ServerSentEvent
from navtalk_async.lenient_json import DECODE_ERRORS, decode_json, strict_json, valid_utf8
from navtalk_async.models import (
    KeyPlace,
    Message,
    Page,
    RawObject,
    Request,
    Response,
    Session,
    Usage,
    sort_out,
    to_fields,
)

__all__ = [
    "MOST_INDEXES",
    "MOST_PROMPT",
    "Event",
    "ImageAttachment",
    "JobMetadata",
    "LlamaCloud",
    "LlamaCloudFullSession",
    "LlamaCloudMessage",
    "LlamaCloudSession",
    "Stop",
    "Text",
    "TextDelta",
    "Thinking",
    "ThinkingDelta",
    "ToolCall",
    "ToolResult",
    "UnknownEvent",
    "UserInput",
    "event_of",
    "streamed_event",
]

MOST_PROMPT = 1_000
"""Characters of a prompt (source: "Stream Messages")."""
MOST_INDEXES = 10
"""Indexes that a prompt is answered from (source: "Stream Messages")."""

SESSIONS_A_PAGE = 100
MOST_SESSIONS_A_PAGE = 1_000
"""What we ask for at the most; the reference sets no limit."""

PATH = "/api/v1/chat"

ASSISTANT = ("text", "text_delta", "thinking", "thinking_delta", "tool_call", "stop")
ROLES = {"user_input": "user", "tool_result": "tool", **dict.fromkeys(ASSISTANT, "assistant")}
"""Who causes which type of event."""


class EventBase(RawObject, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type"):
    """What all documented events have in common."""


class UserInput(EventBase, frozen=True, kw_only=True, gc=False, tag="user_input"):
    """What the user said."""

    type: ClassVar[Literal["user_input"]] = "user_input"
    content: str


class Text(EventBase, frozen=True, kw_only=True, gc=False, tag="text"):
    """What was answered."""

    type: ClassVar[Literal["text"]] = "text"
    content: str


class TextDelta(EventBase, frozen=True, kw_only=True, gc=False, tag="text_delta"):
    """A part of an answer, as it comes; the `Text` that follows has all of it."""

    type: ClassVar[Literal["text_delta"]] = "text_delta"
    content: str


class Thinking(EventBase, frozen=True, kw_only=True, gc=False, tag="thinking"):
    """What was thought before an answer, or a tool's call."""

    type: ClassVar[Literal["thinking"]] = "thinking"
    content: str


class ThinkingDelta(EventBase, frozen=True, kw_only=True, gc=False, tag="thinking_delta"):
    """A part of a thought, as it comes; the `Thinking` that follows has all of it."""

    type: ClassVar[Literal["thinking_delta"]] = "thinking_delta"
    content: str


class ToolCall(EventBase, frozen=True, kw_only=True, gc=False, tag="tool_call"):
    """A tool is asked."""

    type: ClassVar[Literal["tool_call"]] = "tool_call"
    arguments: dict[str, Any]
    call_id: str
    name: str


class ImageAttachment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the screenshot of a page is."""

    attachment_name: str
    source_id: str


class ToolResult(EventBase, frozen=True, kw_only=True, gc=False, tag="tool_result"):
    """A tool has answered; `call_id` is that of its `ToolCall`."""

    type: ClassVar[Literal["tool_result"]] = "tool_result"
    call_id: str
    name: str
    result: Any
    """Whatever the tool gives: any JSON."""
    image_attachment: ImageAttachment | None = None


class Stop(EventBase, frozen=True, kw_only=True, gc=False, tag="stop"):
    """The end of a turn: the last event of a stream."""

    type: ClassVar[Literal["stop"]] = "stop"
    is_error: bool
    usage: Usage
    error: str | None = None
    skipped_index_ids: list[str] | None = None
    """The indexes asked for that could not be queried in this turn."""


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that is not as in the reference."""

    type: str | None
    """Its `type`, or else what a stream calls it; None without either."""
    raw: bytes
    """The API's JSON, byte for byte; in a stream, whatever the event's data was."""


DocumentedEvent: TypeAlias = (
    UserInput | Text | TextDelta | Thinking | ThinkingDelta | ToolCall | ToolResult | Stop
)
Event: TypeAlias = DocumentedEvent | UnknownEvent

DOCUMENTED: msgspec.json.Decoder[Event] = msgspec.json.Decoder(DocumentedEvent)
FIELDS = msgspec.json.Decoder(dict[str, Any])

DELIVERY_NAMES = ("delta", "message")
"""The names of streamed events that say how an event comes, in parts or whole, and not what it is."""

DISTINCTIVE_FIELDS: dict[str, type[ToolCall | ToolResult | Stop]] = {
    "arguments": ToolCall,
    "result": ToolResult,
    "is_error": Stop,
}
"""The fields that only one kind of event has."""


def event_of(raw: bytes | msgspec.Raw, name: str | None = None) -> Event:
    """The event that *raw* is; *name* is what a stream calls it."""
    kept = bytes(raw)
    try:
        event = DOCUMENTED.decode(kept)
    except DECODE_ERRORS:
        event, kept = _unusual_event(kept, name)
    if not isinstance(event, UnknownEvent):
        msgspec.structs.force_setattr(event, "kept", kept)
    return event


def streamed_event(sent: ServerSentEvent) -> Event:
    """The event that a stream has *sent*; an unknown one if its data is no JSON object."""
    return event_of(valid_utf8(sent.data), None if sent.type in DELIVERY_NAMES else sent.type)


def _unusual_event(raw: bytes, name: str | None) -> tuple[Event, bytes]:
    """The event that *raw* is, made strict or typed by its fields if need be; and its bytes."""
    strict = strict_json(raw)
    try:
        fields = FIELDS.decode(strict)
    except DECODE_ERRORS:
        return UnknownEvent(type=name, raw=raw), raw
    with suppress(*DECODE_ERRORS):
        return DOCUMENTED.decode(strict), strict
    named = fields.pop("type", None)
    try:
        [kind] = [kind for field, kind in DISTINCTIVE_FIELDS.items() if field in fields and named is None]
        return msgspec.convert(fields, kind), strict
    except (*DECODE_ERRORS, ValueError):
        return UnknownEvent(type=named if isinstance(named, str) else name, raw=strict), strict


class JobMetadata(Usage, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """How a session's latest run went, and what it cost."""

    error: str | None = None
    export_config_ids: list[str] | None = None
    is_error: bool | None = None


class LlamaCloudSession(Session, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A session as LlamaCloud writes it, without its events.

    It has no begin. It is always final, since every change of it changes `updated_at`.
    """

    detail_only_fields: ClassVar[frozenset[str]] = frozenset({"events"})

    id: str = msgspec.field(name="session_id")
    title: str | None = msgspec.field(default=None, name="generated_title")
    updated_at_text: str | None = msgspec.field(default=None, name="last_updated_at")
    """As the API wrote it: with microseconds, and without a zone."""
    index_ids: list[str] | None = None
    """The indexes it is bound to; None where it is bound to none."""
    job_metadata: JobMetadata | None = None
    """How its latest run went; None before the first."""
    shared_access: str | None = None
    """What its share link grants: `query` or `read_only`; None from an older server."""

    @property
    def usage(self) -> Usage | None:
        return self.job_metadata

    @property
    def is_final(self) -> bool:
        return True

    @property
    def final_since(self) -> str | None:
        return self.updated_at_text


class LlamaCloudFullSession(LlamaCloudSession, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A session with all of its events."""

    events: list[Event]

    @property
    def extra(self) -> dict[str, Any]:
        fields = decode_json(self.raw)
        del fields["events"]
        return sort_out(LlamaCloudSession, fields)[1]

    def to_dict(self, *, by_alias: bool = False) -> dict[str, Any]:
        fields = super().to_dict(by_alias=by_alias)
        return fields | {"events": [decode_json(event.raw) for event in self.events]}


class LlamaCloudMessage(Message, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """An event of a LlamaCloud session, as a message.

    The API gives events neither an id nor a time: the id is that of the session and the event's place in it,
    as `session:0`. The content of a tool's call is its arguments, of a tool's result that result, both as
    JSON where they are no text, and of a stop its error.
    """

    id: str = msgspec.field(default="", name="·id")
    role: str | None = msgspec.field(default=None, name="·role")
    type: str | None = None
    content: str | None = None

    @property
    def usage(self) -> Usage | None:
        event = event_of(self.raw)
        return event.usage if isinstance(event, Stop) else None


def ids_of_indexes(name: str, index_ids: Any) -> list[str]:
    """Check a list of the ids of indexes."""
    ids = index_ids
    if not isinstance(index_ids, list | tuple):
        raise ValueError(f"{name}={index_ids!r} is no list of ids.")
    return [checked_id("index", each) for each in ids]


def indexes_to_ask(name: str, index_ids: Any) -> list[str]:
    """Check the ids of the indexes that a prompt is answered from."""
    ids = ids_of_indexes(name, index_ids)
    if len(ids) > MOST_INDEXES:
        raise ValueError(f"{len(ids)} indexes are more than {MOST_INDEXES}, the most the API takes.")
    return ids


def a_prompt(name: str, prompt: Any) -> str:
    """Check a prompt."""
    if len(a_text(name, prompt)) > MOST_PROMPT:
        raise ValueError(f"The prompt has {len(prompt):,} characters; the API takes {MOST_PROMPT:,}.")
    return str(prompt)


class LlamaCloud(Dialect):
    """The dialect of `api.cloud.llamaindex.ai`.

    Arguments:
        project_id, organization_id: whose sessions every request means; by default the key's own.

    Raises:
        ValueError: one of them can be no id.
    """

    api = "llamacloud"
    name = "LlamaCloud"
    default_base_url: ClassVar[str | None] = "https://api.cloud.llamaindex.ai"
    base_path = "/api/v1"
    key_place: ClassVar[KeyPlace] = KeyPlace("header", "Authorization", "Bearer ")
    key_variable = "LLAMA_CLOUD_API_KEY"
    base_url_variable = "LLAMA_CLOUD_BASE_URL"
    record_kinds: ClassVar[tuple[type[Session], type[Message]]] = (LlamaCloudSession, LlamaCloudMessage)
    sessions: ClassVar[Endpoint] = Endpoint(
        PATH,
        rows="items",
        paging=ByCursor(
            most=MOST_SESSIONS_A_PAGE,
            usual=SESSIONS_A_PAGE,
            size="page_size",
            position="page_token",
            following="next_page_token",
        ),
    )
    session_path = f"{PATH}/{{id}}/summary"
    messages: ClassVar[Endpoint] = Endpoint(f"{PATH}/{{id}}", rows="events")

    create_session: ClassVar[Call] = Call(
        "POST",
        PATH,
        {
            "index_ids": Argument(ids_of_indexes),
            "shared_access": Argument(a_text),
        },
        "sessions.create",
    )
    delete_session: ClassVar[Call] = Call("DELETE", f"{PATH}/{{id}}", operation="sessions.delete")
    generate_title: ClassVar[Call] = Call(
        "POST",
        f"{PATH}/{{id}}/title",
        {"first_message": Argument(a_text, required=True)},
        "sessions.generate_title",
    )
    stream: ClassVar[Call] = Call(
        "POST",
        f"{PATH}/{{id}}/messages/stream",
        {
            "prompt": Argument(a_prompt, required=True),
            "index_ids": Argument(indexes_to_ask, required=True),
            "require_all_indexes": Argument(instance_of(bool, "truth value")),
        },
        "sessions.stream",
    )

    def __init__(self, *, project_id: str | None = None, organization_id: str | None = None) -> None:
        given = {"project_id": project_id, "organization_id": organization_id}
        self.options: Mapping[str, str] = {
            name: checked_id(name[:-3], text) for name, text in given.items() if text is not None
        }

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        rows, _ = self.rows_in(response, self.messages)
        session_id = unquote(request.path.rpartition("/")[2])
        # The others keep their positions, which their ids are made of.
        nulls = tuple(at for at, raw in enumerate(rows) if bytes(raw) == b"null")
        items: list[Message] = [
            self.message_of(raw, session_id, at) for at, raw in enumerate(rows) if at not in nulls
        ]
        return Page(items, skipped=nulls)

    def read_full_session(self, request: Request, response: Response) -> LlamaCloudFullSession:
        """A session and its events, out of the answer to the request of `list_messages`."""
        session, (rows, _) = self.read_session(request, response), self.rows_in(response, self.messages)
        return LlamaCloudFullSession(
            **msgspec.structs.asdict(session), events=[event_of(row) for row in rows]
        )

    def message_of(self, raw: bytes | msgspec.Raw, session_id: str, position: int) -> LlamaCloudMessage:
        """The message that the event *raw* is, at that *position* of that session. JSON that is no object is
        an event without a type; a DecodeFailed if it is no JSON.
        """
        event = event_of(raw)
        content = to_fields(loads(bytes(raw), Any)).get("content")
        return LlamaCloudMessage(
            id=f"{session_id}:{position}",
            role=ROLES.get(event.type or ""),
            type=event.type,
            content=content if isinstance(content, str) else text_of(event),
            kept=bytes(raw),
        )


def text_of(event: Event) -> str | None:
    """The text of an *event* that has no `content`."""
    match event:
        case ToolCall(arguments=arguments):
            return msgspec.json.encode(arguments).decode()
        case ToolResult(result=result):
            return result if isinstance(result, str) else msgspec.json.encode(result).decode()
        case Stop(error=error):
            return error
    return None
