"""How LlamaCloud's chat API speaks (source: its reference, "Chat"; the `llama-cloud` SDK, 2.6 to 2.19).

The reference is of the time before `shared_access`: a session may have it or not.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import unquote
from uuid import UUID

import msgspec

from navtalk_async.dialects.checks import as_json, as_part_of_a_path, name_of_a_thing, page_size, text
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.llamacloud_events import (
    Event,
    Stop,
    ToolCall,
    ToolResult,
    event_of,
)
from navtalk_async.dialects.refusals import accepted, done, refused
from navtalk_async.dialects.rows import as_record, loads
from navtalk_async.models import (
    KeyPlace,
    Message,
    Page,
    Request,
    Response,
    Session,
    Usage,
    as_fields,
    sort_out,
)

__all__ = [
    "MOST_INDEXES",
    "MOST_PROMPT",
    "JobMetadata",
    "LlamaCloud",
    "LlamaCloudFullSession",
    "LlamaCloudMessage",
    "LlamaCloudSession",
]

MOST_PROMPT = 1_000
"""Characters of a prompt (source: "Stream Messages")."""
MOST_INDEXES = 10
"""Indexes that a prompt is answered from (source: "Stream Messages")."""

SESSIONS_A_PAGE = 100
MOST_SESSIONS_A_PAGE = 1_000
"""What we ask for at the most; the reference sets no limit."""

PATH = "/api/v1/chat"

ROLES = {
    "user_input": "user",
    "text": "assistant",
    "text_delta": "assistant",
    "thinking": "assistant",
    "thinking_delta": "assistant",
    "tool_call": "assistant",
    "tool_result": "tool",
    "stop": "assistant",
}
"""Who brings which event about."""


class JobMetadata(Usage, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """How a session's latest run went, and what it cost."""

    error: str | None = None
    export_config_ids: list[str] | None = None
    is_error: bool | None = None


