"""The other side of the wire: a local server that speaks the APIs, for tests, benchmarks and first steps.

async with Sandbox(sessions=500, faults=Faults.parse("500=5%,reset=0.01")) as box:
    box.navtalk_url, box.kodey_url, box.lexicon_url, box.llamacloud_url, box.world, box.counts

For one more API, see `Api`.
"""

from ._api import Answers, Api, ApiContext, Refused, SandboxRequest, SandboxResponse
from ._faults import KINDS, Faults
from ._generated import role_word, unknown_fields, zoned
from ._server import Asked, Counts, Sandbox
from ._world import World

__all__ = [
    "KINDS",
    "Answers",
    "Api",
    "ApiContext",
    "Asked",
    "Counts",
    "Faults",
    "Refused",
    "Sandbox",
    "SandboxRequest",
    "SandboxResponse",
    "World",
    "role_word",
    "unknown_fields",
    "zoned",
]
