"""A search finds what a plain scan of the archive finds, whatever became of the archive and of the index."""

import asyncio
import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from shutil import copyfile

import pytest
from canaries import bytes_of, lived_with_canaries, numbers_found, secret, told
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lives import PROJECTS, Life, acts
from postgres_box import new_schema, run_sql
from profiles import examples
from store_rows import asked, begin, everything, journal, message, session, wanted

from navtalk_async import Archive, Privacy, search
from navtalk_async.archive.records import FetchResult
from navtalk_async.archive.sqlite_file import index_of
from navtalk_async.errors import StoreBroken
from navtalk_async.formats.words import matches, parse_query, words
from navtalk_async.models import Role
from navtalk_async.verification import verify

WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)

PARTS = [
    *("refund", "Refunds", "card", "go", "Café", "cafe\u0301", "STRASSE", "straße", "e-mail", "don’t", "٣"),
    *(
        "部署",
        "部",
        "署長",
        "カタ",
        "ガ",
        "한국어",
        "ที่อยู่",
        "မြန်မာ",
        "👍🏽",
        "👍",
        "❤️",
        "👨\u200d👩",
        "हिन्दी",
        "שָׁלוֹם",
    ),
    *("x" * 600, "'", '"', "*", "AND", "\0", "\u2028", "(", ":", "-", "\\", "%s", "{any}", "\ue000"),
]
BETWEEN = [" ", " ", " ", "", "\n", "-", ".", "\u00a0"]


def text_of(seed):
    """A text that is the same for the same *seed*, in some scripts at once."""
    dice = Random(seed)
    return "".join(
        f"{dice.choice(PARTS)}{dice.choice(BETWEEN)}" for _ in range(dice.choice([0, 1, 3, 8, 30]))
    )


simple = st.one_of(
    st.sampled_from(PARTS),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(
        lambda some: f'"{" ".join(some)}"'.replace('""', '"')
    ),
    st.sampled_from(["ref*", "c*", "x*", '"credit card"*', "部*", "don t*", "st*", "go-*"]),
)
queries = st.recursive(
    simple,
    lambda parts: st.builds(
        str.format, st.sampled_from(["{} {}", "({} AND {})", "({} OR {})", "({} NOT {})"]), parts, parts
    ),
    max_leaves=4,
)


async def scan(archive, text, **filters):
    """What a plain scan finds: the keys of messages, by when their sessions began, the last first."""
    query, found = parse_query(text), []
    for about in await archive.projects():
        for kept in await everything(archive, about.project):
            found += [
                (kept.session.start_time or "", key_of(each))
                for each in kept.messages
                if matches(query, list(words(each.content or "")))
                and filters.get("project", about.project) == about.project
                and filters.get("role", each.role) == each.role
                and filters.get("user_id", kept.session.user_id) == kept.session.user_id
                and filters.get("start_time", "") <= kept.session.start_time <= filters.get("end_time", "9")
            ]
    return found


def key_of(row):
    return row.project, row.session_id, row.position


async def found(archive, text, **how):
    hits = [each async for each in search(archive, text, **{"limit": None, **how})]
    starts = [each.start_time or "" for each in hits]
    assert starts == sorted(starts, reverse=True)
    return [(each.start_time or "", key_of(each)) for each in hits]


async def assert_finds(archive, text, **filters):
    """The search finds what the scan does, or refuses the text as the scan does."""
    try:
        expected = await scan(archive, text, **filters)
    except ValueError as refusal:
        with pytest.raises(ValueError, match=re.escape(str(refusal))):
            search(archive, text, **filters)
        return
    assert sorted(await found(archive, text, **filters)) == sorted(expected)


async def live_and_search(place, steps, asked):
    async with Archive.open(place) as store:
        life = Life(store, text_of)
        await life.begin()
        for act, query in steps:
            await life.act(*act)
            if query is not None:
                await assert_finds(store, query)
        for query in asked:
            await assert_finds(store, query)
            await assert_finds(store, query, project=PROJECTS[1])
        await store.forget(sessions=[session(0).id])
        for query in asked:
            await assert_finds(store, query)


