"""What a terminal shows: long output in a pager, colours, wide letters in line."""

import asyncio
import fcntl
import os
import select
import struct
import termios
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from looked_at import synced
from rich.cells import cell_len
from shell import navtalk, read_terminal, run_on_terminal, start_command

from navtalk_async.cli._layout import MESSAGE_COLUMNS, SESSION_COLUMNS, Table, clipped, fitted, wrapped

LETTERS = [*"ab ,部署日本語ไทย🙂é", "e\u0301"]
WIDE = st.lists(st.sampled_from(LETTERS), max_size=60).map("".join)


@given(WIDE, st.integers(2, 30))
def test_wrapped_lines_hold_all_letters_and_fit(text, width):
    lines = wrapped(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(map(cell_len, lines)) <= width


@given(WIDE, st.integers(1, 30))
def test_a_clipped_text_fills_its_column(text, width):
    assert cell_len(clipped(text, width)) == width


@given(st.integers(1, 300))
def test_columns_fit_the_terminal_or_are_those_that_must_be(room):
    widths = fitted(SESSION_COLUMNS, room)
    assert "id" in widths
    assert len(widths) == 1 or sum(widths.values()) + len(widths) - 1 <= room


@given(st.lists(WIDE, min_size=1, max_size=5))
def test_columns_behind_wide_letters_line_up(titles):
    rows = [
        dict.fromkeys(SESSION_COLUMNS, "x") | {"id": f"i{at}", "title": each}
        for at, each in enumerate(titles)
    ]
    lines = Table({"title": 30, "video_url": 0}).text(
        [row | {"video_url": "|"} for row in rows], header=False
    )
    assert {cell_len(line.partition("|")[0]) for line in lines.splitlines()} == {31}


def test_an_id_and_a_position_are_never_cut():
    rows = [{"id": "i" * size, "status": "s", "position": 10**size} for size in (3, 36, 90)]
    text = Table({"position": 4, "id": 36, "status": 9}).text(rows, header=False)
    assert [line.split() for line in text.splitlines()] == [[str(10**s), "i" * s, "s"] for s in (3, 36, 90)]
    assert "content" in MESSAGE_COLUMNS


PROMPT = ":\x1b[K"


class Terminal:
    """A process on a terminal that is its own, as a shell's commands have it."""

    def __init__(self, process, descriptor):
        self._process, self._descriptor, self.shown = process, descriptor, ""

    async def wait_for(self, text, times=1):
        while self.shown.count(text) < times:
            data = await asyncio.to_thread(os.read, self._descriptor, 65536)
            self.shown += data.decode(errors="replace").replace("\r\n", "\n")

    async def press_until(self, keys, text):
        """Press again while nothing is shown: keys pressed while less is interrupted are lost."""
        while text not in self.shown:
            self.press(keys)
            if (await asyncio.to_thread(select.select, [self._descriptor], [], [], 1))[0]:
                self.shown += os.read(self._descriptor, 65536).decode(errors="replace")

    def press(self, keys):
        os.write(self._descriptor, keys)

    async def end(self):
        reading = asyncio.create_task(asyncio.to_thread(read_terminal, self._descriptor))
        code = await self._process.wait()
        self.shown += await reading
        return code


@asynccontextmanager
async def on_terminal(*arguments, lines=20, columns=100, **env):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def take_the_terminal():
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    how = {"start_new_session": True, "preexec_fn": take_the_terminal, **streams}
    async with start_command(*arguments, env={"COLUMNS": None, "PAGER": None, **env}, **how) as process:
        os.close(theirs)
        yield Terminal(process, ours)
    os.close(ours)


@pytest.fixture
async def place(tmp_path):
    return await synced(tmp_path / "archive.db")


def looking(place, *more):
    return ("sessions", "--store", place, *more)


async def test_long_output_goes_through_less_which_the_user_may_leave(place):
    ids = [each["id"] for each in (await navtalk(*looking(place), "--json")).rows]
    for more in ((), ("--json",)):
        async with on_terminal(*looking(place, *more)) as terminal:
            await terminal.wait_for(ids[0])
            await terminal.wait_for(PROMPT)
            terminal.press(b"q")
            assert await terminal.end() == 0
        assert ids[59] not in terminal.shown


async def test_less_that_is_interrupted_goes_on_until_it_is_left(place):
    async with on_terminal(*looking(place)) as terminal:
        await terminal.wait_for(PROMPT)
        terminal.press(b"\x03")
        await terminal.press_until(b"G", "(END)")
        terminal.press(b"q")
        assert await terminal.end() == 130


async def test_what_fits_is_shown_without_a_pager(place):
    async with on_terminal(*looking(place, "--limit", "10"), PAGER="false") as terminal:
        assert await terminal.end() == 0
    assert len(terminal.shown.splitlines()) == 11


async def test_without_a_pager_everything_is_shown(place):
    for pager in ("", "cat", "no-such-pager", "'"):
        async with on_terminal(*looking(place), PAGER=pager) as terminal:
            assert await terminal.end() == 0
        assert len(terminal.shown.splitlines()) == 61


async def test_a_pager_is_given_everything_and_one_that_ends_early_is_no_error(place, tmp_path):
    async with on_terminal(*looking(place), PAGER=f"tee {tmp_path / 'given'}") as terminal:
        assert await terminal.end() == 0
    assert len((tmp_path / "given").read_text().splitlines()) == 61
    for pager in ("true", "head -c 1"):
        async with on_terminal(*looking(place), PAGER=pager) as terminal:
            assert await terminal.end() == 0
        assert "navtalk" not in terminal.shown


async def test_colours_are_for_terminals_that_want_them(place):
    for env, has_colours in (
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ):
        for arguments in (looking(place, "--limit", "5"), ("report", place)):
            _, shown = await run_on_terminal(*arguments, env=env)
            assert ("\x1b[" in shown) == has_colours
    for arguments in (looking(place), ("report", place)):
        assert "\x1b[" not in (await navtalk(*arguments)).out
