"""Server-sent events out of the bytes of a stream (WHATWG HTML, sections 9.2.5 and 9.2.6).

Chunks may begin and end anywhere. Nearly every event is short, a line of data with or without a name before
it: such events are found in bulk, by one expression. All else is read line by line, to the same end.
"""

import re
from codecs import BOM_UTF8, utf_8_decode
from functools import lru_cache

import msgspec

from navtalk_async.errors import BodyTooLarge

__all__ = ["LIMIT", "ServerSentEvent", "SseDecoder"]

LIMIT = 16 << 20
"""The default `limit` of a decoder."""

CR = 13

SHORT = 4096
"""An unfinished event of up to so many bytes waits for its end; of a longer one, the lines are read."""

BLOCK = re.compile(rb"(?:event: ?+(.{0,64}+)\n)?+data: ?+(.*+)\n\n|((?:.++\n)*+\n)")
"""All lines up to a blank one: name and data of a plain event, or else the lines as they are."""


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream."""

    type: str
    """Its name; `message` without one."""
    data: bytes
    """UTF-8, with other bytes replaced by U+FFFD; several lines are joined by line feeds."""
    last_event_id: str = ""
    """The last id of the stream, with this event or before."""


class SseDecoder:
    """The events of one stream that is fed chunk by chunk. What the stream leaves unfinished is no event.

    Arguments:
        limit: how many bytes a line may have, and the data of an event.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self.last_event_id: str = ""
        """The id to go on from, as of the last blank line."""
        self._limit = limit
        self._error: BodyTooLarge | None = None
        self._has_begun = self._ended_in_return = False
        self._is_between = True
        """Whether no line was read since the last blank one."""
        self._character = self._waiting = b""
        self._line = bytearray()
        self._type = self._id = ""
        self._data = bytearray()

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that *chunk* finishes.

        Raises:
            BodyTooLarge: a line or an event goes beyond the limit; after the events before it.
        """
        if self._error is not None:
            raise self._error
        events: list[ServerSentEvent] = []
        try:
            text = self._in_utf8(chunk)
            if CR in text or self._ended_in_return:
                text = self._with_line_feeds(text)
            self._read(text, events)
        except BodyTooLarge as error:
            self._error = error
            if not events:
                raise
        return events

    def _in_utf8(self, chunk: bytes) -> bytes:
        """The whole characters that came, without the byte order mark that the stream may begin with."""
        text = self._character + chunk
        self._character = b""
        if not text.isascii():
            characters, length = utf_8_decode(text, "replace", False)
            self._character = text[length:]
            text = characters.encode() if "\ufffd" in characters else text[:length]
        if text and not self._has_begun:
            self._has_begun = True
            text = text.removeprefix(BOM_UTF8)
        return text

    def _with_line_feeds(self, text: bytes) -> bytes:
        """*text* with every line ended by LF: a CR ends its line at once, and an LF after it adds nothing."""
        if not text:
            return text
        rest = text.removeprefix(b"\n") if self._ended_in_return else text
        self._ended_in_return = text.endswith(b"\r")
        return rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, text: bytes, events: list[ServerSentEvent]) -> None:
        text = self._waiting + text
        self._waiting = b""
        if len(text) > self._limit:
            self._read_lines(text, events)
            return
        if not self._is_between:
            lines, blank, text = text.partition(b"\n\n")
            self._read_lines(lines + blank, events)
        blocks, blank, text = text.rpartition(b"\n\n")
        for name, data, others in BLOCK.findall(blocks + blank):
            if others:
                self._read_lines(others, events)
            else:
                events.append(ServerSentEvent(_type_of(name), data, self.last_event_id))
        if len(text) <= SHORT:
            self._waiting = text
        else:
            self._read_lines(text, events)

    def _read_lines(self, text: bytes, events: list[ServerSentEvent]) -> None:
        if not text:
            return
        *lines, rest = text.split(b"\n")
        if lines:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        for line in lines:
            self._bound(line)
            if line:
                self._take(*line.split(b":", 1))
            else:
                self._dispatch(events)
        self._line += rest
        self._bound(self._line)
        self._is_between = not rest and not lines[-1]

    def _take(self, field: bytes, value: bytes = b"") -> None:
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data += value + b"\n"
            self._bound(self._data)
        elif field == b"event":
            self._type = value.decode()
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode()

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        self.last_event_id = self._id
        if self._data:
            events.append(ServerSentEvent(self._type or "message", bytes(self._data[:-1]), self._id))
        self._data.clear()
        self._type = ""

    def _bound(self, growing: bytes | bytearray) -> None:
        if len(growing) > self._limit:
            raise BodyTooLarge(f"An event of the stream has more than {self._limit:,} bytes.")


@lru_cache(64)
def _type_of(name: bytes) -> str:
    return name.decode() or "message"
