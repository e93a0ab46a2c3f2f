"""What travels: sessions, messages and the pages they come in, all frozen values.

A record is decoded straight from the API's JSON into a struct. Two things are put off until they are read,
because an export of a million messages reads few of them: times stay the API's own text, and the JSON object
itself (`raw`) is written again from the struct, unless it held something that the struct cannot hold; then
its bytes are kept. The file is long because every attribute of every API has its line of documentation here.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar

import msgspec

from navtalk_async.lenient_json import decode_json, is_object
from navtalk_async.times import parse_time

__all__ = [
    "KeyPlace",
    "M_co",
    "Message",
    "MessageType",
    "OpenEnum",
    "Page",
    "RawObject",
    "Record",
    "Request",
    "Response",
    "ResumePoint",
    "Role",
    "S_co",
    "Session",
    "SessionStatus",
    "Transcript",
    "Usage",
    "format_word",
    "sort_out",
    "to_fields",
    "unreadable_times",
]

T = TypeVar("T")


class OpenEnum(IntEnum):
    """An enum that keeps a number it does not know: `Role(7)` is `7`, and still a `Role`."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # A new member would have to be remembered for ever, and a server may send any number of them:
        # an unknown one is made afresh, and equals its number.
        if type(value) is not int:
            return None
        unknown = int.__new__(cls, value)
        unknown._name_ = str(value)
        unknown._value_ = value
        unknown.word = value
        return unknown

    def __init__(self, _: int) -> None:
        self.word: str | int = self._name_.lower()
        """The member's name in lower case; an unknown number stays a number."""

    @property
    def known(self) -> bool:
        """Whether the API's reference names this number."""
        return self._value_ in type(self)._value2member_map_


class SessionStatus(OpenEnum):
    """How far a session has come (source: NavTalk reference, "List Chat Sessions")."""

    ACTIVE = 0
    COMPLETED = 1
    FAILED = 2


class Role(OpenEnum):
    """Who said a message (source: NavTalk reference, "Message Fields")."""

    USER = 0
    ASSISTANT = 1


class MessageType(OpenEnum):
    """What kind of thing a message holds (source: NavTalk reference, "Message Fields")."""

    TEXT = 0


def format_word(value: Any) -> Any:
    """*value* as it is written in files: an enum as its word, where one is known."""
    return value.word if isinstance(value, OpenEnum) else value


OURS = "·"
"""Fields whose wire name begins like this are set by us and are never read from an API's object."""

# No text is both longer than one byte and shorter, and null is no text either: a server that should send a
# field of this name does not get past the strict decoder.
Kept = Annotated[bytes, msgspec.Meta(min_length=1, max_length=0)] | msgspec.UnsetType


class RawObject(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What an API's JSON object was read into."""

    kept: Kept = msgspec.field(default=msgspec.UNSET, name="·kept")

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "kept"}
        shown = (f"{name}={value!r}" for name, value in fields.items() if value is not None)
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def raw(self) -> bytes:
        """The API's JSON, unknown fields and all, as UTF-8."""
        return msgspec.json.encode(self) if self.kept is msgspec.UNSET else self.kept


