"""The other side of the wire: a local server that speaks the APIs, for tests, benchmarks and first steps.

async with Sandbox(sessions=500, faults=Faults.parse("500=5%,reset=0.01")) as box:
    box.navtalk_url, box.kodey_url, box.lexicon_url, box.llamacloud_url, box.world, box.counts
"""

from .answers import Answers
from .counts import Counts
from .faults import KINDS, Faults
from .server import Sandbox
from .world import World

__all__ = ["KINDS", "Answers", "Counts", "Faults", "Sandbox", "World"]
