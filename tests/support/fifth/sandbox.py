"""How that API answers."""

import msgspec

from .exchange import NOTHING, Answered, Refused, opened
from .faults import PAGE_FAULTS
from .routes import Routes
from .translated import role, unknown, zoned

NAME = "fifth"
BASE = ""
PREFIX = "/v5/talks"
WRONG_SHAPES = (b"null", b"[]", b'{"rows":7,"ref":[7]}')

ROUTES = Routes(PREFIX, {"GET ": "sessions", "GET {id}": "session", "GET {id}/lines": "messages"})


def kind(asked):
    return ROUTES.kind(asked)


def session(asked):
    return ROUTES.step(asked, "id")


def secret(asked):
    return asked.headers.get("X-Fifth", "")


def can_play(fault, asked):  # noqa: ARG001
    return fault not in PAGE_FAULTS


def headers(asked, room):  # noqa: ARG001
    return NOTHING


def refusal(code, message, asked, answers, wait=None):  # noqa: ARG001
    told = {} if wait is None else {"Retry-After": f"{wait:g}"}
    return Answered(code, message.encode(), "text/plain", told)


def answer(asked, room, fault=None):  # noqa: ARG001
    try:
        return Answered(200, msgspec.json.encode(said(asked, world_of(asked, room), room.answers.max_page)))
    except Refused as no:
        return refusal(no.code, no.message, asked, room.answers)


def world_of(asked, room):
    world = opened(secret(asked), room)
    if world is None:
        raise Refused(401, "Who are you?")
    return world


def said(asked, world, most):
    if asked.kind == "sessions":
        return page(asked, [talk(world, row) for row in world.session_table.rows], "ref", most)
    if not asked.kind:
        raise ROUTES.refused(asked)
    row = world.session_row(session(asked))
    if row is None:
        raise Refused(404, "No such talk")
    if asked.kind == "session":
        return talk(world, row)
    return page(asked, [line(each) for each in world.message_table(row["id"]).rows], "nr", most)


def talk(world, row):
    return {
        "ref": row["id"],
        "opened": zoned(row["startTime"]),
        "subject": None,
        "revision": world.changes[row["id"]],
    } | unknown(row)


def line(row):
    told = {"nr": row["id"], "who": role(row["role"]), "text": row["content"], "at": zoned(row["createdAt"])}
    return told | unknown(row)


def page(asked, rows, key, most):
    names = [row[key] for row in rows]
    begin = names.index(asked.query["after"]) + 1 if "after" in asked.query else 0
    found = rows[begin:][: min(int(asked.query["count"]), most or 50)]
    return {"rows": found, "more": found[-1][key] if found else None}
