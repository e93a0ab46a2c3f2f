"""The Lexicon Labs chats API: five endpoints, as its reference pages have them."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from ._api import Answers, Api, Refused, SandboxRequest, SandboxResponse
from ._generated import Row, made_up_user, role_word, row_time, share, unknown_fields, zoned
from ._world import World

_MOST: Final = 100
_TOO_MANY: Final = 11  # the sample has four messages, and counts fifteen
_STATUSES: Final = {0: "active", 1: "completed", 2: "failed"}


class _NewLexiconChat(msgspec.Struct):
    user_id: Annotated[str, msgspec.Meta(min_length=1)]
    title: str | None = None
    metadata: dict[str, Any] | None = None


class _OffsetQuery(msgspec.Struct):
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1)] = 50
    order: Literal["asc", "desc", ""] = ""


class LexiconApi(Api):
    """Lexicon, whose lists are paged by offset and whose chats belong to users."""

    name = "lexicon"
    prefix = "/api/v1/chats"
    routes: ClassVar = {
        "POST /": "create",
        "GET /user/{user}": "sessions",
        "GET /{id}": "session",
        "DELETE /{id}": "delete",
        "GET /{id}/messages": "messages",
    }
    paged = frozenset({"sessions", "messages"})
    not_found = "Chat not found"

    def invalid(self, place: Sequence[str | int], problem: str, answers: Answers) -> Refused:
        return Refused(int(answers.lexicon_invalid), super().invalid(place, problem, answers).message)

    def error_body(self, refused: Refused, answers: Answers) -> Row:
        if answers.lexicon_errors == "detail":
            return {"detail": refused.message}
        return super().error_body(refused, answers)

    def sessions(self, request: SandboxRequest) -> Row:
        world, user, time = request.world, request.ids["user"], request.answers.lexicon_sorts_by
        rows = world.derived(("lexicon", user, time), lambda: _chats_of(world, user, time))
        page, counts = self._page(rows, request, order="desc")
        return {"chats": [self._chat(row, world) for row in page]} | counts

    def messages(self, request: SandboxRequest) -> Row:
        rows = request.world.message_rows(request.row["id"])
        page, counts = self._page(rows, request, order="asc")
        return {"messages": [self._message(row, request.world) for row in page]} | counts

    def session(self, request: SandboxRequest) -> Row:
        row, number = request.row, request.row["status"]
        said = len(request.world.message_rows(row["id"]))
        more = {"message_count": said, "status": _STATUSES.get(number, f"status-{number}")}
        return self._chat(row, request.world) | more

    def create(self, request: SandboxRequest) -> SandboxResponse:
        new = self.body(request, _NewLexiconChat)
        row = self.begin(request, user=new.user_id, title=new.title, metadata=new.metadata or {})
        return SandboxResponse(201, self.encoded(self._chat(row, request.world)))

    def delete(self, request: SandboxRequest) -> Row:
        if request.row["id"] in request.world.joined:
            raise Refused(409, "Chat has an active websocket connection")
        request.world.remove_session(request.row["id"])
        deleted_at = zoned(row_time(request.context.now()))
        return {"success": True, "message": "Chat deleted successfully", "deleted_at": deleted_at}

    def _page(self, rows: list[Row], request: SandboxRequest, *, order: str) -> tuple[list[Row], Row]:
        query, answers = self.parameters(request, _OffsetQuery), request.answers
        size = self.page_size(request, "limit", query.limit, _MOST)
        ordered = rows if (query.order or order) == "asc" else rows[::-1]
        page = [] if request.fault == "empty-page" else ordered[query.offset : query.offset + size]
        more = query.offset + len(page) < len(rows)
        totals = {"right": len(rows), "few": len(page), "many": len(rows) + _TOO_MANY}
        promises = {"right": more, "false": False, "true": bool(page) or more}
        counts = {
            "total": totals.get(answers.lexicon_total),
            "offset": query.offset,
            "limit": min(query.limit, _MOST),
            "has_more": promises.get(answers.lexicon_has_more),
        }
        return page, {field: value for field, value in counts.items() if value is not None}

    def _chat(self, session: Row, world: World) -> Row:
        name = session["id"]
        made_up = f"Chat {name[:8]}" if share(name, 2) else None
        return {
            "id": name,
            "user_id": user_of(world, name),
            "tenant_id": world.noted(name, "tenant", f"tenant-{world.seed}"),
            "title": world.noted(name, "title", made_up),
            "config": {"metadata": world.noted(name, "metadata", dict[str, Any]())},
            "created_at": zoned(session["startTime"]),
            "updated_at": zoned(world.last_change_time(session)),
            "last_message_at": zoned(world.last_message_time(name)),
        } | unknown_fields(session)

    def _message(self, row: Row, world: World) -> Row:
        made_up = f"type-{row['messageType']}" if row["messageType"] else None
        return {
            "id": row["id"],
            "content": row["content"],
            "sender_role": role_word(row["role"]),
            "media_type": world.noted(row["id"], "media_type", made_up),
            "media_url": world.noted(row["id"], "media_url", None),
            "created_at": zoned(row["createdAt"]),
            "metadata": world.noted(row["id"], "metadata", dict[str, Any]()),
        } | unknown_fields(row)


def _chats_of(world: World, user: str, time: str) -> list[Row]:
    rows = [row for row in world.session_rows if user_of(world, row["id"]) == user]
    if time == "updated_at":
        rows.sort(key=lambda row: (world.last_change_time(row), row["id"]))
    return rows


def user_of(world: World, session_id: str) -> str:
    return world.noted(session_id, "user", "") or made_up_user(session_id)
