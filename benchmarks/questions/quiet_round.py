"""What does a round cost that finds nothing new, where an API cannot list by time?

All of 1,000 and of 100,000 sessions are listed again, and compared with those that an earlier round kept in
SQLite. The CPU is that of a session; the peak is that of a process that does nothing else.
"""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

from benchmarks.meter import Meter, peak_kib
from benchmarks.question import Bar, Contender, Figure, Figures, Job, Question
from benchmarks.server import http
from benchmarks.world import session_id
from navtalk_async import LlamaCloudClient
from navtalk_async.archive import Archive
from navtalk_async.ingest import RunReport, sync

FEW, MANY = "1,000 sessions", "100,000 sessions"
PAGE = 100
SPAWNED = multiprocessing.get_context("spawn")


def row(number: int) -> dict[str, str]:
    return {"session_id": session_id(number), "last_updated_at": "2025-01-01T12:00:00"}


def answer(target: str, sessions: int) -> bytes:
    place = urlsplit(target)
    if place.path == "/api/v1/chat":
        first = int(parse_qs(place.query).get("page_token", ["0"])[0])
        end = min(first + PAGE, sessions)
        items = [row(number) for number in range(first, end)]
        return json.dumps({"items": items, "next_page_token": str(end) if end < sessions else None}).encode()
    found = row(int(place.path.split("/")[4][:8], 16))
    return json.dumps(found if place.path.endswith("/summary") else {**found, "events": []}).encode()


def serve(sessions: int, port: Connection) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http(answer(head.split()[1].decode(), sessions)))

    async def run() -> None:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def running(sessions: int) -> Iterator[str]:
    """The address of a server of chats without events, in a process of its own."""
    ours, theirs = SPAWNED.Pipe()
    server = SPAWNED.Process(target=serve, args=(sessions, theirs), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        server.kill()


async def synced(address: str, archive: Path) -> RunReport:
    async with LlamaCloudClient("key", base_url=address) as client, Archive.open(archive) as store:
        return await sync(client, store, concurrency=32)


def fill(address: str, archive: Path) -> None:
    asyncio.run(synced(address, archive))


async def quiet(job: Job) -> Figures:
    with TemporaryDirectory() as folder, running(job.size) as address:
        archive = Path(folder) / "archive.db"
        first = SPAWNED.Process(target=fill, args=(address, archive))
        first.start()
        await asyncio.to_thread(first.join)
        with Meter() as meter:
            report = await synced(address, archive)
    assert (report.same, report.inserted, report.changed) == (job.size, 0, 0), report
    return {"cpu": 1e6 * meter.cpu_seconds / job.size, "peak": peak_kib() / 1024}


QUESTION = Question(
    contenders={
        FEW: Contender(work=quiet, share=0.01, ours=True),
        MANY: Contender(work=quiet, ours=True),
    },
    figures=(
        Figure(name="cpu", unit="µs of CPU a session", against=FEW),
        Figure(name="peak", unit="MiB at the peak", form=".1f", against=FEW),
    ),
    bars=(
        Bar(
            says="CPU a session of a quiet round over 100,000 sessions, times that over 1,000",
            value=lambda of: of("cpu", MANY) / of("cpu", FEW),
            at_most=1.2,
        ),
        Bar(
            says="Peak memory of a quiet round over 100,000 sessions, times that over 1,000",
            value=lambda of: of("peak", MANY) / of("peak", FEW),
            at_most=1.15,
        ),
    ),
    in_quick=False,
    size=100_000,
    quick_size=20_000,
)
