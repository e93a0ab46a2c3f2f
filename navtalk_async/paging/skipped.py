"""Rows that could not be read, counted once however often their page is read."""

from typing import Any

from navtalk_async.models import Page, Request

__all__ = ["skipped_rows"]


def skipped_rows(request: Request, page: Page[Any]) -> list[tuple[object, ...]]:
    """What tells the skipped rows of *page* from others, though it be read twice: the place of each, or where
    places may move, the row before it.
    """
    if page.offset_param is not None:
        begin = int(request.params[page.offset_param])
        return [(request.path, begin + at) for at in page.skipped]
    rows: list[tuple[object, ...]] = []
    for number, at in enumerate(page.skipped):
        before = at - number
        where = (page.items[before - 1].id,) if before else tuple(request.params.values())
        rows.append((request.path, *where, number if before else at))
    return rows