class Record(RawObject, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a session and a message have in common: an id, and the JSON object they came as."""

    ids_are_unique: ClassVar[bool] = True
    """Whether no two rows of a list have the same id."""
    attributes: ClassVar[tuple[str, ...]] = ("id",)
    """The attributes that the records of every API have; None where an API has no such field."""

    id: Annotated[str, msgspec.Meta(min_length=1)]

    @property
    def extra(self) -> dict[str, Any]:
        """The fields of the API's object without an attribute, by the API's names, as for `to_fields`."""
        if self.kept is msgspec.UNSET:
            return {}
        return sort_out(type(self), to_fields(decode_json(self.kept)))[1]

    def to_dict(self, *, by_alias: bool = False) -> dict[str, Any]:
        """Every attribute, as JSON can hold it: times in ISO 8601 (UTC), enums as words where one is known;
        and under `extra` the fields without an attribute and times that cannot be read.

        Arguments:
            by_alias: return the API's own object instead, by the API's own names.
        """
        if by_alias:
            return to_fields(decode_json(self.raw))
        own = (name.removesuffix("_text") for name in self.__struct_fields__ if name != "kept")
        fields = {
            name: msgspec.to_builtins(format_word(getattr(self, name)))
            for name in dict.fromkeys((*self.attributes, *own))
        }
        others = self.extra | unreadable_times(type(self), msgspec.structs.asdict(self))
        return fields | {"extra": others} if others else fields


def to_fields(value: Any) -> dict[str, Any]:
    """*value* as the fields of an object; JSON that is not an object is its only field, `value`."""
    return value if is_object(value) else {"value": value}


def unreadable_times(kind: type[Record], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of *values*, by attribute, that should be times and cannot be read as any; by the API's names."""
    unreadable = [name for name, text in values.items() if name.endswith("_text") and text is not None]
    unreadable = [name for name in unreadable if parse_time(values[name]) is None]
    if not unreadable:
        return {}
    names = {field.name: field.encode_name for field, _ in _fields(kind)}
    return {names[name]: values[name] for name in unreadable}


@lru_cache
def _fields(kind: type[Record]) -> list[tuple[msgspec.structs.FieldInfo, type[Any]]]:
    """The fields of *kind*, each with a struct of it alone: to convert to a bare type is far slower."""
    return [
        (field, msgspec.defstruct("Held", [("value", field.type)]))
        for field in msgspec.structs.fields(kind)
        if not field.encode_name.startswith(OURS)
    ]


def sort_out(
    kind: type[Record], fields: dict[str, Any], among: Collection[str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The *fields* of an API's object that *kind* has attributes for, by attribute, and all the others.

    A value that its attribute cannot hold is among the others, and the attribute is None; an id that is a
    whole number becomes its text. Only attributes *among* those named count, if any are.
    """
    values: dict[str, Any] = {}
    others = dict(fields)
    for field, held in _fields(kind):
        if among is not None and field.name not in among:
            continue
        found = others.pop(field.encode_name, None)
        if field.name == "id" and type(found) is int:
            found = str(found)
        elif isinstance(found, float) and found.is_integer():
            found = int(found)
        try:
            values[field.name] = msgspec.convert({"value": found}, held).value
        except msgspec.ValidationError:
            values[field.name] = None
            if field.encode_name in fields:
                others[field.encode_name] = found
    return values, others


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a run or a turn cost; None where the API does not say."""

    duration_ms: int | float | None = None
    total_input_tokens: int | float | None = None
    total_output_tokens: int | float | None = None
    turns: int | float | None = None


class Session(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One conversation, without its messages. Every API's sessions have these attributes; one that the API
    has no field for is None, and the struct of an API overrides those that it has.
    """

    # Absent fields are properties and no fields of the struct: as fields they would need a name on the wire,
    # which a server could send.

    attributes: ClassVar[tuple[str, ...]] = (
        *("id", "status", "start_time", "end_time", "updated_at", "title"),
        *("user_id", "agent_id", "video_url", "metadata", "usage"),
    )

    detail_only_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that only some of the API's answers have: a change of them alone does not count."""
    detail_is_complete: ClassVar[bool] = True
    """Whether a session that is fetched by its id has every field that the list has."""
    supports_since: ClassVar[bool] = False
    """Whether the API can list its messages from a time on."""

    @property
    def status(self) -> SessionStatus | str | None:
        """How far it has come."""

    @property
    def start_time_text(self) -> str | None:
        """The begin as the API wrote it; `start_time` is the moment it means."""

    @property
    def end_time_text(self) -> str | None:
        """The end as the API wrote it; `end_time` is the moment it means."""

    @property
    def updated_at_text(self) -> str | None:
        """The time of the last change as the API wrote it; `updated_at` is the moment it means."""

    @property
    def title(self) -> str | None:
        """What it is called."""

    @property
    def user_id(self) -> str | None:
        """Whose it is."""

    @property
    def agent_id(self) -> str | None:
        """The agent it is with."""

    @property
    def video_url(self) -> str | None:
        """Where its recording is."""

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What its maker keeps with it."""

    @property
    def usage(self) -> Usage | None:
        """What its latest run cost."""

    @property
    def start_time(self) -> datetime | None:
        """When it began, aware and UTC; None where the API gave no time."""
        return parse_time(self.start_time_text)

    @property
    def end_time(self) -> datetime | None:
        """When it ended, aware and UTC; None while it goes on, or where the API gave no time."""
        return parse_time(self.end_time_text)

    @property
    def updated_at(self) -> datetime | None:
        """When it last changed, aware and UTC; None where the API gave no time."""
        return parse_time(self.updated_at_text)

    @property
    def is_final(self) -> bool:
        """Whether any later change would show in its own row: by its status, or by its end where the status
        is unknown.
        """
        if self.status in (SessionStatus.COMPLETED, SessionStatus.FAILED):
            return True
        return self.status is not SessionStatus.ACTIVE and self.end_time_text is not None

    @property
    def final_since(self) -> str | None:
        """When it became final, as the API wrote it; None where that is not known."""
        return self.end_time_text


class Message(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One message of a session. Every API's messages have these attributes, as described for `Session`."""

    attributes: ClassVar[tuple[str, ...]] = (
        *("id", "role", "type", "content", "created_at"),
        *("media_url", "metadata", "usage"),
    )

    @property
    def role(self) -> Role | str | None:
        """Who said it."""

    @property
    def type(self) -> MessageType | str | None:
        """What kind of thing it holds."""

    @property
    def content(self) -> str | None:
        """Its text."""

    @property
    def created_at_text(self) -> str | None:
        """The time as the API wrote it; `created_at` is the moment it means."""

    @property
    def media_url(self) -> str | None:
        """Where its image, sound or file is."""

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What its maker keeps with it."""

    @property
    def usage(self) -> Usage | None:
        """What the turn that it ends cost."""

    @property
    def created_at(self) -> datetime | None:
        """When it was said, aware and UTC; None where the API gave no time."""
        return parse_time(self.created_at_text)


if TYPE_CHECKING:
    # `Transcript` alone is one of any API; at run time, defaults of type variables need Python 3.13.
    from typing_extensions import TypeVar as TypeVarWithDefault

    S_co = TypeVarWithDefault("S_co", bound=Session, default=Session, covariant=True)
    M_co = TypeVarWithDefault("M_co", bound=Message, default=Message, covariant=True)
else:
    S_co, M_co = TypeVar("S_co"), TypeVar("M_co")


class Transcript(msgspec.Struct, Generic[S_co, M_co], frozen=True, kw_only=True):
    """A session with all its messages; or, with `on_error="yield"`, with the error that kept them away."""

    session: S_co
    messages: list[M_co] = []
    error: Exception | None = None
    is_rest: bool = False
    """Whether these are only the messages that an earlier transcript of the session lacked, because its last
    page was wrongly taken for the last one (`short_pages="audit"`)."""

    def to_dict(self, *, by_alias: bool = False) -> dict[str, Any]:
        """The session's fields and its `messages`, each as its own `to_dict` returns them; and the text
        of the `error`, if there is one.
        """
        fields = self.session.to_dict(by_alias=by_alias)
        fields["messages"] = [message.to_dict(by_alias=by_alias) for message in self.messages]
        return fields if self.error is None else fields | {"error": str(self.error)}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request to the API, as a value that can be stored, compared and sent again later.

    It never holds a key: the dialect says where the key goes, and only the wire puts it there.
    """

    path: str
    params: dict[str, str] = {}
    method: str = "GET"
    body: bytes | None = None
    operation: str = ""
    """What is asked for, as `sessions.list`, for events, counts and traces: never an id."""

    def __post_init__(self) -> None:
        # Written behind `https://host`, a path like `.example.com/` or `@example.com/` would change the host.
        if not self.path.startswith("/"):
            raise ValueError(f"The path {self.path!r} does not begin with a slash.")

    @property
    def repeatable(self) -> bool:
        """Whether asking twice does no more than asking once (RFC 9110, section 9.2.2)."""
        return self.method == "GET"

    def continues(self, other: "Request") -> bool:
        """Whether it asks for a page of the list that *other* asks for, and for nothing else.

        What an archive or a page token holds may be a stranger's: the key goes nowhere for it.
        """
        return (self.method, self.path, self.body) == ("GET", other.path, None)

    def having(self, **params: str | None) -> Self:
        """The same request with other parameters; None removes one."""
        merged = {**self.params, **params}
        kept = {name: value for name, value in merged.items() if value is not None}
        return msgspec.structs.replace(self, params=kept)


class KeyPlace(msgspec.Struct, frozen=True):
    """Where an API wants its key: the place, never the key."""

    where: str
    """`query` or `header`."""
    name: str
    prefix: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One whole answer, read to its end before anything of it is believed."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some rows of a list, and what brings the following ones.

    Where the API pages by offset, rows that are deleted meanwhile move those behind them: a walk by `next`
    alone may miss some, the walk of a `Listing` does not.
    """

    items: list[T]
    next: Request | None = None
    """The request for the next page, for this process alone; None on the last page."""
    total: int | None = None
    """How many rows the whole list has; None where the API does not say."""
    token: str | None = None
    """Where the list goes on, to be kept and passed to its `resume`; None on the last page."""
    offset_param: str | None = None
    """The parameter that counts the rows before a page; None where the API does not page by offset."""
    full: int = 0
    """How many rows a full page has, where the API pages by offset."""
    has_more: bool | None = None
    """Whether the API says that there are more rows; None where it does not say."""
    skipped: tuple[int, ...] = ()
    """Where in the answer rows stood that are not among the items: they are null, have no id, or cannot be
    read."""


class ResumePoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the walk of a list, or of a stretch of it, goes on. Positions are along what it is ordered by;
    for a list in order of time, seconds since 1970.
    """

    next: Request
    begin: int | None = None
    """Its rows are those from here on; None: from the first of the list."""
    end: int | None = None
    """Its rows are those before; None: to the last of the list."""
    reached: int | None = None
    """Where the last row is that was taken; None before the first."""
