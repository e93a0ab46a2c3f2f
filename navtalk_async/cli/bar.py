"""The bar at the bottom of a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from navtalk_async.cli.progress import Glance, counts_text, share_text, why_text
from navtalk_async.cli.talk import visible

__all__ = ["bar", "drawn"]


@contextmanager
def bar(look: Callable[[], Glance]) -> Iterator[None]:
    """Draw what *look* sees, until the `with` is left; then nothing of it remains.

    It is drawn by a thread of its own, so a terminal that is held up (Ctrl-S) does not hold up the work.
    """
    console = Console(stderr=True)
    with Live(get_renderable=lambda: drawn(look()), console=console, transient=True, refresh_per_second=8):
        # A bar that is killed cannot bring the cursor back, so it is not taken away.
        console.show_cursor(True)
        yield


def drawn(seen: Glance) -> RenderableType:
    """*seen* as a bar, with what there is to say below it."""
    top = Table.grid(padding=(0, 1), expand=True)
    top.add_column(ratio=1)
    top.add_column(no_wrap=True)
    top.add_column(no_wrap=True, style="dim")
    top.add_row(
        ProgressBar(total=1.0, completed=seen.share or 0.0, pulse=seen.share is None),
        share_text(seen),
        clock(seen.seconds),
    )
    rows: list[RenderableType] = [top, Text(counts_text(seen), no_wrap=True, overflow="ellipsis")]
    why = why_text(seen)
    if why:
        rows.append(Text(visible(why), style="yellow", no_wrap=True, overflow="ellipsis"))
    return Group(*rows)


def clock(seconds: float) -> str:
    """*seconds* as `h:mm:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
