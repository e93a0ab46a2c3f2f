"""`navtalk report`: the statistics of an archive, as bars and a heat map."""

from collections.abc import Callable, Iterator, Sequence
from shutil import get_terminal_size

from navtalk_async.archive import redacted
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._layout import STYLES, cell, cells_of, clipped, styled
from navtalk_async.cli._options import Place, command
from navtalk_async.cli._output import Reporter, amount
from navtalk_async.cli._pager import paged
from navtalk_async.cli.app import Exit, run
from navtalk_async.errors import counted
from navtalk_async.formats import chosen_projects
from navtalk_async.formats.overview import Bar, Overview, Summary, read_overview

WIDEST = 120
LEAST_BAR = 10

EIGHTHS = " ▏▎▍▌▋▊▉"
COLUMN = " ▁▂▃▄▅▆▇"
FULL = "█"
SHADES = " ░▒▓█"
HEIGHT = 5

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
UNITS = {"s": 60, "min": 60, "h": 24}


@command("place", "only_project", "as_json")
def report_command(*, place: Place, only_project: str | None, as_json: bool) -> int:
    """Show the statistics of an archive: when, how long, how many, how slow.

    Times are UTC. The archive is only read, also while another run writes to it.

    Examples:
      navtalk report archive.db
      navtalk report out --json | jq .overview.statuses
    """
    shown = redacted(place)

    async def work() -> int:
        async with readable(place, immutable=False) as archive:
            names = [each.project for each in await chosen_projects(archive, only_project)]
            overview = await read_overview(archive, names)
        async with paged() as pages:
            if as_json:
                said = {"command": "report", "exit_code": 0, "store": shown, "projects": names}
                await pages.put_json(said | {"overview": overview.to_dict()})
            else:
                width = min(get_terminal_size().columns, WIDEST)
                lines = [heading(shown, names, overview), *report_lines(overview, width)]
                await pages.put("".join(f"{each.rstrip()}\n" for each in lines))
        return Exit.OK

    return run(work(), Reporter(errors_as_json=as_json))


def heading(shown: str, projects: Sequence[str], overview: Overview) -> str:
    among = f" ({', '.join(projects)})" if len(projects) > 1 else ""
    span = f", {(overview.first or '')[:10]} to {(overview.last or '')[:10]}" if overview.first else ""
    return styled(f"{cell(shown + among)}: {amount(overview.sessions, overview.messages)}{span}", "bold")


def report_lines(overview: Overview, width: int) -> Iterator[str]:
    """The charts of *overview*, each at most *width* columns wide."""
    if not overview.sessions:
        return
    unit, bars = overview.timeline(max(1, width - 10))
    if bars:
        yield from _titled(
            f"Sessions a {unit}" if unit.isalpha() else f"Sessions in {unit}", columns(bars, width)
        )
        yield from _titled("Hours of the week (UTC)", heat_map(overview.week, width))
    statuses = [Bar(cell(name), count) for name, count in overview.statuses.most_common(10)]
    yield from _titled("Status", horizontal(statuses, width))
    durations, counts = overview.durations, overview.messages_a_session
    yield from _titled(f"Duration{_summary(durations, span_text)}", horizontal(durations.bars, width))
    yield from _titled(f"Messages a session{_summary(counts, number_text)}", horizontal(counts.bars, width))
    roles = {"user": overview.user, "assistant": overview.assistant, "other": overview.other}
    yield from _titled(
        "Messages by role", horizontal([Bar(*each) for each in roles.items() if each[1]], width)
    )
    if overview.waits:
        rows = [(span_text(each.seconds), cell(each.session_id), cell(each.title)) for each in overview.waits]
        yield from _titled("Longest waits for an answer", _wait_lines(rows, width))


def _titled(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield from ("", styled(title, "bold"), *found)


def _summary(summary: Summary, text: Callable[[float], str]) -> str:
    if summary.median is None or summary.p90 is None or summary.max is None:
        return ""
    return f": half up to {text(summary.median)}, 90% up to {text(summary.p90)}, most {text(summary.max)}"


def horizontal(bars: Sequence[Bar], width: int) -> Iterator[str]:
    """A line a bar, without the empty ones before the first and behind the last."""
    full = [at for at, each in enumerate(bars) if each.sessions]
    if not full:
        return
    bars = bars[full[0] : full[-1] + 1]
    most, total = max(each.sessions for each in bars), sum(each.sessions for each in bars)
    labels = max(cells_of(each.label) for each in bars)
    counts = max(len(f"{each.sessions:,}") for each in bars)
    room = max(LEAST_BAR, width - labels - counts - len("     100%"))
    for label, count in bars:
        bar = bar_of(count / most * room)
        share = f"{count / total:4.0%}" if count * 200 >= total or not count else " <1%"
        coloured = styled(bar, STYLES.get(label, "cyan")) + " " * (room - len(bar))
        yield f"  {clipped(label, labels)} {coloured} {count:>{counts},} {share}"


def bar_of(length: float) -> str:
    """A bar so many columns long, in eighths; never none where there is something."""
    eighths = round(length * 8) or (1 if length else 0)
    return FULL * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def columns(bars: Sequence[Bar], width: int) -> Iterator[str]:
    """Columns side by side, with the most at the left, and the first and the last label below."""
    most = max(each.sessions for each in bars)
    scale = f"{most:,}"
    each_width = max(1, min(4, (width - len(scale) - 3) // len(bars)))
    for row in reversed(range(HEIGHT)):
        cells = [_piece(each.sessions / most * HEIGHT - row) * each_width for each in bars]
        left = scale if row == HEIGHT - 1 else "0" if row == 0 else ""
        yield f"  {left:>{len(scale)}} {styled(''.join(cells), 'cyan')}"
    first, last = bars[0].label, bars[-1].label
    room = max(len(bars) * each_width, len(first))
    ends = f"{first}{last:>{room - len(first)}}" if room > len(first) + len(last) else first
    yield f"  {'':{len(scale)}} {ends}"


def _piece(height: float) -> str:
    if height >= 1:
        return FULL
    eighths = round(height * 8)
    return " " if height <= 0 else (FULL if eighths == 8 else COLUMN[max(1, eighths)])


def heat_map(week: Sequence[Sequence[int]], width: int) -> Iterator[str]:
    """A line a day, with a shade for each hour."""
    most = max(max(day) for day in week)
    size = 2 if width >= 2 * 24 + 6 else 1
    yield "      " + "".join(f"{hour:<{6 * size}}" for hour in range(0, 24, 6))
    for name, day in zip(DAYS, week, strict=True):
        shades = (SHADES[-(-count * (len(SHADES) - 1) // most)] * size for count in day)
        yield f"  {name} {styled(''.join(shades), 'cyan')}"


def _wait_lines(rows: Sequence[tuple[str, str, str]], width: int) -> Iterator[str]:
    times, ids = (max(cells_of(row[at]) for row in rows) for at in (0, 1))
    room = width - times - ids - 6
    for time, session_id, title in rows:
        named = clipped(title, room) if title and room >= LEAST_BAR else ""
        yield f"  {time:>{times}}  {clipped(session_id, ids)}  {named}"


def number_text(number: float) -> str:
    return f"{number:,.0f}"


def span_text(seconds: float) -> str:
    """*seconds* for people: 4.2 s, 12 min, 3.5 h, 2 days."""
    for unit, size in UNITS.items():
        if seconds < size:
            return f"{seconds:.2g} {unit}" if seconds < 10 else f"{seconds:.0f} {unit}"
        seconds /= size
    return counted(round(seconds), "day")
