"""The Kodey.ai chat API: six endpoints, as its reference page has them."""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from time import monotonic
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from ._api import Answers, Api, Refused, SandboxRequest, Window
from ._generated import Row, made_up_user, role_word, share, unknown_fields, zoned
from ._world import World

_AGENT_TYPES: Final = ("support", "sales", "onboarding")
_UPGRADE: Final[Row] = {
    "allowedEndpoints": ["GET /chat", "POST /chat", "GET /chat/:chatId", "POST /chat/:chatId/message"],
    "upgradeInstructions": "Use a secret key (sk_live_*) for this endpoint.",
}


class _NewKodeyChat(msgspec.Struct, rename="camel"):
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
        body = super().error_body(refused, answers)
        if refused.wait is not None:
            body["retryAfter"] = int(refused.wait) if refused.wait == int(refused.wait) else refused.wait
        if refused.code == HTTPStatus.UNAUTHORIZED and answers.kodey_401 == "message":
            del body["error"]
        return body | _UPGRADE if refused.code == HTTPStatus.FORBIDDEN else body

    def headers(self, request: SandboxRequest) -> Mapping[str, str]:
        limit, window = self._quota(request)
        if limit is None:
            return super().headers(request)
        left, seconds = window.left(monotonic(), limit)
        over = request.context.now() + timedelta(seconds=seconds)
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(ceil(over.timestamp())),
        }

    def open_world(self, request: SandboxRequest) -> World:
        world, now = super().open_world(request), monotonic()
        limit, window = self._quota(request)
        if request.answers.kodey_limits and limit is not None and not window.allows(now, limit):
            wait = ceil(window.left(now, limit)[1])
            raise Refused(429, f"Rate limit exceeded. Try again in {wait} seconds.", wait)
        if request.kind == "delete" and self.key_of(request).startswith("pk_live_limited"):
            raise Refused(403, "This endpoint is not available to publishable keys")
        return world

    def sessions(self, request: SandboxRequest) -> Row:
        chats = [self._listed(row, request) for row in request.world.session_rows]
        user, agent_type = request.query.get("userId"), request.query.get("agentType")
        if user is not None:
            chats = [chat for chat in chats if chat.get("userId") == user]
        if agent_type is not None:
            chats = [chat for chat in chats if _AGENT_TYPES[share(chat["agentId"], 3)] == agent_type]
        return {"chats": _ordered(chats, request.answers)}

    def session(self, request: SandboxRequest) -> Row:
        chat = self._chat(request.row, request.world) | unknown_fields(request.row)
        if request.answers.kodey_messages == "missing":
            return chat
        return chat | (
            self.messages(request) if request.answers.kodey_messages == "all" else {"messages": []}
        )

    def messages(self, request: SandboxRequest) -> Row:
        rows = request.world.message_rows(request.row["id"])
        return {"messages": _ordered([self._message(row) for row in rows], request.answers)}

    def create(self, request: SandboxRequest) -> Row:
        new = self.body(request, _NewKodeyChat)
        row = self.begin(request, agent=new.agent_id, user=new.user_id, metadata=new.metadata)
        return self._chat(row, request.world)

    def send(self, request: SandboxRequest) -> Row:
        content = self.body(request, _NewMessage).content
        self.say(request, content, role=0)
        return {"chatId": request.row["id"]} | self._message(
            self.say(request, f"You said: {content}", role=1)
        )

    def delete(self, request: SandboxRequest) -> None:
        request.world.remove_session(request.row["id"])

    def _quota(self, request: SandboxRequest) -> tuple[int | None, Window]:
        """The requests that are allowed in a window, None for any number, and that window."""
        context, key = request.context, self.key_of(request)
        if context.answers.kodey_limits:
            return 100 if key.startswith("pk_live_") else 1_000, context.window(f"{self.name} {key}", 60)
        return context.rate, context.window()

    def _listed(self, session: Row, request: SandboxRequest) -> Row:
        name, world = session["id"], request.world
        # One of seven made-up chats has no user.
        user = world.noted(name, "user", None if share(name, 7) == 6 else made_up_user(name))
        nobody: dict[str, Row] = {"string": {"userId": "anonymous"}, "null": {"userId": None}, "missing": {}}
        shown = nobody[request.answers.kodey_user] if user is None else {"userId": user}
        row = {"id": name, "agentId": _agent(name, world), "createdAt": zoned(session["startTime"])}
        return row | shown | unknown_fields(session)

    def _chat(self, session: Row, world: World) -> Row:
        return {
            "id": session["id"],
            "agentId": _agent(session["id"], world),
            "teamId": world.noted(session["id"], "team", f"team-{world.seed}"),
            "createdAt": zoned(session["startTime"]),
        }

    def _message(self, row: Row) -> Row:
        return {
            "id": row["id"],
            "content": row["content"],
            "role": role_word(row["role"]),
            "createdAt": zoned(row["createdAt"]),
        } | unknown_fields(row)


def _agent(session_id: str, world: World) -> str:
    return world.noted(session_id, "agent", f"agent-{share(session_id, 3)}")


def _ordered(rows: list[Row], answers: Answers) -> list[Row]:
    if answers.kodey_order == "none":
        return sorted(rows, key=lambda row: share(row["id"], 1 << 32))
    return rows if answers.kodey_order == "asc" else rows[::-1]
