"""How fast are messages found by their words, and how large and how quick is the index that finds them?

An archive of a million messages in SQLite, 20 in each session, some 110 characters long: made-up words, as
often as words are in languages, and one session in ten in Chinese. It is indexed; then it is searched for
words of all sorts, alone and together; then 500 sessions get another message, and 25 new ones come with 20
each, and are found.
"""

import random
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.meter import peak_kib
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.world import BEGIN, session_id
from navtalk_async import search
from navtalk_async.archive import Archive
from navtalk_async.archive.records import Clock, FetchResult, FetchTask, Round
from navtalk_async.archive.rows import content_hash
from navtalk_async.archive.sqlite_file import index_of
from navtalk_async.dialects.navtalk import NavTalkMessage, NavTalkSession
from navtalk_async.ingest._reread_rules import ONE_SECOND, SETTLE, compare_sessions
from navtalk_async.models import Role, SessionStatus
from navtalk_async.times import parse_utc

EACH = 20
AT_ONCE = 50
APPENDED, NEW = 500, 25
SEARCHES = 400
NOW = parse_utc("2026-01-01T00:00:00Z")

KNOWN_WORDS = 60_000
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
HAN = [chr(0x4E00 + number * 5) for number in range(3_000)]


def made_up() -> list[str]:
    chance, weights = random.Random(20250101), range(len(LETTERS), 0, -1)
    return ["".join(chance.choices(LETTERS, weights, k=chance.randint(2, 9))) for _ in range(KNOWN_WORDS)]


WORDS = made_up()
OFTEN = list(accumulate(1 / (place + 5) for place in range(KNOWN_WORDS)))


def some(chance: random.Random, count: int) -> list[str]:
    return chance.choices(WORDS, cum_weights=OFTEN, k=count)


def chinese(chance: random.Random, count: int) -> str:
    return "".join(chance.choices(HAN, cum_weights=OFTEN[: len(HAN)], k=count))


def text(chance: random.Random, *, is_chinese: bool) -> str:
    length = max(2, min(200, int(chance.lognormvariate(2.6, 0.7))))
    return (
        f"{chinese(chance, 2 * length)}。"
        if is_chinese
        else f"{' '.join(some(chance, length)).capitalize()}."
    )


def query(chance: random.Random) -> str:
    one, other, third = some(chance, 3)
    forms = (one, f"{one} {other}", f'"{one} {other}"', f"{one} NOT {other}", f"({one} OR {other}) {third}")
    return chance.choice((*forms, f"{one[:3]}*" if len(one) > 3 else one, chinese(chance, 2)))


def session(number: int) -> NavTalkSession:
    start = BEGIN + timedelta(seconds=630 * number)
    times = {"start_time_text": f"{start:%F %T}", "end_time_text": f"{start + timedelta(minutes=5):%F %T}"}
    return NavTalkSession(id=session_id(number), status=SessionStatus.COMPLETED, video_url=None, **times)


def reading(number: int, messages: int) -> FetchResult:
    """A session with so many messages; the first ones are always the same."""
    chance = random.Random(number)
    said = [
        NavTalkMessage(
            id=f"{number:08x}-{place:04x}-11f0-92bc-000e1eed4a72",
            content=text(chance, is_chinese=number % 10 == 0),
            role=Role(place % 2),
            type=0,
            created_at_text="2025-11-12 18:20:43",
        )
        for place in range(messages)
    ]
    return FetchResult(FetchTask(session_id(number), content_hash(session(number))), said, at="2026-01-01")


async def fill(archive: Archive, numbers: Sequence[int], messages: int = EACH) -> int:
    """Keep the sessions of these *numbers*, with so many messages each; how many characters those have."""
    compare = partial(compare_sessions, clock=Clock.at(NOW, SETTLE, NOW + ONE_SECOND), is_listed=True)
    size = 0
    for first in range(0, len(numbers), AT_ONCE):
        these = numbers[first : first + AT_ONCE]
        await archive.record_listing(
            "default",
            [session(number) for number in these],
            compare=compare,
            now="2026-01-01T00:00:00Z",
            round=Round(began="2026-01-01T00:00:00Z"),
            places=[],
        )
        readings = [reading(number, messages) for number in these]
        await archive.save_messages("default", readings)
        size += sum(len((each.content or "").encode()) for kept in readings for each in kept.messages)
    return size


async def seconds(archive: Archive, asked: str) -> float:
    began = perf_counter()
    async for hit in search(archive, asked):
        assert hit.marks, hit
    return perf_counter() - began


async def find(job: Job) -> Figures:
    sessions = job.size // EACH
    with TemporaryDirectory() as folder:
        place = Path(folder) / "archive.db"
        async with Archive.open(place) as archive:
            await archive.begin("default", api="navtalk", scope="{}")
            size = await fill(archive, range(sessions))
        async with Archive.open(place, read_only=True) as archive:
            built = await seconds(archive, "nothing")
            chance = random.Random(1)
            waits = [await seconds(archive, query(chance)) for _ in range(SEARCHES)]
        async with Archive.open(place) as archive:
            await archive.begin("default", api="navtalk", scope="{}")
            await fill(archive, range(0, sessions, max(1, sessions // APPENDED))[:APPENDED], EACH + 1)
            await fill(archive, range(sessions, sessions + NEW))
            updated = await seconds(archive, "nothing")
        return {
            "indexed": job.size / built,
            "size": index_of(place).stat().st_size / size,
            "found": 1e3 * quantiles(waits, n=20)[-1],
            "median": 1e3 * quantiles(waits, n=2)[0],
            "updated": 1e3 * updated,
            "peak": peak_kib() / 1024,
        }


QUESTION = Question(
    contenders={OURS: Contender(work=find)},
    figures=(
        Figure(name="indexed", unit="messages/s indexed", better="more"),
        Figure(name="size", unit="times the texts", form=".2f"),
        Figure(name="found", unit="ms to the first 20, p95", form=".1f"),
        Figure(name="median", unit="ms to the first 20, median", form=".1f"),
        Figure(name="updated", unit="ms for 1,000 new messages"),
        Figure(name="peak", unit="MiB at the peak", form=".1f"),
    ),
    bars=(
        Bar(
            says="Messages a second into the index",
            value=lambda of: of("indexed", OURS),
            at_least=50_000.0,
        ),
        Bar(
            says="Bytes of the index for each of the texts",
            value=lambda of: of("size", OURS),
            at_most=1.5,
        ),
        Bar(
            says="Milliseconds to the first 20 of 1,000,000 messages, p95",
            value=lambda of: of("found", OURS),
            at_most=50.0,
        ),
        Bar(
            says="Milliseconds to find 1,000 new messages",
            value=lambda of: of("updated", OURS),
            at_most=1_000.0,
        ),
    ),
    in_quick=False,
    size=1_000_000,
    quick_size=100_000,
)