steps = st.lists(st.tuples(acts, st.none() | queries), min_size=3, max_size=12)
some_queries = st.lists(queries, min_size=2, max_size=4)


@settings(max_examples=examples(15), phases=WITHOUT_SHRINKING)
@given(steps=steps, asked=some_queries)
async def test_whatever_happens_a_search_finds_what_is_there(tmp_path_factory, steps, asked):
    await live_and_search(tmp_path_factory.mktemp("life") / "a.db", steps, asked)


@settings(max_examples=examples(3), phases=WITHOUT_SHRINKING)
@given(steps=steps, asked=some_queries)
async def test_whatever_happens_a_search_in_postgresql_finds_what_is_there(postgres, steps, asked):
    await live_and_search(await new_schema(postgres), steps, asked)


async def filled(store, count=40, project="default"):
    """Sessions an hour apart, of two users, that speak of everything."""
    await begin(store, project)
    for number in range(count):
        started = f"{datetime(2025, 11, 1) + timedelta(hours=number)}"
        one = session(number, started=started, title=f"title {number}")
        await journal(store, one, project=project)
        rows = [message(100 * number + place, text_of(f"{number} {place}")) for place in range(number % 7)]
        await store.save_messages(project, [FetchResult(wanted(one), rows, at="2026-01-01")])


@pytest.fixture
async def place(new_place):
    place = await new_place()
    async with Archive.open(place) as store:
        await filled(store)
    await asked(place, "UPDATE sessions SET user_id = 'ann' WHERE substr(id, 8, 1) IN ('1','3','5')")
    return place


FILTERS = [
    {"role": "user"},
    {"role": "assistant", "user_id": "ann"},
    {"user_id": "nobody"},
    {"start_time": "2025-11-01T10:00:00Z"},
    {"end_time": "2025-11-02T00:00:00Z"},
    {"start_time": "2025-11-01T10:00:00Z", "end_time": "2025-11-01T20:00:00Z", "role": "user"},
    {"project": "default"},
    {"project": "other"},
]
ASKED = ["refund OR go OR 部", "card", "c*", '"e mail"', "cafe NOT refund"]


async def test_filters_leave_out_what_a_scan_leaves_out(place):
    async with Archive.open(place, read_only=True) as archive:
        for filters in FILTERS:
            for text in ASKED[:2]:
                await assert_finds(archive, text, **filters)
        for same in (0, Role.USER):
            assert await found(archive, "c*", role=same) == await found(archive, "c*", role="user") != []
        every = await found(archive, ASKED[0])
        assert len(every) > 10
        for limit in (1, 3, len(every), len(every) + 1):
            assert await found(archive, ASKED[0], limit=limit) == every[:limit]


async def test_a_long_search_finds_everything_once_while_the_index_changes(place):
    async with Archive.open(place) as store:
        await begin(store)
        for number in range(50, 60):
            one = session(number, started=f"2025-10-{number - 40:02} 10:00:00")
            await journal(store, one)
            rows = [message(1000 * number + place, "go there") for place in range(30)]
            await store.save_messages("default", [FetchResult(wanted(one), rows, at="2026-01-01")])
        before = await scan(store, "go")
        hits = search(store, "go", limit=None)
        seen = [key async for key in first_of(hits, 3)]
        # One that was to come is indexed anew, and others are gone; then all of the index is another one.
        one = session(55, started="2025-10-15 10:00:00")
        rows = [message(55_000 + place, f"go there {place % 2 and 'now'}") for place in range(30)]
        await store.save_messages("default", [FetchResult(wanted(one), rows, at="2026-01-01")])
        await assert_finds(store, "now")
        seen += [key async for key in first_of(hits, 210)]
        await store.forget(sessions=[session(50).id])
        await assert_finds(store, "go")
        seen += [key async for key in first_of(hits, 1000)]
        assert len(seen) == len(set(seen))
        assert {key for _, key in await scan(store, "go")} <= set(seen) <= {key for _, key in before}


