"""How much does it cost to decode a page of 200 messages?

Ours returns checked records with open enums and unknown fields. The yardstick is msgspec into a plain struct;
the others return dictionaries, or pydantic's models.
"""

import json
import time
from collections.abc import Callable
from importlib import import_module

import msgspec

from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import MESSAGES_A_PAGE, message_row, page, session_id
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.models import Response

PLAIN = "msgspec, plain struct"
WARM_UP = 50
AT_A_TIME = 20
"""The pages that are timed together. The minimum of many such times counts: it was disturbed the least."""

Decode = Callable[[bytes], object]


def plain() -> Decode:
    return import_module("benchmarks.peers.bare").MESSAGES.decode


def ours() -> Decode:
    dialect = NavTalk()
    request = dialect.list_messages(session_id(0))
    return lambda body: dialect.read_messages(request, Response(status=200, headers={}, body=body))


def with_pydantic() -> Decode:
    models = import_module("benchmarks.peers.httpx_pydantic")
    return models.Envelope[models.Message].model_validate_json


def cost(decoder: Callable[[], Decode]) -> Work:
    def work(job: Job) -> Figures:
        decode = decoder()
        body = page([message_row(number) for number in range(MESSAGES_A_PAGE)], 200)
        for _ in range(WARM_UP):
            decode(body)
        return {
            "cpu": 1e6 * min(seconds(decode, body) for _ in range(job.size)),
            "units": job.size * AT_A_TIME,
        }

    return work


def seconds(decode: Decode, body: bytes) -> float:
    began = time.process_time()
    for _ in range(AT_A_TIME):
        decode(body)
    return (time.process_time() - began) / AT_A_TIME


DECODERS = {
    PLAIN: plain,
    OURS: ours,
    "msgspec, untyped": lambda: msgspec.json.decode,
    "orjson": lambda: import_module("orjson").loads,
    "json": lambda: json.loads,
    "pydantic": with_pydantic,
}

QUESTION = Question(
    contenders={name: Contender(work=cost(decoder)) for name, decoder in DECODERS.items()},
    figures=(Figure(name="cpu", unit="µs of CPU a page", against=PLAIN),),
    bars=(
        Bar(
            says="CPU of decoding a page of 200 messages, times msgspec's into a plain struct",
            value=lambda of: of("cpu", OURS) / of("cpu", PLAIN),
            at_most=1.15,
        ),
    ),
    panels=(Panel(title="Decoding a page of 200 messages", figure="cpu"),),
    rounds=9,
    size=60,
    quick_size=30,
)
