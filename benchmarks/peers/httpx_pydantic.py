"""httpx and pydantic models, with a semaphore and gather."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

import httpx
from pydantic import BaseModel, Field

from benchmarks.peers.peer import KEY, Haul, Walk


class Session(BaseModel):
    id: str
    status: int
    start_time: datetime = Field(alias="startTime")
    end_time: datetime | None = Field(alias="endTime")
    video_url: str | None = Field(alias="videoUrl")


class Message(BaseModel):
    id: str
    role: int
    message_type: int = Field(alias="messageType")
    content: str
    created_at: datetime = Field(alias="createdAt")


Row = TypeVar("Row", Session, Message)


class Rows(BaseModel, Generic[Row]):
    data: list[Row]
    next_cursor: str | None = Field(alias="nextCursor")


class Envelope(BaseModel, Generic[Row]):
    code: int
    message: str
    data: Rows[Row]


@asynccontextmanager
async def opened(address: str, at_once: int) -> AsyncIterator[Walk]:
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(base_url=address, limits=limits) as http:
        yield partial(walk, http, at_once)


async def walk(http: httpx.AsyncClient, at_once: int, since: str | None) -> Haul:
    semaphore = asyncio.Semaphore(at_once)
    filters = {"startTime": since} if since else {}
    sessions = await fetch_all(http, semaphore, "/api/chat/sessions", Envelope[Session], limit=100, **filters)
    chats = await asyncio.gather(
        *(
            fetch_all(
                http, semaphore, "/api/chat/messages", Envelope[Message], limit=200, sessionId=session.id
            )
            for session in sessions
        )
    )
    return Haul(len(sessions), sum(len(messages) for messages in chats))


async def fetch_all(
    http: httpx.AsyncClient,
    semaphore: asyncio.Semaphore,
    path: str,
    envelope: type[Envelope[Row]],
    **params: Any,
) -> list[Row]:
    rows: list[Row] = []
    params["apikey"] = KEY
    while True:
        async with semaphore:
            response = await http.get(path, params=params)
        response.raise_for_status()
        page = envelope.model_validate_json(response.content).data
        rows.extend(page.data)
        if not page.next_cursor:
            return rows
        params["cursor"] = page.next_cursor
