"""How an API speaks that nobody has: talks, walked from each page's last one on, and the lines of each."""

import msgspec

from navtalk_async.dialects.dialect import ByCursor, Dialect, Endpoint
from navtalk_async.models import KeyPlace, Message, Role, Session

PAGES = ByCursor(most=50, size="count", position="after", following="more")


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
    noun = "talk"
    key_place = KeyPlace("header", "X-Fifth")
    key_variable = "FIFTH_API_KEY"
    base_url_variable = "FIFTH_BASE_URL"
    record_kinds = (Talk, Line)
    sessions = Endpoint("/v5/talks", rows="rows", paging=PAGES)
    session_path = "/v5/talks/{id}"
    messages = Endpoint("/v5/talks/{id}/lines", rows="rows", paging=PAGES)
