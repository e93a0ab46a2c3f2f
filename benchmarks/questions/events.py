"""How fast are server-sent events decoded?

The stream is an answer as it is written, word by word: each event has a name, and some 30 to 250 bytes of
JSON that is not decoded here. It comes in chunks of some size, or event by event. Splitting it at its blank
lines is the yardstick, which makes no events and knows no line ends but LF.
"""

import random
import time
from collections.abc import Callable, Sequence
from importlib import import_module

import msgspec

from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from navtalk_async.dialects.sse import SseDecoder

SPLIT = "bytes.split"
EVENTS = 10_000
SIZES = {"64 KiB": 65_536, "1 KiB": 1_024, "event by event": 0}
WORDS = "the answer is in your index and quotes “three” documents … naïvely 東京".split()  # noqa: SIM905

Decode = Callable[[Sequence[bytes]], int]
"""Makes all events of the chunks of one stream, and says how many there are."""


def stream() -> list[bytes]:
    """The events of a stream, each as it is sent."""
    chance = random.Random(20250101)
    return [
        b"event: delta\ndata: %b\n\n" % msgspec.json.encode({"type": kind, "content": text})
        for kind, text in (
            (chance.choice(["text_delta", "thinking_delta"]), " ".join(chance.choices(WORDS, k=words)))
            for words in chance.choices(range(1, 27), k=EVENTS)
        )
    ]


def chunks(events: Sequence[bytes], size: int) -> Sequence[bytes]:
    sent = b"".join(events)
    return [sent[begin : begin + size] for begin in range(0, len(sent), size)] if size else events


def ours(sent: Sequence[bytes]) -> int:
    decoder = SseDecoder()
    return sum(len(decoder.feed(chunk)) for chunk in sent)


def split(sent: Sequence[bytes]) -> int:
    count, rest = 0, b""
    for chunk in sent:
        *events, rest = (rest + chunk).split(b"\n\n")
        count += len(events)
    return count


def with_openai() -> Decode:
    kind = import_module("openai._streaming").SSEDecoder
    return lambda sent: sum(1 for _ in kind().iter_bytes(iter(sent)))


def speed(decoder: Callable[[], Decode]) -> Work:
    def work(job: Job) -> Figures:
        decode, events = decoder(), stream()
        sent = chunks(events, SIZES[job.case])
        # The least of many times counts: it was disturbed the least.
        least = min(seconds(decode, sent) for _ in range(job.size))
        return {"speed": sum(map(len, events)) / least / 1e6, "each": 1e6 * least / EVENTS}

    return work


def seconds(decode: Decode, sent: Sequence[bytes]) -> float:
    began = time.process_time()
    count = decode(sent)
    took = time.process_time() - began
    if count != EVENTS:
        raise AssertionError(f"{count} of {EVENTS} events.")
    return took


DECODERS: dict[str, Callable[[], Decode]] = {
    SPLIT: lambda: split,
    OURS: lambda: ours,
    "openai SDK": with_openai,
}

QUESTION = Question(
    contenders={
        name: Contender(work=speed(decoder), share=0.2 if decoder is with_openai else 1.0)
        for name, decoder in DECODERS.items()
    },
    figures=(
        Figure(name="speed", unit="MB/s", better="more", against=SPLIT),
        Figure(name="each", unit="µs of CPU an event", form=",.2f", against=SPLIT),
    ),
    bars=(
        Bar(
            says="server-sent events of 140 bytes in chunks of 64 KiB, in MB/s",
            value=lambda of: of("speed", OURS, "64 KiB"),
            at_least=100.0,
        ),
        Bar(
            says="the same in chunks of 1 KiB, in MB/s",
            value=lambda of: of("speed", OURS, "1 KiB"),
            at_least=100.0,
        ),
        Bar(
            says="the same event by event, in µs of CPU an event",
            value=lambda of: of("each", OURS, "event by event"),
            at_most=3.0,
        ),
    ),
    panels=(Panel(title="Server-sent events, in chunks of 64 KiB", figure="speed", case="64 KiB"),),
    cases=tuple(SIZES),
    rounds=5,
    size=40,
    quick_size=10,
)