async def first_of(hits, count):
    with suppress(StopAsyncIteration):
        for _ in range(count):
            hit = await anext(hits)
            yield hit.project, hit.session_id, hit.position


async def test_searches_at_once_find_the_same(place):
    async with Archive.open(place, read_only=True) as archive:
        expected = sorted(await scan(archive, "c*"))
        for _ in range(2):
            every = await asyncio.gather(*(found(archive, "c*") for _ in range(4)))
            assert [sorted(each) for each in every] == [expected] * 4


async def test_a_search_changes_no_byte_of_the_archive(place):
    is_file = not isinstance(place, str)
    before = sha256(place.read_bytes()).hexdigest() if is_file else None
    report = await verify(place)
    async with Archive.open(place, read_only=True) as archive:
        marker = await archive.change_marker()
        await assert_finds(archive, "refund")
        assert await archive.change_marker() == marker
    if is_file:
        assert sha256(place.read_bytes()).hexdigest() == before
        assert index_of(place).stat().st_mode & 0o777 == 0o600
    after = await verify(place)
    assert (after.findings, after.checked) == (report.findings, report.checked)


async def test_snippets_show_what_was_found_and_where(new_place):
    async with Archive.open(await new_place()) as store:
        await begin(store)
        await journal(store, session(1, title="a title"))
        long = f"{'before ' * 50}the Café\u0301 REFUND—here, the refund {'after ' * 50}"
        rows = [message(1, long), message(2, "我要退款吗"), message(3, "x" * 2000)]
        await store.save_messages(
            "default", [FetchResult(wanted(session(1, title="a title")), rows, at="2026-01-01")]
        )
        [hit] = [each async for each in search(store, '"cafe refund" OR refund')]
        assert [hit.snippet[start:end] for start, end in hit.marks] == [
            "Café́ REFUND".replace("é́", "é\u0301"),
            "refund",
        ]
        assert hit.snippet.startswith("…before ")
        assert hit.snippet.endswith(" after…")
        assert len(hit.snippet) < 250
        assert (hit.title, hit.position, hit.role, hit.project) == ("a title", 0, "assistant", "default")
        [hit] = [each async for each in search(store, "退款")]
        assert (hit.snippet, hit.marks, hit.message_id) == ("我要退款吗", [(2, 4)], rows[1].id)
        [hit] = [each async for each in search(store, "xx*")]
        assert len(hit.snippet) < 700


async def test_what_is_removed_from_texts_cannot_be_searched(new_place):
    async with Archive.open(await new_place()) as store:
        await begin(store)
        one = session(1, title="of ann@example.org")
        await journal(store, one)
        rows = [message(1, "Write to ann@example.org about it"), message(2, "Write to example.org")]
        await store.save_messages("default", [FetchResult(wanted(one), rows, at="2026-01-01")])
        privacy = Privacy(redact="emails")
        assert [each.position async for each in search(store, "example", privacy=privacy)] == [1]
        [hit, other] = [each async for each in search(store, "write", privacy=privacy)]
        assert [hit.title, hit.snippet, other.snippet] == [
            "of [email]",
            "Write to example.org",
            "Write to [email] about it",
        ]


MANY = 17_000
"""More words than PostgreSQL knows the places of."""


