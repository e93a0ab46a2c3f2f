"""What the API's reference leaves open, and which of the possible answers the sandbox gives."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One answer to each thing nobody outside the vendor knows; a client has to live with all of them.

    The defaults are what the reference page shows, where it shows anything.
    """

    cursor_on_last_page: bool = True
    """True: every page that has rows has a ``nextCursor``, and a walk ends with an empty page."""

    last_cursor: Literal["null", "empty", "missing"] = "null"
    """How the end is told: ``nextCursor`` is null, is an empty string, or is not there."""

    errors: Literal["status", "body", "both", "bare"] = "status"
    """How a failure is told: by HTTP status with an envelope; by HTTP 200 with the ``code`` in the body;
    now one and now the other; or by HTTP status with a line of text that is no JSON."""

    start_inclusive: bool = True
    """Whether a row of the very second *startTime* is listed."""

    end_inclusive: bool = True
    """Whether a row of the very second *endTime* is listed."""

    end_bounds: Literal["start", "end"] = "start"
    """Whether the *endTime* filter bounds a session's start or its end; one that runs has not ended yet."""

    over_limit: Literal["clamp", "refuse"] = "clamp"
    """What becomes of a ``limit`` over the documented maximum: the maximum, or a 400."""

    filters_ignored: bool = False
    """True: ``startTime`` and ``endTime`` change nothing."""

    cursor_needs_filters: bool = True
    """True: filters hold for the request they came with, and who drops them on page two gets every row.
    False: the cursor remembers the filters it was made with."""

    max_page: int | None = None
    """The most rows a page has, whatever was asked: short pages with more behind them."""

    sessions_order: Literal["newest", "oldest", "id"] = "newest"
    """LlamaCloud's listing: what was updated last comes first, or comes last; or by id."""

    shared_access: bool = True
    """LlamaCloud: True as it is since its SDK's 2.18, with ``shared_access`` on a session and
    ``skipped_index_ids`` on a stop; False as it was before, without either."""

    deltas_in_history: bool = False
    """LlamaCloud: whether a session's events keep the deltas a text came in, beside the text."""

    line_ends: Literal["lf", "crlf", "cr"] = "lf"
    """LlamaCloud: how the lines of a stream end."""
