"""An archive with texts that no byte of it may hold once their sessions are forgotten."""

import os
import random
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from postgres_box import run_sql
from store_rows import begin, journal, message, session, wanted

from navtalk_async.archive.records import FailedSession, FetchResult, RunReport

NUMBERS = range(70_000, 70_024)
"""No other test has sessions of these numbers: a server holds the archives of many tests."""


def secret(number):
    """The word in all texts of the session of this *number*."""
    return f"canary{number:03}secret"


def told(number, change=""):
    """A session of which every column that holds text holds its secret."""
    word = secret(number) + change
    return session(number, title=f"{word} title", video_url=f"https://v.example/{word}")


def sentences(number, count, seed):
    """Messages of all lengths: pages split, and long texts have pages of their own."""
    chance = random.Random(f"{number} {seed}")
    lengths = [0, 10, 200, 3_000, 20_000, 300_000 if number % 5 == 0 else 50]
    return [
        message(each, f"{seed} {secret(number)} " * (1 + chance.choice(lengths) // 30))
        for each in range(number * 100, number * 100 + count)
    ]


async def lived_with_canaries(store, project="default", numbers=NUMBERS):
    """Sessions that came in turns, were edited, lost messages, failed, and are noted here and there."""
    await begin(store, project)
    for seed in ("first", "then"):
        for number in numbers:
            one = told(number, change=seed)
            await journal(store, one, project=project, seen=[one.id])
            said = sentences(number, 12 - (seed == "then") * 3, seed if number % 2 else "same")
            await store.save_messages(project, [FetchResult(wanted(one), said)])
    failed = told(numbers[1], change="failed")
    await journal(store, failed, project=project)
    await store.record_failures(project, [FailedSession(failed.id, f"about {secret(numbers[1])}", 3)])
    await store.record_run(project, RunReport(error=f"about {told(numbers[1]).id} and {told(numbers[2]).id}"))


async def bytes_of(place):
    """Every byte of an archive that is left on the disk: of a file and those beside it; of a server, its
    dump and all tables and indexes of the database.
    """
    if isinstance(place, Path):
        return {each.name: each.read_bytes() for each in place.parent.glob(f"{place.name}*")}
    await run_sql(place, "CHECKPOINT")
    [folder] = parse_qs(urlsplit(place).query)["host"]
    return _of_server(Path(folder), schema=place.rpartition("search_path=")[2])


def _of_server(folder, schema):
    [program] = folder.glob("*/pginstall*/bin/pg_dump")
    dump = subprocess.run(
        [program, "-h", folder, "-U", "postgres", "-n", schema, "postgres"],
        check=True,
        stdout=subprocess.PIPE,
        user="nobody" if os.geteuid() == 0 else None,
    ).stdout
    files = (each for each in Path(folder, "data", "base").rglob("*") if each.is_file())
    return {"dump": dump} | {str(each): each.read_bytes() for each in files}


def numbers_found(data, numbers=NUMBERS):
    """The numbers of the sessions of which a text or an id is in *data*, and where."""
    found = {}
    for number in numbers:
        for word in (secret(number), told(number).id):
            where = [name for name, content in data.items() if word.encode() in content]
            if where:
                found[number] = where
    return found