async def test_long_messages_are_searched_as_wholes(new_place):
    texts = {
        "words": " ".join(f"w{number}" for number in range(MANY)),
        "often": "aye " * 300 + "nay",
        "different": " ".join(f"{number}{'d' * 90}" for number in range(MANY // 3)),
        "han": "部署長" * (MANY // 3),
    }
    async with Archive.open(await new_place()) as store:
        await begin(store)
        await journal(store, session(1))
        rows = [message(number, text) for number, text in enumerate(texts.values())]
        await store.save_messages("default", [FetchResult(wanted(session(1)), rows, at="2026-01-01")])
        for text in (
            *(
                f'"w{MANY - 2} w{MANY - 1}"',
                f'"w{MANY - 1} w{MANY - 2}"',
                f"w3 w{MANY - 1}",
                '"aye nay"',
                "nay NOT aye",
            ),
            *(
                '"nay aye"',
                "長部",
                "署部",
                f"{MANY - 1}d*",
                f"(部 OR {MANY - 1}d*) NOT w5",
                'aye NOT "nay aye"',
            ),
        ):
            await assert_finds(store, text)


@given(
    st.text(),
    st.lists(
        st.sampled_from(["'", '"', "*", "(", ")", "NEAR", "text:", "^", "-", "+", ";", "--", "\\", "'':*"])
    ),
)
@settings(max_examples=examples(25))
async def test_no_query_is_read_as_the_database_s_own(tmp_path_factory, text, signs):
    place = tmp_path_factory.getbasetemp() / "hostile.db"
    async with Archive.open(place) as store:
        if not await store.projects():
            await filled(store, 5)
        for asked in (text, "".join(signs), f"{text}{' '.join(signs)}", f"a{''.join(signs)}b"):
            await assert_finds(store, asked)


# What becomes of the index.


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def empty(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(Random(1).randbytes(path.stat().st_size))


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def without_words(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE words")


def without_blocks(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE blocks")


def half_done(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE state SET token = NULL")


def of_an_older_version(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE state SET version = '0'")


def no_token(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE state SET token = 'nonsense'")


def pages_of_garbage(path):
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = Random(page).randbytes(64)
    path.write_bytes(data)


HARM = (
    cut,
    empty,
    garbage,
    zeros,
    without_words,
    without_blocks,
    half_done,
    of_an_older_version,
    no_token,
    pages_of_garbage,
)


@pytest.mark.parametrize("harm", HARM)
async def test_a_broken_index_is_built_anew(tmp_path, harm):
    place = tmp_path / "a.db"
    async with Archive.open(place) as store:
        await filled(store)
        await assert_finds(store, "refund")
        harm(index_of(place))
        for text in ASKED[:2]:
            await assert_finds(store, text)


async def test_an_index_of_another_archive_or_ahead_of_it_is_built_anew(tmp_path):
    places = [tmp_path / "a.db", tmp_path / "b.db"]
    for number, place in enumerate(places):
        async with Archive.open(place) as store:
            await filled(store, 8 + number)
            await assert_finds(store, "c*")
    copyfile(index_of(places[1]), index_of(places[0]))
    async with Archive.open(places[0]) as store:
        await assert_finds(store, "c*")
    older = places[0].read_bytes()
    async with Archive.open(places[0]) as store:
        await filled(store, 20)
        await assert_finds(store, "c*")
    places[0].write_bytes(older)
    async with Archive.open(places[0], read_only=True) as store:
        await assert_finds(store, "c*")
    # The restored copy goes another way, to as many commits.
    async with Archive.open(places[0]) as store:
        await filled(store, 20)
        await store.mark_deleted("default", session(19).id)
        await assert_finds(store, "c*")


async def test_an_index_in_a_server_is_built_anew_where_it_is_not_sound(postgres):
    place = await new_schema(postgres)
    async with Archive.open(place) as store:
        await filled(store, 8)
        await assert_finds(store, "c*")
        for harm in (
            "UPDATE sync_search_state SET token = NULL",
            "UPDATE sync_search_state SET version = '0'",
            "DROP TABLE sync_search",
            "DROP TABLE sync_search_state",
            "ALTER TABLE sync_search DROP COLUMN began",
        ):
            await run_sql(place, harm)
            await assert_finds(store, "c*")


@pytest.mark.parametrize(
    "harm",
    [
        "messages SET content = x'fffe' WHERE position = 0",
        "messages SET position = 'x' WHERE position = 0",
        "messages SET role = x'ff' WHERE position = 0",
        "sessions SET start_time = x'fffe' WHERE id = 'HELD'",
        "sessions SET title = x'fffe' WHERE id = 'HELD'",
    ],
)
async def test_a_damaged_row_is_left_out_and_the_others_are_found(tmp_path, harm):
    for has_index in (False, True):
        place = tmp_path / f"{has_index}.db"
        async with Archive.open(place) as store:
            await filled(store, 8)
            expected = await found(store, "c*") if has_index else await scan(store, "c*")
            await asked(place, f"UPDATE {harm.replace('HELD', session(6).id)}")
            if has_index:
                # The feed comes to what is damaged.
                await asked(place, "UPDATE sync_sessions SET change = change + 100")
                await asked(place, "UPDATE sync_projects SET changes = changes + 100")
            whole = [
                each
                for each in expected
                if (each[1][1] != session(6).id if "HELD" in harm else each[1][2] != 0)
            ]
            assert sorted(await found(store, "c*")) == sorted(whole)
            assert 0 < len(whole) < len(expected)


async def test_a_database_of_something_else_is_not_replaced(tmp_path):
    place = tmp_path / "a.db"
    async with Archive.open(place) as store:
        await filled(store, 3)
        with closing(sqlite3.connect(index_of(place))) as db, db:
            db.execute("CREATE TABLE mine (x)")
        before = index_of(place).read_bytes()
        with pytest.raises(StoreBroken, match="something else"):
            await found(store, "go")
        with pytest.raises(StoreBroken, match="something else"):
            await store.forget(sessions=[session(1).id])
        assert index_of(place).read_bytes() == before


async def test_a_forgotten_session_is_in_no_byte_of_the_index(new_place):
    place = await new_place()
    numbers = range(71_000, 71_004)  # Other tests leave theirs on the same server.
    gone = numbers[3]
    async with Archive.open(place) as store:
        await lived_with_canaries(store, numbers=numbers)
        assert {each.session_id async for each in search(store, secret(gone), limit=None)} == {told(gone).id}
        assert gone in numbers_found(await bytes_of_index(place), numbers)
        index = None if isinstance(place, str) else index_of(place).read_bytes()
        assert (await store.forget(sessions=[told(gone).id])).left == []
        assert gone not in numbers_found(await bytes_of_index(place), numbers)
        await assert_finds(store, secret(gone))
        await assert_finds(store, secret(gone + 1))
        assert gone not in numbers_found(await bytes_of_index(place), numbers)
        assert await store.remains("default") == []
        if index is not None:
            # As where the index comes back from a backup.
            index_of(place).write_bytes(index)
            assert await store.remains("default") == ["1 forgotten sessions are in the index for searches."]
    if index is not None:
        report = await verify(place, forgotten=True)
        assert {place.name, index_of(place).name} <= {each.where for each in report.findings}
        async with Archive.open(place, read_only=True) as store:
            await assert_finds(store, secret(gone))
        assert gone not in numbers_found(await bytes_of_index(place), numbers)


async def bytes_of_index(place):
    if isinstance(place, str):
        return await bytes_of(place)
    return {each.name: each.read_bytes() for each in place.parent.glob("*.search*")}


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"limit": 0},
            {"limit": "9"},
            {"start_time": "soon"},
            {"end_time": datetime(2025, 1, 1)},
            {"text": 7},
        ),
        *({"text": ""}, {"text": "(go"}, {"text": "NOT go"}),
    ],
)
async def test_what_cannot_be_right_is_refused_before_anything_is_read(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        search(Archive.open(tmp_path / "a.db"), **{"text": "go", **wrong})


async def test_times_may_be_given_in_any_form(place):
    async with Archive.open(place, read_only=True) as archive:
        expected = await found(archive, ASKED[0], start_time="2025-11-02T00:00:00Z")
        for same in (
            datetime(2025, 11, 2, tzinfo=UTC),
            datetime(2025, 11, 2).date(),
            "2025-11-02",
            "2025-11-02 01:00+01:00",
        ):
            assert await found(archive, ASKED[0], start_time=same) == expected != []


async def test_a_search_that_is_left_early_leaves_nothing_open(place, quiet_loop):
    async with quiet_loop(), Archive.open(place, read_only=True) as archive:
        hits = search(archive, ASKED[0], limit=None)
        with suppress(StopAsyncIteration):
            await anext(hits)
        await hits.aclose()
