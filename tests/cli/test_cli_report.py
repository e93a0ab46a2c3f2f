"""`navtalk report`: the statistics of an archive in a terminal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looked_at import synced
from profiles import examples
from rich.cells import cell_len
from shell import navtalk

from navtalk_async.archive import Archive
from navtalk_async.cli._report import bar_of, columns, heat_map, horizontal, report_lines, span_text
from navtalk_async.formats.overview import Bar, Overview, SessionFacts, read_overview

WIDTHS = st.integers(40, 200)
BARS = st.lists(
    st.builds(Bar, st.sampled_from(["a", "部署", "2025-11-01"]), st.integers(0, 10**6)),
    min_size=1,
    max_size=9,
)
FACTS = st.builds(
    SessionFacts,
    project=st.just("p"),
    id=st.text("i", min_size=1, max_size=20),
    title=st.none() | st.text(st.sampled_from("ab日\x1b"), max_size=80),
    status=st.none() | st.text(max_size=5),
    start_time=st.none() | st.datetimes().map(lambda each: f"{each.isoformat()}Z"),
    duration=st.none() | st.floats(0, 1e7),
    user=st.integers(0, 5_000),
    assistant=st.integers(0, 5_000),
    other=st.integers(0, 5),
    longest_wait=st.none() | st.floats(0, 1e7),
)


async def test_a_report_shows_the_statistics_of_an_archive(new_place):
    place = await synced(await new_place())
    as_json, as_text, unknown = (
        await navtalk("report", place, "--json"),
        await navtalk("report", place, env={"COLUMNS": "64"}),
        await navtalk("report", place, "--project", "x"),
    )
    async with Archive.open(place, read_only=True) as archive:
        overview = await read_overview(archive, ["default"])
    assert as_json.rows[0]["overview"] == overview.to_dict()
    assert as_json.rows[0]["projects"] == ["default"]
    assert (as_text.code, as_text.err) == (0, "")
    for text in ("60 sessions with ", "Hours of the week (UTC)", "completed", "Longest waits"):
        assert text in as_text.out
    assert max(map(cell_len, as_text.out.splitlines()[1:])) <= 64
    assert (unknown.code, "no project 'x'" in unknown.err) == (2, True)


async def test_a_report_of_an_archive_without_sessions_says_so(tmp_path):
    async with Archive.open(tmp_path / "a.db") as archive:
        await archive.begin("default", api="navtalk", scope="{}")
    done = await navtalk("report", tmp_path / "a.db")
    assert (done.code, done.out) == (0, f"{tmp_path / 'a.db'}: 0 sessions with 0 messages\n")


@settings(max_examples=examples(40))
@given(st.lists(FACTS, max_size=9), WIDTHS)
def test_no_line_is_wider_than_the_terminal(all_facts, width):
    overview = Overview()
    for each in all_facts:
        overview.add(each)
    lines = list(report_lines(overview, width))
    assert [each for each in lines if cell_len(each.rstrip()) > max(width, 80)] == []
    assert all(each.isprintable() for each in lines)


@given(BARS, WIDTHS)
def test_a_bar_is_as_long_as_it_has_sessions(bars, width):
    lines = list(horizontal(bars, width))
    drawn = [sum(letter in "▏▎▍▌▋▊▉█" for letter in line) for line in lines]
    found = [each.sessions for each in bars]
    while found and not found[-1]:
        found.pop()
    while found and not found[0]:
        found.pop(0)
    assert [bool(each) for each in drawn] == [bool(each) for each in found]
    assert not found or drawn[found.index(max(found))] == max(drawn)
    assert {cell_len(line) for line in lines} in ({width}, set())


@given(st.lists(st.integers(0, 9), min_size=5, max_size=60).filter(any))
def test_a_column_is_there_for_every_bar_with_sessions(counts):
    *rows, base, _ = columns([Bar(str(at), count) for at, count in enumerate(counts)], 8 + len(counts))
    assert [letter != " " for letter in base[4:]] == [count > 0 for count in counts]
    assert len(rows) == 4


@given(st.lists(st.lists(st.integers(0, 9), min_size=24, max_size=24), min_size=7, max_size=7))
def test_an_hour_has_a_shade_where_it_has_sessions(week):
    if not any(map(any, week)):
        return
    _, *lines = heat_map(week, 80)
    for day, line in zip(week, lines, strict=True):
        assert [letter != " " for letter in line[6::2]] == [count > 0 for count in day]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (59, "59 s"), (90, "1.5 min"), (7_200, "2 h"), (200_000, "2 days")],
)
def test_spans_are_written_for_people(seconds, text):
    assert span_text(seconds) == text
    assert bar_of(0) == ""
