"""dlt's REST source: the configuration says it all, and pages are fetched in parallel threads.

Only the extraction counts here; normalizing and loading would come on top.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dlt
from dlt.sources.rest_api import rest_api_source

from benchmarks.peers.peer import KEY, Haul, Walk


@asynccontextmanager
async def opened(address: str, at_once: int) -> AsyncIterator[Walk]:
    dlt.config["extract.workers"] = at_once
    dlt.config["extract.max_parallel_items"] = at_once
    dlt.config["runtime.dlthub_telemetry"] = False

    async def walk(since: str | None) -> Haul:
        return export(address, since)

    yield walk


def export(address: str, since: str | None) -> Haul:
    source = rest_api_source(configuration(address, {"startTime": since} if since else {}))
    rows = list(source.with_resources("messages"))
    return Haul(len({row["_sessions_id"] for row in rows}), len(rows))


def configuration(address: str, filters: dict[str, str]) -> dict[str, Any]:
    return {
        "client": {
            "base_url": f"{address}/api/chat/",
            "auth": {"type": "api_key", "name": "apikey", "api_key": KEY, "location": "query"},
            "paginator": {
                "type": "cursor",
                "cursor_path": "data.nextCursor",
                "cursor_param": "cursor",
            },
        },
        "resource_defaults": {"primary_key": "id", "parallelized": True},
        "resources": [
            {
                "name": "sessions",
                "endpoint": {
                    "path": "sessions",
                    "params": {"limit": 100, **filters},
                    "data_selector": "data.data",
                },
            },
            {
                "name": "messages",
                "include_from_parent": ["id"],
                "endpoint": {
                    "path": "messages",
                    "params": {"sessionId": "{resources.sessions.id}", "limit": 200},
                    "data_selector": "data.data",
                },
            },
        ],
    }
