"""What do answers of 20 MB cost: one alone, and 64 sessions at once; and rows with a field more?

An answer full of escapes is read, and the peak is what that adds to the memory. The loop stands still for the
longest time between two ticks. The rows with a field more are beside the same rows without it.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from benchmarks.meter import peak_kib
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question, Work
from benchmarks.questions.decode import AT_A_TIME, WARM_UP, ours, seconds
from benchmarks.world import MESSAGES_A_PAGE, message_row, page, session_id, session_row
from navtalk_async import NavTalkClient, SessionPool

ALONE, MANY = "one of 20 MB", "64 sessions of 20 MB"
AS_DOCUMENTED = "rows as documented"
PAGES = 60
SESSIONS = 64
ESCAPES = rb"\n\"\u4e2d"
MORE = b'"newField":1,"createdAt"'
TICK_SECONDS = 0.005
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def short_page(*, more: bool = False) -> bytes:
    rows = [message_row(number) for number in range(MESSAGES_A_PAGE)]
    return page([row.replace(b'"createdAt"', MORE) for row in rows] if more else rows, None)


def long_page(megabytes: int) -> bytes:
    text = ESCAPES * (megabytes * 1_000_000 // MESSAGES_A_PAGE // len(ESCAPES))
    return short_page().replace(b'"content":"', b'"content":"' + text)


def serve(megabytes: int, port: Connection) -> None:
    """Answer every request for messages with a long page, and every other one with the sessions."""
    messages = long_page(megabytes)
    sessions = page([session_row(number, number) for number in range(SESSIONS)], None)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            body = messages if b"/messages" in head else sessions
            writer.write(HEAD % len(body))
            writer.write(body)
            await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def running(megabytes: int) -> Iterator[str]:
    """The address of a server of long pages, in a process of its own."""
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    server = spawned.Process(target=serve, args=(megabytes, theirs), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        server.kill()


async def tick(longest: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        longest[0] = max(longest[0], time.perf_counter() - began - TICK_SECONDS)


async def alone(job: Job) -> Figures:
    with running(job.size) as address:
        async with NavTalkClient("key", base_url=address) as client:
            await client.sessions.list()
            before, longest = peak_kib(), [0.0]
            ticking = asyncio.create_task(tick(longest))
            page = await client.list_messages(session_id(0))
            ticking.cancel()
    assert len(page.items) == MESSAGES_A_PAGE
    return {"peak": (peak_kib() - before) / 1000, "stop": 1000 * longest[0]}


async def many(job: Job) -> Figures:
    done = 0
    with running(job.size) as address:
        async with NavTalkClient("key", base_url=address, concurrency=SESSIONS) as client:
            await client.sessions.list()
            before = peak_kib()
            async with SessionPool(client, concurrency=SESSIONS).transcripts() as transcripts:
                async for transcript in transcripts:
                    done += len(transcript.messages) == MESSAGES_A_PAGE
    assert done == SESSIONS
    return {"peak": (peak_kib() - before) / 1000}


def decoded(body: Callable[[], bytes]) -> Work:
    def work(_: Job) -> Figures:
        decode, found = ours(), body()
        for _ in range(WARM_UP):
            decode(found)
        return {"cpu": 1e6 * min(seconds(decode, found) for _ in range(PAGES)), "units": PAGES * AT_A_TIME}

    return work


QUESTION = Question(
    contenders={
        ALONE: Contender(work=alone, ours=True),
        MANY: Contender(work=many, ours=True),
        AS_DOCUMENTED: Contender(work=decoded(short_page), ours=True),
        OURS: Contender(work=decoded(lambda: short_page(more=True))),
    },
    figures=(
        Figure(name="peak", unit="MB more at the peak"),
        Figure(name="stop", unit="ms for which the loop stood still"),
        Figure(name="cpu", unit="µs of CPU to decode a page", against=AS_DOCUMENTED),
    ),
    bars=(
        Bar(
            says="Memory of an answer of 20 MB full of escapes, in MB",
            value=lambda of: of("peak", ALONE),
            at_most=100,
        ),
        Bar(
            says="Longest stop of the event loop for an answer of 20 MB, in ms",
            value=lambda of: of("stop", ALONE),
            at_most=100,
        ),
        Bar(
            says="Memory of 64 sessions of 20 MB at once, in MB",
            value=lambda of: of("peak", MANY),
            at_most=600,
        ),
        Bar(
            says="CPU of decoding rows with a field more, times that of the documented ones",
            value=lambda of: of("cpu", OURS) / of("cpu", AS_DOCUMENTED),
            at_most=8,
        ),
    ),
    in_quick=False,
    size=20,
    quick_size=20,
)
