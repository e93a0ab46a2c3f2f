"""How that API answers."""

from typing import ClassVar

from navtalk_async.sandbox import Api, role_word, unknown_fields, zoned


class FifthApi(Api):
    name = "fifth"
    prefix = "/v5/talks"
    routes: ClassVar = {"GET ": "sessions", "GET /{id}": "session", "GET /{id}/lines": "messages"}
    key_header = "X-Fifth"

    def sessions(self, request):
        world = request.world
        return page([talk(world, row) for row in world.session_rows], "ref", request)

    def session(self, request):
        return talk(request.world, request.row)

    def messages(self, request):
        rows = request.world.message_rows(request.row["id"])
        return page([line(row) for row in rows], "nr", request)


def talk(world, row):
    known = {"ref": row["id"], "opened": zoned(row["startTime"]), "subject": None}
    return known | {"revision": world.changes[row["id"]]} | unknown_fields(row)


def line(row):
    known = {"nr": row["id"], "who": role_word(row["role"]), "text": row["content"]}
    return known | {"at": zoned(row["createdAt"])} | unknown_fields(row)


def page(rows, key, request):
    after = request.query.get("after")
    begin = [row[key] for row in rows].index(after) + 1 if after else 0
    found = rows[begin:][: min(int(request.query["count"]), request.answers.max_page or 50)]
    return {"rows": found, "more": found[-1][key] if found else None}
