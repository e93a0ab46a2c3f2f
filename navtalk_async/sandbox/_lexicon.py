"""The Lexicon Labs chats API: five endpoints, as its reference pages have them."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from ._answers import Answers
from ._api import Api, ApiContext, Refused, SandboxRequest, SandboxResponse
from ._rows import Row, made_up_user, role_word, row_time, share, unknown_fields, zoned
from ._world import World

_MOST: Final = 100
_USUAL: Final = 50
_TOO_MANY: Final = 11  # the sample has four messages, and counts fifteen
_STATUSES: Final = ("active", "completed", "failed")


class _NewChat(msgspec.Struct):
    user_id: Annotated[str, msgspec.Meta(min_length=1)]
    title: str | None = None
    metadata: dict[str, Any] | None = None


class _PageQuery(msgspec.Struct):
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1)] = _USUAL
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
        return {**super().error_body(refused, answers)}

    def sessions(self, request: SandboxRequest, context: ApiContext) -> Row:
        world, user, time = request.world, request.ids["user"], context.answers.lexicon_sorts_by
        rows = world.derived(("lexicon", user, time), lambda: _chats_of(world, user, time))
        page, counts = self._page(rows, request, context, order="desc")
        return {"chats": [_chat(world, row) for row in page]} | counts

    def messages(self, request: SandboxRequest, context: ApiContext) -> Row:
        rows = request.world.message_table(request.row["id"]).rows
        page, counts = self._page(rows, request, context, order="asc")
        return {"messages": [_message(request.world, row) for row in page]} | counts

    def session(self, request: SandboxRequest, context: ApiContext) -> Row:  # noqa: ARG002
        world, row = request.world, request.row
        status = _STATUSES[row["status"]] if row["status"] in {0, 1, 2} else f"status-{row['status']}"
        return _chat(world, row) | {"message_count": world.message_count(row["id"]), "status": status}

    def create(self, request: SandboxRequest, context: ApiContext) -> SandboxResponse:
        new, world = self.body(request, context, _NewChat), request.world
        row = world.add_session(row_time(context.now()), status=0)
        world.note(row["id"], user=new.user_id, title=new.title, metadata=new.metadata or {})
        return SandboxResponse(201, self.encoded(_chat(world, row)))

    def delete(self, request: SandboxRequest, context: ApiContext) -> Row:
        name = request.row["id"]
        if name in request.world.joined:
            raise Refused(409, "Chat has an active websocket connection")
        request.world.remove_session(name)
        deleted_at = zoned(row_time(context.now()))
        return {"success": True, "message": "Chat deleted successfully", "deleted_at": deleted_at}

    def _page(
        self, rows: Sequence[Row], request: SandboxRequest, context: ApiContext, *, order: str
    ) -> tuple[Sequence[Row], Row]:
        query, answers = self.parameters(request, context, _PageQuery), context.answers
        if query.limit > _MOST and answers.over_limit == "refuse":
            raise self.invalid(["query", "limit"], f"Expected `int` <= {_MOST}", answers)
        limit = min(query.limit, _MOST)
        most = 0 if request.fault == "empty-page" else min(limit, answers.max_page or limit)
        ordered = rows if (query.order or order) == "asc" else rows[::-1]
        page = ordered[query.offset : query.offset + most]
        more = query.offset + len(page) < len(rows)
        totals = {"right": len(rows), "few": len(page), "many": len(rows) + _TOO_MANY}
        promises = {"right": more, "false": False, "true": bool(page) or more}
        counts = {
            "total": totals.get(answers.lexicon_total),
            "offset": query.offset,
            "limit": limit,
            "has_more": promises.get(answers.lexicon_has_more),
        }
        return page, {field: value for field, value in counts.items() if value is not None}


def _chats_of(world: World, user: str, time: str) -> list[Row]:
    rows = [row for row in world.session_table.rows if user_of(world, row["id"]) == user]
    return sorted(rows, key=lambda row: (_updated(world, row), row["id"])) if time == "updated_at" else rows


def _chat(world: World, session: Row) -> Row:
    name = session["id"]
    notes = world.notes.get(name, {})
    made_up = f"Chat {name[:8]}" if share(name, 2) else None
    return {
        "id": name,
        "user_id": user_of(world, name),
        "tenant_id": notes.get("tenant", f"tenant-{world.seed}"),
        "title": notes.get("title", made_up),
        "config": {"metadata": notes.get("metadata", {})},
        "created_at": zoned(session["startTime"]),
        "updated_at": zoned(_updated(world, session)),
        "last_message_at": zoned(world.last_message_time(name)),
    } | unknown_fields(session)


def _message(world: World, row: Row) -> Row:
    notes = world.notes.get(row["id"], {})
    return {
        "id": row["id"],
        "content": row["content"],
        "sender_role": role_word(row["role"]),
        "media_type": notes.get("media_type", f"type-{row['messageType']}" if row["messageType"] else None),
        "media_url": notes.get("media_url"),
        "created_at": zoned(row["createdAt"]),
        "metadata": notes.get("metadata", {}),
    } | unknown_fields(row)


def _updated(world: World, session: Row) -> str:
    times = (session["startTime"], session["endTime"], world.last_message_time(session["id"]))
    return max(time for time in times if time)


def user_of(world: World, session_id: str) -> str:
    return world.noted(session_id, "user", "") or made_up_user(session_id)
