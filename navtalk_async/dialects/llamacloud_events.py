"""What happens in a LlamaCloud session, event by event (source: its reference, "Get Full Session").

    match event:
        case Text(content=content): ...
        case ToolCall(name=name, arguments=arguments): ...
        case Stop(is_error=True, error=error): ...

The reference has `type` as optional. An event without one is recognized by a field that only one kind has: a
tool's call, its result, and a stop. Any other event, or one without what its type needs, is an
`UnknownEvent`; nothing is refused, and every event keeps the JSON it came as.
"""

from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from navtalk_async.dialects.answers import DECODE_ERRORS, whole_surrogates
from navtalk_async.dialects.sse import ServerSentEvent
from navtalk_async.models import Kept, Usage

__all__ = [
    "Event",
    "ImageAttachment",
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


class EventBase(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type"):
    """What all events have in common: the JSON they came as."""

    kept: Kept = msgspec.field(default=msgspec.UNSET, name="·kept")

    @property
    def raw(self) -> bytes:
        """The API's JSON, byte for byte, with its unknown fields."""
        return msgspec.json.encode(self) if self.kept is msgspec.UNSET else self.kept


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

DOCUMENTED: msgspec.json.Decoder[DocumentedEvent] = msgspec.json.Decoder(DocumentedEvent)
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
        event = DOCUMENTED.decode(raw)
    except DECODE_ERRORS:
        return _lenient_event(kept, name)
    msgspec.structs.force_setattr(event, "kept", kept)
    return event


def streamed_event(sent: ServerSentEvent) -> Event:
    """The event that a stream has *sent*; an unknown one if its data is no JSON object."""
    return event_of(whole_surrogates(sent.data), None if sent.type in DELIVERY_NAMES else sent.type)


def _lenient_event(raw: bytes, name: str | None) -> Event:
    try:
        fields = FIELDS.decode(raw)
    except DECODE_ERRORS:
        return UnknownEvent(type=name, raw=raw)
    named = fields.pop("type", None)
    kind = _by_fields(fields) if named is None else None
    try:
        event = msgspec.convert(fields, kind) if kind else None
    except msgspec.ValidationError:
        event = None
    if event is None:
        return UnknownEvent(type=named if isinstance(named, str) else name, raw=raw)
    msgspec.structs.force_setattr(event, "kept", raw)
    return event


def _by_fields(fields: dict[str, Any]) -> type[ToolCall | ToolResult | Stop] | None:
    found = [kind for name, kind in DISTINCTIVE_FIELDS.items() if name in fields]
    return found[0] if len(found) == 1 else None
