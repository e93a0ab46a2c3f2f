"""Compressed answers are read as servers and proxies really write them."""

import gzip
import zlib

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async import NavTalkClient
from navtalk_async.wire._inflating import PIECE, Inflating

BODY = b'{"code": 200, "message": "OK", "data": {"data": [{"id": "a", "status": 1}], "nextCursor": null}}'


class Parts:
    """A body that comes in *parts*."""

    def __init__(self, parts):
        self.parts = list(parts)

    async def readany(self):
        return self.parts.pop(0) if self.parts else b""


async def whole(source):
    parts = []
    while part := await source.readany():
        assert len(part) <= PIECE
        parts.append(part)
    return b"".join(parts)


def split(data, sizes):
    """*data* in parts of *sizes*, and the rest."""
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [each for each in (*parts, data) if each]


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


texts = st.binary(min_size=1).map(lambda more: b"{" + more)
sizes = st.lists(st.integers(1, 40), max_size=30)


@given(st.lists(texts, min_size=1, max_size=3), st.integers(0, 600), sizes)
async def test_members_behind_each_other_and_zeros_behind_them_are_one_body(members, zeros, sizes):
    packed = b"".join(map(gzip.compress, members)) + bytes(zeros)
    assert await whole(Inflating(Parts(split(packed, sizes)), is_deflate=False)) == b"".join(members)


def of_a_small_window(data):
    packer = zlib.compressobj(wbits=10)
    return packer.compress(data) + packer.flush()


@given(texts, st.sampled_from([zlib.compress, of_a_small_window, raw_deflate, gzip.compress, bytes]), sizes)
async def test_the_bytes_say_how_they_are_compressed(text, pack, sizes):
    packed = split(pack(text), sizes)
    # The second byte of a header, and not only the first, may come later.
    assert await whole(Inflating(Parts(packed), is_deflate=True)) == text


@given(st.integers(1, len(gzip.compress(BODY * 9)) - 1), sizes)
async def test_a_body_that_is_cut_off_is_an_error(kept, sizes):
    packed = split(gzip.compress(BODY * 9)[:kept], sizes)
    with pytest.raises(aiohttp.ClientPayloadError):
        await whole(Inflating(Parts(packed), is_deflate=False))


async def test_a_bomb_comes_in_pieces():
    bomb = gzip.compress(bytes(40 * PIECE))
    pieces = Inflating(Parts([bomb]), is_deflate=False)
    assert len(await pieces.readany()) == PIECE
    assert len(await whole(pieces)) == 39 * PIECE


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        *((each, gzip.compress(BODY, mtime=0)) for each in ("gzip", "x-gzip", "GZIP", "gzip, identity")),
        ("gzip", gzip.compress(BODY, mtime=0) + bytes(512)),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY, mtime=0), mtime=0)),
        ("deflate", raw_deflate(BODY)),
        *((each, BODY) for each in ("identity", "", "utf-8", "gzip")),
    ],
)
async def test_a_page_is_read_whatever_its_coding_is_called(coding, body, scripted):
    async with scripted(body, 200, f"Content-Encoding: {coding}") as server:
        async with NavTalkClient("key", base_url=server.url) as nt:
            assert [each.id for each in (await nt.sessions.list()).items] == ["a"]
