"""A conversation as LlamaCloud tells it: the events of every turn, made of a session's messages.

What an answer thought and which tools it called follows from the id of its message, so an event is the same
whenever it is asked for, and whoever asks.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final

import msgspec

from ._api import share, unknown_fields
from ._generated import Row

_USER: Final = 0
_ASSISTANT: Final = 1
_THOUGHTS: Final = (
    "The user may mean the invoice, or the order.",
    "質問の意図を確認する。\nThen look at the sources.",
    "",
    "First the plan:\r\n1. search\r\n2. read \u2028 3. answer",
)
_RESULTS: Final[tuple[Any, ...]] = (
    [{"text": "Clause 7: thirty days.", "score": 0.75, "page": None}],
    "no match",
    {"rows": [[1, "ü"], [2, None]], "more": False},
    None,
    7,
)
_DELTAS: Final = 40
_PING: Final = 4

_json = msgspec.json.Encoder().encode


def history(rows: Sequence[Row], notes: Row, *, skips: bool, deltas: bool = False) -> list[Row]:
    """The events of a whole session; *notes* has, by a message's id, how the turn it ended went.

    *skips* is whether a stop says which indexes it left out, *deltas* whether the parts a text came in are
    kept beside it.
    """
    found: list[Row] = []
    for row, following in zip_longest(rows, rows[1:]):
        found += message_events(row)
        if ends_turn(row, following, notes):
            found.append(stop(row, notes, skips=skips))
    return list(with_deltas(found)) if deltas else found


def last_run(rows: Sequence[Row], notes: Row) -> Row | None:
    """How the latest turn that came to its end went, as a summary has it; None when there was none."""
    following = None
    for row in reversed(rows):
        if ends_turn(row, following, notes):
            ended = stop(row, notes, skips=False)
            exported = ["export-config-1"] if _dice(row) % 5 == 0 else None
            told = {"error": ended["error"], "is_error": ended["is_error"], "export_config_ids": exported}
            return {**ended["usage"], **told}
        following = row
    return None


def ends_turn(row: Row, following: Row | None, notes: Row) -> bool:
    """Whether a stop comes after *row*: after the last message of an answer, or a prompt that failed."""
    answered = row["role"] == _ASSISTANT and (following is None or following["role"] != _ASSISTANT)
    return answered or "stop" in notes.get(row["id"], {})


def message_events(row: Row) -> list[Row]:
    """The events of one message; what a row has beside the documented fields goes along."""
    more, role, content = unknown_fields(row), row["role"], row["content"]
    if role == _USER:
        return [{"type": "user_input", "content": content} | more]
    if role != _ASSISTANT:
        return [{"type": "annotation", "content": content, "role": role} | more]
    return [*_thinking(_dice(row)), *_tools(_dice(row)), {"type": "text", "content": content} | more]


def stop(row: Row, notes: Row, *, skips: bool) -> Row:
    """The event that ends the turn whose last message is *row*."""
    note = notes.get(row["id"], {}).get("stop", {})
    dice, error = _dice(row), note.get("error")
    event: Row = {
        "type": "stop",
        "error": error,
        "is_error": error is not None,
        "usage": {
            "duration_ms": 250 + dice % 40_000 / 8,
            "total_input_tokens": 20 + dice % 4_001,
            "total_output_tokens": 0 if error else 1 + dice % 997,
            "turns": 1 if error or dice % 3 else 2,
        },
    }
    return event | {"skipped_index_ids": note.get("skipped_index_ids")} if skips else event


def with_deltas(events: Iterable[Row]) -> Iterator[Row]:
    """The *events*, each text and each thinking after the deltas it came in."""
    for event in events:
        if event["type"] in {"text", "thinking"}:
            content = event["content"]
            size = 7 + len(content) // _DELTAS
            for begin in range(0, len(content), size):
                yield {"type": event["type"] + "_delta", "content": content[begin : begin + size]}
        yield event


def event_stream(events: Iterable[Row], line_end: str) -> Iterator[bytes]:
    """The *events* as a ``text/event-stream``, a piece for each, with a comment here and there."""
    for number, event in enumerate(events):
        name = "delta" if event["type"].endswith("_delta") else "message"
        head = (": ping" + line_end * 2 if number % _PING == 0 else "") + f"event: {name}{line_end}data: "
        yield head.encode() + _json(event) + line_end.encode() * 2


def _thinking(dice: int) -> list[Row]:
    if dice % 2:
        return []
    return [{"type": "thinking", "content": _THOUGHTS[dice // 2 % len(_THOUGHTS)]}]


def _tools(dice: int) -> list[Row]:
    if dice % 3:
        return []
    call = {"call_id": f"call_{dice:08x}", "name": "retrieve" if dice % 9 else "read_page"}
    page = {"attachment_name": f"page_{dice % 50}.png", "source_id": f"source-{dice:08x}"}
    arguments = {"query": "refund terms", "top_k": dice % 8, "filters": {"year": [2025, None]}}
    return [
        {"type": "tool_call", "arguments": arguments if dice % 4 else {}} | call,
        {
            "type": "tool_result",
            "result": _RESULTS[dice // 3 % len(_RESULTS)],
            "image_attachment": page if dice % 9 == 0 else None,
        }
        | call,
    ]


def _dice(row: Row) -> int:
    return share(row["id"], 1 << 32)
