"""The Kodey.ai chat API: six endpoints, as its reference page has them."""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from ._answers import Answers
from ._api import Api, ApiContext, Refused, SandboxRequest
from ._rows import Row, made_up_user, next_time, role_word, row_time, share, unknown_fields, zoned
from ._world import World

_AGENT_TYPES: Final = ("support", "sales", "onboarding")
_UPGRADE: Final[Row] = {
    "allowedEndpoints": ["GET /chat", "POST /chat", "GET /chat/:chatId", "POST /chat/:chatId/message"],
    "upgradeInstructions": "Use a secret key (sk_live_*) for this endpoint.",
}


class _NewChat(msgspec.Struct, rename="camel"):
    agent_id: Annotated[str, msgspec.Meta(min_length=1)]
    user_id: str | None = None
    metadata: dict[str, Any] = {}


class _NewMessage(msgspec.Struct):
    content: str
    role: Literal["user"] = "user"


class KodeyApi(Api):
    """Kodey.ai, whose answers hold all rows at once and tell the rate limit."""

    name = "kodey"
    prefix = "/chat"
    routes: ClassVar = {
        "GET ": "sessions",
        "POST ": "create",
        "GET /{id}": "session",
        "DELETE /{id}": "delete",
        "GET /{id}/message": "messages",
        "POST /{id}/message": "send",
    }
    key_header = "x-api-key"
    not_found = "Chat not found"
    wait_header = ""

    def error_body(self, refused: Refused, answers: Answers) -> Row:
        body = {**super().error_body(refused, answers)}
        if refused.wait is not None:
            body["retryAfter"] = int(refused.wait) if refused.wait == int(refused.wait) else refused.wait
        if refused.code == HTTPStatus.UNAUTHORIZED and answers.kodey_401 == "message":
            del body["error"]
        return body | _UPGRADE if refused.code == HTTPStatus.FORBIDDEN else body

    def headers(self, request: SandboxRequest, context: ApiContext) -> Mapping[str, str]:
        if context.answers.kodey_limits:
            key = self.key_of(request)
            limit, window = _quota(key), context.window(f"{self.name} {key}", 60)
        elif context.rate is not None:
            limit, window = context.rate, context.window()
        else:
            return super().headers(request, context)
        left, seconds = window.left(context.ticks(), limit)
        over = context.now() + timedelta(seconds=seconds)
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(ceil(over.timestamp())),
        }

    def open_world(self, request: SandboxRequest, context: ApiContext) -> World:
        world, key = super().open_world(request, context), self.key_of(request)
        if context.answers.kodey_limits:
            window, now = context.window(f"{self.name} {key}", 60), context.ticks()
            if not window.allows(now, _quota(key)):
                wait = ceil(window.left(now, _quota(key))[1])
                raise Refused(429, f"Rate limit exceeded. Try again in {wait} seconds.", wait)
        if request.kind == "delete" and key.startswith("pk_live_limited"):
            raise Refused(403, "This endpoint is not available to publishable keys")
        return world

    def sessions(self, request: SandboxRequest, context: ApiContext) -> Row:
        world, query = request.world, request.query
        rows = (_listed_chat(world, row, context.answers) for row in world.session_table.rows)
        wanted = [
            row
            for row in rows
            if query.get("userId") in {None, row.get("userId")}
            and query.get("agentType") in {None, _AGENT_TYPES[share(row["agentId"], 3)]}
        ]
        return {"chats": _ordered(wanted, context.answers)}

    def session(self, request: SandboxRequest, context: ApiContext) -> Row:
        world, row, answers = request.world, request.row, context.answers
        if answers.kodey_messages == "missing":
            chat = _chat(world, row)
        else:
            messages = _messages(world, row["id"], answers) if answers.kodey_messages == "all" else []
            chat = _chat(world, row, messages=messages)
        return chat | unknown_fields(row)

    def messages(self, request: SandboxRequest, context: ApiContext) -> Row:
        return {"messages": _messages(request.world, request.row["id"], context.answers)}

    def create(self, request: SandboxRequest, context: ApiContext) -> Row:
        new, world = self.body(request, context, _NewChat), request.world
        row = world.add_session(row_time(context.now()), status=0)
        world.note(row["id"], agent=new.agent_id, user=new.user_id, metadata=new.metadata)
        return _chat(world, row)

    def send(self, request: SandboxRequest, context: ApiContext) -> Row:
        content, name = self.body(request, context, _NewMessage).content, request.row["id"]
        for number, text in enumerate((content, f"You said: {content}")):
            time = next_time(request.world.last_message_time(name), context.now())
            row = request.world.add_message(name, text, role=number, created_at=time)
        return {"chatId": name} | _message(row)

    def delete(self, request: SandboxRequest, context: ApiContext) -> None:  # noqa: ARG002
        request.world.remove_session(request.row["id"])


def _quota(key: str) -> int:
    return 100 if key.startswith("pk_live_") else 1_000


def _ordered(rows: list[Row], answers: Answers) -> list[Row]:
    if answers.kodey_order == "none":
        return sorted(rows, key=lambda row: share(row["id"], 1 << 32))
    return rows if answers.kodey_order == "asc" else rows[::-1]


def _listed_chat(world: World, session: Row, answers: Answers) -> Row:
    name = session["id"]
    row = {"id": name, "agentId": _agent(world, name), "userId": _user(world, name)}
    if row["userId"] is None and answers.kodey_user == "missing":
        del row["userId"]
    elif row["userId"] is None and answers.kodey_user == "string":
        row["userId"] = "anonymous"
    return row | {"createdAt": zoned(session["startTime"])} | unknown_fields(session)


def _chat(world: World, session: Row, **more: list[Row]) -> Row:
    name = session["id"]
    return {
        "id": name,
        "agentId": _agent(world, name),
        "teamId": world.noted(name, "team", f"team-{world.seed}"),
        **more,
        "createdAt": zoned(session["startTime"]),
    }


def _messages(world: World, session_id: str, answers: Answers) -> list[Row]:
    return _ordered([_message(row) for row in world.message_table(session_id).rows], answers)


def _message(row: Row) -> Row:
    return {
        "id": row["id"],
        "content": row["content"],
        "role": role_word(row["role"]),
        "createdAt": zoned(row["createdAt"]),
    } | unknown_fields(row)


def _agent(world: World, session_id: str) -> str:
    return world.noted(session_id, "agent", "") or f"agent-{share(session_id, 3)}"


def _user(world: World, session_id: str) -> str | None:
    # One of seven made-up chats has no user.
    return world.noted(session_id, "user", None if share(session_id, 7) == 6 else made_up_user(session_id))
