"""What a request to LlamaCloud must hold, and how it is told what it lacks.

What does not validate is `Refused` with 422, in the way of the framework the API is made with.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from .answers import Answers
from .exchange import Asked, Refused
from .table import Row

_MOST_PROMPT: Final = 1_000
_MOST_INDEXES: Final = 10
# The sandbox has every index but those whose ids begin so.
_UNKNOWN_INDEX: Final = "unknown"
_USUAL_PAGE: Final = 20
_MOST_PAGE: Final = 100
_LONGEST_NUMBER: Final = 9


class Turn(NamedTuple):
    """What a turn is asked with: the prompt, which of its indexes there are not, and whether it needs all."""

    prompt: str
    skipped: list[str]
    all_needed: bool


def page_size(query: Mapping[str, str], answers: Answers) -> int:
    """How many sessions a page has at most."""
    where, text = ("query", "page_size"), query.get("page_size", str(_USUAL_PAGE))
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= _LONGEST_NUMBER):
        raise invalid(where, "Input should be a valid integer", "int_parsing")
    size = int(text)
    if size < 1:
        raise invalid(where, "Input should be greater than or equal to 1", "greater_than_equal")
    if size > _MOST_PAGE and answers.over_limit == "refuse":
        raise invalid(where, f"Input should be less than or equal to {_MOST_PAGE}", "less_than_equal")
    return min(size, _MOST_PAGE, answers.max_page or _MOST_PAGE)


def new_session(asked: Asked) -> Row:
    """The fields of a session that is created: *index_ids* and *shared_access*."""
    body = _body(asked)
    index_ids = None if body.get("index_ids") is None else _texts(body, "index_ids")
    access = body.get("shared_access")
    if access not in (None, "query", "read_only"):
        raise invalid(("body", "shared_access"), "Input should be 'query' or 'read_only'", "literal_error")
    return {"index_ids": index_ids, "shared_access": access or "read_only"}


def first_message(asked: Asked) -> str:
    """What a title is to be made from."""
    return _text(_body(asked), "first_message")


def turn(asked: Asked) -> Turn:
    """What a turn is asked with."""
    body = _body(asked)
    prompt, index_ids = _text(body, "prompt"), _texts(body, "index_ids")
    all_needed = body.get("require_all_indexes", False)
    if len(prompt) > _MOST_PROMPT:
        too_long = f"String should have at most {_MOST_PROMPT} characters"
        raise invalid(("body", "prompt"), too_long, "string_too_long")
    if len(index_ids) > _MOST_INDEXES:
        raise invalid(("body", "index_ids"), f"List should have at most {_MOST_INDEXES} items", "too_long")
    if not isinstance(all_needed, bool):
        raise invalid(("body", "require_all_indexes"), "Input should be a valid boolean", "bool_parsing")
    return Turn(prompt, [each for each in index_ids if each.startswith(_UNKNOWN_INDEX)], all_needed)


def invalid(where: tuple[str | int, ...], message: str, name: str) -> Refused:
    """The refusal of what stands *where*, by the *name* of the rule it breaks."""
    return Refused(422, message, detail=[{"loc": list(where), "msg": message, "type": name}])


def _body(asked: Asked) -> Row:
    try:
        return msgspec.json.decode(asked.body or b"null", type=Row)
    except msgspec.ValidationError:
        raise invalid(("body",), "Input should be a valid object", "model_attributes_type") from None
    except msgspec.DecodeError:
        raise invalid(("body",), "JSON decode error", "json_invalid") from None


def _text(body: Row, name: str) -> str:
    value = _required(body, name)
    if not isinstance(value, str):
        raise invalid(("body", name), "Input should be a valid string", "string_type")
    return value


def _texts(body: Row, name: str) -> list[str]:
    value = _required(body, name)
    if not isinstance(value, list):
        raise invalid(("body", name), "Input should be a valid list", "list_type")
    for number, each in enumerate(value):
        if not isinstance(each, str):
            raise invalid(("body", name, number), "Input should be a valid string", "string_type")
    return value


def _required(body: Row, name: str) -> Any:
    if name not in body:
        raise invalid(("body", name), "Field required", "missing")
    return body[name]
