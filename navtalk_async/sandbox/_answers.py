"""What the APIs' references leave open, and which of the possible answers the sandbox gives."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One answer to each question that nobody outside the vendors can answer; a client has to bear them all.

    The defaults are what the reference pages show, where they show anything. What a name begins with another
    API's is of that API alone; *errors* is NavTalk's, but for ``bare``, which is everybody's.
    """

    cursor_on_last_page: bool = True
    """True: every page that has rows has a ``nextCursor``, and a walk ends with an empty page."""
    last_cursor: Literal["null", "empty", "missing"] = "null"
    """What ``nextCursor`` is at the end: null, an empty string, or not there."""
    errors: Literal["status", "body", "both", "bare"] = "status"
    """How a failure is answered: an HTTP status with an envelope; HTTP 200 with the ``code`` in the body;
    both in turn; or an HTTP status with a line of text that is not JSON."""
    start_inclusive: bool = True
    """Whether a row of the very second *startTime* is listed."""
    end_inclusive: bool = True
    """Whether a row of the very second *endTime* is listed."""
    end_bounds: Literal["start", "end"] = "start"
    """Whether the *endTime* filter bounds a session's start or its end, which an open session has not."""
    over_limit: Literal["clamp", "refuse"] = "clamp"
    """Whether a ``limit`` over the documented maximum means the maximum, or a refusal (NavTalk: 400)."""
    filters_ignored: bool = False
    """True: ``startTime`` and ``endTime`` change nothing."""
    cursor_needs_filters: bool = True
    """True: filters hold for the request they came with, and without them page two has every row.
    False: the cursor remembers the filters it was made with."""
    max_page: int | None = None
    """The most rows a page has, whatever was asked: short pages with more behind them."""
    kodey_messages: Literal["empty", "all", "missing"] = "empty"
    """What ``messages`` of a single chat holds: nothing, every message, or it is not there."""
    kodey_user: Literal["string", "null", "missing"] = "string"
    """What ``userId`` is of a chat that was made without: ``anonymous``, null, or not there."""
    kodey_401: Literal["message", "both"] = "message"
    """Whether a 401 has only a ``message``, or an ``error`` too, as every other failure."""
    kodey_order: Literal["asc", "desc", "none"] = "asc"
    """How chats and messages are ordered: by time, the latest first, or in no order of time at all."""
    kodey_limits: bool = False
    """True: ``pk_live_`` keys may ask 100 times a minute and all others 1,000 times, then 429."""
    lexicon_errors: Literal["detail", "error"] = "detail"
    """The body of a failure: ``{"detail": …}``, or ``{"error": …, "message": …}``."""
    lexicon_invalid: Literal["400", "422"] = "400"
    """The status of a request that lacks something, or has a value that is not allowed."""
    lexicon_has_more: Literal["right", "false", "true", "missing"] = "right"
    """Whether ``has_more`` is right; always false, as in the reference's own sample; true on every page that
    has rows, also the last; or not there."""
    lexicon_total: Literal["right", "few", "many", "missing"] = "right"
    """Whether ``total`` is the number of rows; of those that came; more than there are; or not there."""
    lexicon_sorts_by: Literal["created_at", "updated_at"] = "created_at"
    """The time that a user's chats are ordered by."""
    llamacloud_order: Literal["newest", "oldest", "id"] = "newest"
    """Whether the latest update comes first, or last; or sessions are ordered by id."""
    llamacloud_shared_access: bool = True
    """True: as since its SDK's 2.18, with ``shared_access`` on a session and ``skipped_index_ids`` on a stop;
    False: as before, without either."""
    llamacloud_deltas_in_history: bool = False
    """Whether a session's events keep the deltas a text came in, beside the text."""
    llamacloud_line_ends: Literal["lf", "crlf", "cr"] = "lf"
    """How the lines of a stream end."""
