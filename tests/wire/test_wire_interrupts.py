"""Ctrl-C may come at any line. Wherever it does, no traceback shows the key."""

import asyncio
import gc
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import aiohttp
import pytest
from key_leaks import HiddenCall, KeyLeaks

import navtalk_async
from navtalk_async import KodeyClient, NavTalkClient
from navtalk_async.models import Request

KEY = "CANARY-" + "K7Zq" * 40
BODY = b'{"code":200,"message":"S","data":{"data":[],"nextCursor":null},"chats":[]}'
ANSWER = b"HTTP/1.1 200 So\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
OURS = Path(navtalk_async.__file__).parent
BELOW = [
    Path(asyncio.__file__).parent / "selector_events.py",
    *Path(aiohttp.__file__).parent.glob("client*.py"),
]
REVEALING = OURS / "wire" / "secret.py"
"""Where the key is text for as long as it takes to write it somewhere, but in these functions."""
WATCHED = {"checked_root", "canonical_root", "is_loopback", "query_of", "_percent_encoded"}
WATCHED |= {"redact", "_redacted", "_details", "_scrubbed"}
LINES = 40
"""How many lines are tried; they lie evenly in all that are run."""


class Answering(StreamRequestHandler):
    """Answers everything alike."""

    def handle(self):
        with suppress(ConnectionError):
            for line in self.rfile:
                if line == b"\r\n":
                    self.wfile.write(ANSWER)


@pytest.fixture(scope="module")
def url():
    with ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


SPARED = {"__init__", "__del__"}
"""What is half made has no `repr` yet, and what is thrown away shows nothing."""


def is_spared(frame):
    while frame is not None and frame.f_code.co_name not in SPARED:
        frame = frame.f_back
    return frame is not None


class Lines:
    """Counts the lines that run in *files*, and is Ctrl-C at the one of that number."""

    def __init__(self, files, number=0):
        self.files = files
        self.number = number
        self.count = 0

    def __enter__(self):
        sys.settrace(self.enter)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def enter(self, frame, _event, _argument):
        code = frame.f_code
        reveals = code.co_filename == str(REVEALING) and code.co_name not in WATCHED
        return self.run if code.co_filename in self.files and not reveals and not is_spared(frame) else None

    def run(self, _frame, event, _argument):
        if event == "line":
            self.count += 1
            if self.count == self.number:
                raise KeyboardInterrupt
        return self.run


async def everything(make):
    async with make() as client:
        await client.list_sessions()
        await client.ask(Request(path="/x", method="POST", body=b"{}\n"), lambda _, answer: answer)
        async with client.stream(Request(path="/x"), lambda *_: None) as chunks:
            assert [chunk async for chunk in chunks]


def interrupted(make, lines, leaks):
    try:
        with lines:
            asyncio.run(everything(make))
    except KeyboardInterrupt as error:
        leaks.see_error(error)
        return True
    return False


async def called_for():
    return HiddenCall(lambda: KEY)()


@pytest.mark.parametrize(
    ("kind", "key"),
    [(NavTalkClient, KEY), (KodeyClient, KEY), (NavTalkClient, called_for), (KodeyClient, lambda: KEY)],
    ids=["in the query", "in a header", "called for", "called for at once"],
)
@pytest.mark.parametrize("where", ["ours", "below"])
def test_ctrl_c_at_any_line_shows_no_key(kind, key, where, url, monkeypatch):
    # Loops and connections that are left half closed complain when they are thrown away.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    ours = [*(OURS / "wire").glob("*.py")]
    files = {str(file) for file in (ours if where == "ours" else BELOW)}
    make, leaks = HiddenCall(partial(kind, key, base_url=url)), KeyLeaks()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = Lines(files)
        assert not interrupted(make, whole, leaks)
        assert whole.count > 100
        for number in range(1, whole.count, max(1, whole.count // LINES)):
            interrupted(make, Lines(files, number), leaks)
        gc.collect()
    assert leaks.texts_with_key() == []
