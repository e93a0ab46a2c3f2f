"""How many instructions does a request take, and the decoding of a page, beside bare aiohttp and msgspec?

What `cpu_per_request` and `decode` time is counted here by valgrind: slow, and repeatable to 2 % on the
busiest machine. Only what runs in the client's own process counts.
"""

from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType

from benchmarks import server
from benchmarks.instructions import count, per_unit
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.questions import cpu_per_request, decode

BARE = "bare"
"""Among the decoders it has another name."""
REQUEST, PAGE = "a request", "a page decoded"
TIMED = {REQUEST: cpu_per_request, PAGE: decode}
CASE = {REQUEST: "uvloop", PAGE: ""}
SIZE = {REQUEST: 10, PAGE: 0.5}
LESS = 0.4
"""The smaller of the two jobs whose difference counts, as a share of the larger."""


def counted(name: str) -> Work:
    """The cost of each unit in the contender of this *name*."""

    def work(job: Job) -> Figures:
        timed = TIMED[job.case]
        contender = name if name in timed.QUESTION.contenders else decode.PLAIN
        sizes = [round(share * SIZE[job.case] * job.size) for share in (LESS, 1.0)]
        smaller, larger = (one(timed, contender, Job(size=size, case=CASE[job.case])) for size in sizes)
        return {"instructions": per_unit(smaller, larger) / 1000}

    return work


def one(timed: ModuleType, contender: str, job: Job) -> tuple[int, float]:
    """The instructions and the units of one run."""
    world = timed.QUESTION.world
    with server.running(world(job)) if world else nullcontext("") as address:
        return count(timed.__name__.rpartition(".")[2], contender, replace(job, address=address))


def bar(case: str) -> Bar:
    return Bar(
        says=f"Instructions of {case}, times the bare way's",
        value=lambda of: of("instructions", OURS, case) / of("instructions", BARE, case),
        at_most=1.15,
    )


QUESTION = Question(
    contenders={
        BARE: Contender(work=counted(BARE)),
        OURS: Contender(work=counted(OURS)),
        "aiohttp + json": Contender(work=counted("aiohttp + json"), cases=(REQUEST,), in_quick=False),
    },
    cases=(REQUEST, PAGE),
    figures=(Figure(name="instructions", unit="thousand instructions", against=BARE),),
    bars=(bar(REQUEST), bar(PAGE)),
    panels=(Panel(title="A request, counted", figure="instructions", case=REQUEST),),
    in_quick=False,
    rounds=1,
    size=100,
    quick_size=40,
)
