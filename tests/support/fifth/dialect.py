"""How an API speaks that nobody has: talks, walked from each page's last one on, and the lines of each."""

from urllib.parse import quote

import msgspec

from navtalk_async.dialects.checks import name_of_a_thing, page_size
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.refusals import accepted, api_error
from navtalk_async.dialects.rows import as_record
from navtalk_async.models import KeyPlace, Message, Page, Request, Role, Session

PATH = "/v5/talks"


class Talk(Session, frozen=True, kw_only=True, gc=False):
    id: str = msgspec.field(name="ref")
    start_time_text: str | None = msgspec.field(default=None, name="opened")
    title: str | None = msgspec.field(default=None, name="subject")

    @property
    def is_final(self):
        return True

    @property
    def final_since(self):
        return self.start_time_text


class Line(Message, frozen=True, kw_only=True, gc=False):
    id: str = msgspec.field(name="nr")
    role: Role | str | None = msgspec.field(default=None, name="who")
    content: str | None = msgspec.field(default=None, name="text")
    created_at_text: str | None = msgspec.field(default=None, name="at")


class Fifth(Dialect):
    api = "fifth"
    name = "The Fifth"
    default_base_url = None
    key_place = KeyPlace("header", "X-Fifth")
    key_variable = "FIFTH_API_KEY"
    base_url_variable = "FIFTH_BASE_URL"
    record_kinds = (Talk, Line)

    def root(self, base_url):
        return base_url.rstrip("/")

    def checked_id(self, session_id):
        return name_of_a_thing("talk", session_id)

    def list_sessions(self, *, limit=None):
        return Request(path=PATH, params={"count": page_size(limit, most=50)})

    def get_session(self, session_id):
        return Request(path=f"{PATH}/{quote(session_id, safe='')}")

    def list_messages(self, session_id, *, limit=None):
        path = f"{PATH}/{quote(session_id, safe='')}/lines"
        return Request(path=path, params={"count": page_size(limit, most=50)})

    def read_sessions(self, request, response):
        return page_of(request, response, Talk)

    def read_session(self, request, response):  # noqa: ARG002
        return as_record(Talk, accepted(response, msgspec.Raw, api_error))

    def read_messages(self, request, response):
        return page_of(request, response, Line)


class Rows(msgspec.Struct):
    rows: list[msgspec.Raw]
    more: str | None = None


def page_of(request, response, kind):
    answer = accepted(response, Rows, api_error)
    following = request.having(after=answer.more) if answer.more else None
    return Page([as_record(kind, row) for row in answer.rows], following)
