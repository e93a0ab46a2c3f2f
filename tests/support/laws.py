"""What the laws of every API are tried with: clients, worlds, and all that a server may answer."""

import asyncio
import json
from inspect import signature

from changes import arrived_or_over
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from navtalk_async import Retry, SessionPool
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of
from navtalk_async.sandbox import Answers, World

PATIENT = Retry(attempts=40, attempts_at_first=40, base_seconds=0.0, cap_seconds=0.0)
ONCE = Retry(attempts=1, attempts_at_first=1)
CONCURRENCY = 4

# An example takes hundreds of requests: too many to look for a smaller one.
PATIENTLY = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def client_of(api, box, key="k", **options):
    return Client(dialect_of(api.name), key, base_url=box.url_of(api.name), **{"retry": PATIENT} | options)


def a_world(sessions=24, **options):
    """One whose sessions have as many messages as fill some pages, or none."""
    return World(sessions, **{"messages": lambda number: number * 5 % 13, **options})


def answers_of(api):
    """All that the sandbox may answer to what is unknown of *api*, in any combination."""
    fields = {name: st.sampled_from(values) for name, values in api.answers.items()}
    return st.builds(Answers, **fields).filter(api.is_complete)


def one_by_one(api):
    """Every answer to every unknown, while all others are as they usually are."""
    return [Answers(**{name: value}) for name, values in api.answers.items() for value in values]


def a_page_of(limit, ask):
    """The filter for pages of *limit* rows, where the API lets itself be asked for them."""
    return {"limit": limit} if "limit" in signature(ask).parameters else {}


def scope_of(api):
    return {"user_id": api.filters.get("user_id")}


def raw(rows):
    return [json.loads(row.raw) for row in rows]


async def rows(listing):
    return [row async for row in listing]


async def everything(client, api, *, order="listed", **options):
    """What a pool makes of all there is: sessions, and the messages of each."""
    async with SessionPool(client, **options).transcripts(order=order, **api.filters) as transcripts:
        return [(json.loads(each.session.raw), raw(each.messages)) async for each in transcripts]


def longest(reported):
    """The session that says most."""
    return max(reported, key=lambda each: len(each.messages))


def in_order(reported):
    return [(each.session, each.messages) for each in reported]


def as_set(pairs):
    return sorted(json.dumps(each, sort_keys=True) for each in pairs)


async def cancelled_after(box, more, work):
    """Cancel *work* as soon as so many requests more have arrived; whether it had to be."""
    run = asyncio.create_task(work)
    await arrived_or_over(box, more, run)
    was_cancelled = run.cancel()
    await asyncio.wait([run])
    if not run.cancelled():
        run.result()
    return was_cancelled
