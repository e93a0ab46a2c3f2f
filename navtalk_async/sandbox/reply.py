"""How an answer leaves: whole, spoiled, or with a broken connection."""

import asyncio
import socket
import struct
from random import Random
from typing import Final
from zlib import compressobj

from aiohttp import web

from .answers import Answers
from .exchange import Answered, Api, Asked, Room, Streamed
from .faults import PAGE_FAULTS, Faults
from .stunts import RawResponse, bomb, spoiled

_WORTH_GZIP: Final = 512
# A gateway before the API tells by status, however the API itself tells its errors.
_BY_STATUS: Final = Answers()
_MESSAGES: Final = {
    "400": "Missing required parameter",
    "403": "API key expired or project not active",
    "404": "Session not found or does not belong to the project",
    "500": "Internal server error",
}


def too_many(asked: Asked, api: Api, wait: float | None) -> Answered:
    """A 429, which says to wait that many seconds unless *wait* is None."""
    return api.refusal(429, "Too Many Requests", asked, _BY_STATUS, wait)


def unavailable(asked: Asked, api: Api) -> Answered:
    """A 503, as a gateway gives it."""
    return api.refusal(503, "Service Unavailable", asked, _BY_STATUS)


async def composed(
    asked: Asked, api: Api, room: Room, fault: str | None, faults: Faults
) -> Answered | Streamed | RawResponse:
    """What this request gets, with *fault* or without."""
    if fault is None or fault in PAGE_FAULTS:
        return api.answer(asked, room, fault)
    if fault == "bomb":
        # Made once, in some tenths of a second: too long for the loop that serves everyone else.
        return Answered(200, await asyncio.to_thread(bomb), headers={"Content-Encoding": "gzip"})
    if fault == "drop":
        # What was asked for is not even begun; lost-answer is the fault where it was done.
        return RawResponse()
    # The dice are the request's own, so what it gets does not depend on who else is being answered.
    dice = Random(asked.number)  # noqa: S311 - dice for faults
    refused = _refused(asked, api, room, fault, faults)
    return refused or spoiled(fault, api.answer(asked, room, None), faults, dice, api.WRONG_SHAPES)


def _refused(asked: Asked, api: Api, room: Room, fault: str, faults: Faults) -> Answered | None:
    """The answer of the faults that are an answer in themselves; None for those that spoil a right one."""
    match fault:
        case "400" | "403" | "404" | "500":
            made = api.refusal(int(fault), _MESSAGES[fault], asked, room.answers)
        case "429":
            made = too_many(asked, api, faults.retry_after)
        case "429-bare":
            made = too_many(asked, api, None)
        case "503":
            made = unavailable(asked, api)
        case "echo-key":
            told = f'Invalid API key {api.secret(asked)} in <a href="{asked.url}">{asked.url}</a>'
            made = api.refusal(400, told, asked, room.answers)
        case "redirect":
            made = Answered(302, b"", "text/plain", {"Location": _elsewhere(asked.url)})
        case _:
            return None
    return made


def _elsewhere(url: str) -> str:
    """The same address under the other name of loopback."""
    if "://127.0.0.1" in url:
        return url.replace("://127.0.0.1", "://localhost", 1)
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://127.0.0.1:{authority.rpartition(':')[2]}{slash}{path}"


def whole(
    request: web.BaseRequest, answered: Answered, *, gzip: bool, date: str | None = None
) -> web.Response:
    """The answer as aiohttp sends it, compressed when that is wanted and worth it; *date* is its `Date`."""
    body, headers = answered.body, answered.headers
    if date is not None:
        headers = headers | {"Date": date}
    if gzip and len(body) > _WORTH_GZIP and "gzip" in request.headers.get("Accept-Encoding", ""):
        squeeze = compressobj(1, wbits=31)
        body = squeeze.compress(body) + squeeze.flush()
        headers = headers | {"Content-Encoding": "gzip"}
    return web.Response(
        body=body, status=answered.status, content_type=answered.content_type, headers=headers or None
    )


async def streamed(
    request: web.BaseRequest, answer: Streamed, *, date: str | None = None
) -> web.StreamResponse:
    """The answer piece by piece, as they come; *date* is its `Date`."""
    headers = answer.headers if date is None else answer.headers | {"Date": date}
    response = web.StreamResponse(status=answer.status, headers=headers or None)
    response.content_type = answer.content_type
    response.enable_chunked_encoding()
    await response.prepare(request)
    for number, piece in enumerate(answer.pieces):
        if number and answer.pause:
            await asyncio.sleep(answer.pause)
        await response.write(piece)
    await response.write_eof()
    return response


async def perform(request: web.BaseRequest, stunt: RawResponse) -> web.StreamResponse:
    """Write what the stunt says, and end the connection its way."""
    transport = request.transport
    if transport is not None:
        for piece in stunt.pieces:
            if transport.is_closing():
                break
            transport.write(piece)
            await request.writer.drain()
            if stunt.pause:
                await asyncio.sleep(stunt.pause)
        if stunt.end == "hang":
            # Only the client's leaving, or the sandbox's closing, cancels this.
            await asyncio.get_running_loop().create_future()
        if stunt.end == "reset":
            # Lingering for no seconds turns the close into a TCP reset.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
    # aiohttp finds the connection closed, and sends none of this.
    return web.Response()