class LlamaCloudSession(Session, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A session as LlamaCloud writes it, without its events.

    When it began is not told. It is always final: whatever happens to it changes `last_updated_at`.
    """

    seldom: ClassVar[frozenset[str]] = frozenset({"events"})

    id: str = msgspec.field(name="session_id")
    title: str | None = msgspec.field(default=None, name="generated_title")
    updated_at_text: str | None = msgspec.field(default=None, name="last_updated_at")
    """As the API wrote it: with microseconds, and without a zone."""
    index_ids: list[str] | None = None
    """The indexes it is bound to; None where it is bound to none."""
    job_metadata: JobMetadata | None = None
    """How its latest run went; None before the first."""
    shared_access: str | None = None
    """What its share link grants: `query` or `read_only`; None from a server that does not tell."""

    @property
    def usage(self) -> Usage | None:
        return self.job_metadata

    @property
    def is_final(self) -> bool:
        """Always: see above."""
        return True

    @property
    def final_since(self) -> str | None:
        """When it was last changed."""
        return self.updated_at_text


class LlamaCloudFullSession(LlamaCloudSession, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A session with all of its events."""

    events: list[Event]

    @property
    def extra(self) -> dict[str, Any]:
        """What the API's object holds beyond our attributes, by the API's names."""
        fields = msgspec.json.decode(self.raw)
        del fields["events"]
        return sort_out(LlamaCloudSession, fields)[1]


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


class Items(msgspec.Struct):
    items: list[msgspec.Raw]
    next_page_token: str | None = None


class Events(msgspec.Struct):
    events: list[msgspec.Raw]


class LlamaCloud(Dialect):
    """The dialect of `api.cloud.llamaindex.ai`.

    Arguments:
        project_id, organization_id: whose sessions are meant where a question does not say; by default the
            API takes the key's own.
    """

    api = "llamacloud"
    name = "LlamaCloud"
    default_base_url = "https://api.cloud.llamaindex.ai"
    key_place = KeyPlace("header", "Authorization", "Bearer ")
    key_variable = "LLAMA_CLOUD_API_KEY"
    base_url_variable = "LLAMA_CLOUD_BASE_URL"
    record_kinds = (LlamaCloudSession, LlamaCloudMessage)

    def __init__(self, *, project_id: str | None = None, organization_id: str | None = None) -> None:
        self.options = whose(project_id, organization_id)

    def root(self, base_url: str) -> str:
        """*base_url* without `/api/v1`, which each path begins with."""
        return base_url.strip().rstrip("/").removesuffix("/api/v1")

    def checked_id(self, session_id: str | UUID) -> str:
        return name_of_a_thing("session", session_id)

    def list_sessions(
        self,
        *,
        limit: int | None = None,
        page_token: str | None = None,
        project_id: str | None = None,
        organization_id: str | None = None,
    ) -> Request:
        params = self._asked_for(project_id, organization_id)
        params["page_size"] = page_size(
            limit, most=MOST_SESSIONS_A_PAGE, usual=SESSIONS_A_PAGE, name="page_size"
        )
        if page_token is not None:
            params["page_token"] = text("page_token", page_token)
        return Request(path=PATH, params=params)

    def get_session(
        self, session_id: str, *, project_id: str | None = None, organization_id: str | None = None
    ) -> Request:
        """The question for the summary of a session, which is what a list of sessions has of it."""
        return self._of_one(session_id, "/summary", project_id, organization_id)

    def list_messages(
        self, session_id: str, *, project_id: str | None = None, organization_id: str | None = None
    ) -> Request:
        """The question for a full session: all of its events come at once."""
        return self._of_one(session_id, "", project_id, organization_id)

    def create_session(
        self,
        *,
        index_ids: Sequence[str] | None = None,
        shared_access: str | None = None,
        project_id: str | None = None,
        organization_id: str | None = None,
    ) -> Request:
        """What makes a new session; see `Sessions.create`."""
        fields: dict[str, Any] = {}
        if index_ids is not None:
            fields["index_ids"] = ids_of_indexes(index_ids)
        if shared_access is not None:
            fields["shared_access"] = text("shared_access", shared_access)
        return Request(
            path=PATH,
            params=self._asked_for(project_id, organization_id),
            method="POST",
            body=as_json(fields),
        )

    def delete_session(
        self, session_id: str, *, project_id: str | None = None, organization_id: str | None = None
    ) -> Request:
        """What deletes a session."""
        return self._of_one(session_id, "", project_id, organization_id, method="DELETE")

    def generate_title(
        self,
        session_id: str,
        first_message: str,
        *,
        project_id: str | None = None,
        organization_id: str | None = None,
    ) -> Request:
        """What has a session given a title; see `Sessions.generate_title`."""
        body = as_json({"first_message": text("first_message", first_message)})
        return self._of_one(session_id, "/title", project_id, organization_id, method="POST", body=body)

    def stream(
        self,
        session_id: str,
        prompt: str,
        *,
        index_ids: Sequence[str],
        require_all_indexes: bool | None = None,
        project_id: str | None = None,
        organization_id: str | None = None,
    ) -> Request:
        """What has a prompt answered, event by event; see `Sessions.stream`."""
        fields: dict[str, Any] = {
            "index_ids": ids_of_indexes(index_ids, most=MOST_INDEXES),
            "prompt": checked_prompt(prompt),
        }
        if require_all_indexes is not None:
            if not isinstance(require_all_indexes, bool):
                raise ValueError(f"require_all_indexes={require_all_indexes!r} is neither True nor False.")
            fields["require_all_indexes"] = require_all_indexes
        return self._of_one(
            session_id,
            "/messages/stream",
            project_id,
            organization_id,
            method="POST",
            body=as_json(fields),
        )

    def rows(self, request: Request) -> int:
        return int(request.params.get("page_size", 0))

    def smaller(self, request: Request) -> Request | None:
        rows = self.rows(request) // 2
        return request.having(page_size=str(rows)) if rows else None

    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        answer = accepted(response, Items, refused)
        items: list[Session] = [as_record(LlamaCloudSession, row) for row in answer.items]
        # With its filters again: whether a token remembers them is not documented.
        token = answer.next_page_token
        return Page(items, request.having(page_token=token) if token else None)

    def read_session(self, request: Request, response: Response) -> LlamaCloudSession:
        return as_record(LlamaCloudSession, accepted(response, msgspec.Raw, refused))

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        answer = accepted(response, Events, refused)
        session_id = unquote(request.path.rpartition("/")[2])
        return Page([self.message_of(raw, session_id, at) for at, raw in enumerate(answer.events)])

    def read_full_session(self, request: Request, response: Response) -> LlamaCloudFullSession:
        """A session and its events, out of the answer to what `list_messages` asks."""
        raw = accepted(response, msgspec.Raw, refused)
        session, answer = as_record(LlamaCloudSession, raw), loads(raw, Events)
        values = msgspec.structs.asdict(session)
        return LlamaCloudFullSession(**values, events=[event_of(each) for each in answer.events])

    def read_deleted(self, request: Request, response: Response) -> None:
        """Nothing, out of an answer that says no more than that it was done; a page of a proxy says less."""
        done(response, refused)

    def refuse(self, request: Request, response: Response) -> None:
        """Raise what an answer means that is no stream."""
        raise refused(response)

    def message_of(self, raw: bytes | msgspec.Raw, session_id: str, position: int) -> LlamaCloudMessage:
        """The message that the event *raw* is, at that *position* of that session; what is no object is one
        of no type.

        Raises:
            DecodeFailed: it is no JSON.
        """
        event = event_of(raw)
        content = as_fields(loads(bytes(raw), Any)).get("content")
        return LlamaCloudMessage(
            id=f"{session_id}:{position}",
            role=ROLES.get(event.type or ""),
            type=event.type,
            content=content if isinstance(content, str) else readable(event),
            kept=bytes(raw),
        )

    def _asked_for(self, project_id: str | None, organization_id: str | None) -> dict[str, str]:
        return {**self.options} | whose(project_id, organization_id)

    def _of_one(
        self,
        session_id: str,
        what: str,
        project_id: str | None,
        organization_id: str | None,
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Request:
        params = self._asked_for(project_id, organization_id)
        path = f"{PATH}/{as_part_of_a_path(session_id)}{what}"
        return Request(path=path, params=params, method=method, body=body)


def whose(project_id: str | None, organization_id: str | None) -> dict[str, str]:
    """The parameters that say whose sessions are meant; None says nothing.

    Raises:
        ValueError: one of them can be no id.
    """
    given = {"project_id": project_id, "organization_id": organization_id}
    return {name: name_of_a_thing(name[:-3], text) for name, text in given.items() if text is not None}


def ids_of_indexes(index_ids: Sequence[str], most: int | None = None) -> list[str]:
    """*index_ids*, if they can be; at *most* so many.

    Raises:
        ValueError: they cannot.
    """
    if not isinstance(index_ids, list | tuple):
        raise ValueError(f"index_ids={index_ids!r} is no list of ids.")
    if most is not None and len(index_ids) > most:
        raise ValueError(f"{len(index_ids)} indexes are more than {most}, the most the API takes.")
    return [name_of_a_thing("index", each) for each in index_ids]


def checked_prompt(prompt: str) -> str:
    """*prompt*, if it can be one.

    Raises:
        ValueError: it cannot.
    """
    if len(text("prompt", prompt)) > MOST_PROMPT:
        raise ValueError(
            f"The prompt has {len(prompt):,} characters, more than {MOST_PROMPT:,}, the most the API takes."
        )
    return prompt


def readable(event: Event) -> str | None:
    """What there is to read in an *event* without a text of its own."""
    match event:
        case ToolCall(arguments=arguments):
            return msgspec.json.encode(arguments).decode()
        case ToolResult(result=result):
            return result if isinstance(result, str) else msgspec.json.encode(result).decode()
        case Stop(error=error):
            return error
    return None
