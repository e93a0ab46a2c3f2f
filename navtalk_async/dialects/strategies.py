"""How a list goes on after a page: by a cursor, a token or an offset, or not at all."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from navtalk_async.dialects.arguments import page_size, text
from navtalk_async.models import Page, Request
from navtalk_async.paging.offsets import goes_on

__all__ = ["ByCursor", "ByOffset", "ByToken", "Single"]

Field = tuple[str, Any, Any]

WHOLE_NUMBER = re.compile("[0-9]{1,18}").fullmatch

TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Single(msgspec.Struct, frozen=True, kw_only=True):
    """One answer has every row."""

    size: str = ""
    """The parameter that says how many rows a page has."""
    position: str = ""
    """The parameter that says where a page begins."""

    @property
    def arguments(self) -> Sequence[str]:
        """The arguments of a list that this strategy takes."""
        return ()

    @property
    def fields(self) -> Sequence[Field]:
        """The fields of an answer that it wants to know: attribute, type, and `msgspec.field`."""
        return ()

    def params(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The parameters of a first page, by the arguments that were *given*; a ValueError for a bad one."""
        return {}

    def page(self, request: Request, rows: list[Any], answer: Any) -> Page[Any]:
        """The page of *rows* that answers *request*; *answer* has the `fields`."""
        return Page(rows)


class ByCursor(Single, frozen=True, kw_only=True):
    """Each page says how to ask for the next one, by a cursor or by its last row."""

    most: int
    """The most rows of a page."""
    usual: int | None = None
    """The rows of a page where no `limit` is given; by default *most*, the fewest requests."""
    size: str = "limit"
    position: str = "cursor"
    following: str = "nextCursor"
    """The field of the answer that holds the next position. Null, empty or missing, it ends the list."""

    @property
    def arguments(self) -> Sequence[str]:
        return ("limit", self.position)

    @property
    def fields(self) -> Sequence[Field]:
        return [("following", str | None, msgspec.field(default=None, name=self.following))]

    def params(self, given: Mapping[str, Any]) -> dict[str, str]:
        limit, position = given.get("limit"), given.get(self.position)
        params = {self.size: page_size(limit, most=self.most, usual=self.usual, name=self.size)}
        if position is not None:
            params[self.position] = text(self.position, position)
        return params

    def page(self, request: Request, rows: list[Any], answer: Any) -> Page[Any]:
        if not answer.following:
            return Page(rows)
        # With all filters again: whether a cursor remembers them is not documented.
        return Page(rows, request.having(**{self.position: answer.following}))


class ByToken(ByCursor, frozen=True, kw_only=True):
    """Each page has the token of the next one."""

    size: str = "page_size"
    position: str = "page_token"
    following: str = "next_page_token"


class ByOffset(Single, frozen=True, kw_only=True):
    """A page is asked for by the number of rows before it."""

    most: int
    usual: int | None = None
    size: str = "limit"
    position: str = "offset"

    @property
    def arguments(self) -> Sequence[str]:
        return ("limit", self.position)

    @property
    def fields(self) -> Sequence[Field]:
        # In any type; an answer's own `offset` is ignored: some servers always send 0.
        return [(name, Any, None) for name in ("total", "limit", "has_more")]

    def params(self, given: Mapping[str, Any]) -> dict[str, str]:
        offset = given.get(self.position, 0)
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError(f"{self.position}={offset!r} is no number of rows to leave out.")
        limit = page_size(given.get("limit"), most=self.most, usual=self.usual, name=self.size)
        return {self.size: limit, self.position: str(offset)}

    def page(self, request: Request, rows: list[Any], answer: Any) -> Page[Any]:
        """The next page begins behind the rows that came, however many were asked for."""
        at, limit = int(request.params[self.position]), int(request.params[self.size])
        total, has_more = number(answer.total), truth(answer.has_more)
        full = min(limit, number(answer.limit) or limit)
        going_on = goes_on(len(rows), at + len(rows), full=full, has_more=has_more, total=total)
        reached = at + len(rows) if rows and going_on else None
        if not rows and has_more and total is not None and at + full < total:
            # Rows that the total counts and the server leaves out may fill a page.
            reached = at + full
        following = None if reached is None else request.having(**{self.position: str(reached)})
        return Page(rows, following, total, offset_param=self.position, full=full, has_more=has_more)


def number(value: object) -> int | None:
    """*value*, a number or its digits, if it counts something."""
    if isinstance(value, str) and WHOLE_NUMBER(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def truth(value: object) -> bool | None:
    """*value*, a truth value in any of the usual spellings; None where it is none."""
    return TRUTH.get(str(value).lower())
