"""How many instructions does a request take, beside a bare, tuned aiohttp loop?

The same as `cpu_per_request`, counted by valgrind instead of timed: slow, and repeatable to 2 % on the busiest
machine. Only what runs in the client's own process counts.
"""

from dataclasses import replace

from benchmarks import server
from benchmarks.instructions import count, per_unit
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question, Work
from benchmarks.questions import cpu_per_request

LESS = 0.4
"""The smaller of the two jobs whose difference counts, as a share of the larger."""


def counted(name: str) -> Work:
    """What a request takes in the peer of that *name*."""

    def instructions_of(job: Job) -> tuple[int, float]:
        with server.running(cpu_per_request.world(job)) as address:
            return count("cpu_per_request", name, replace(job, case="uvloop", address=address))

    def work(job: Job) -> Figures:
        smaller = replace(job, size=round(LESS * job.size))
        return {"instructions": per_unit(instructions_of(smaller), instructions_of(job)) / 1000}

    return work


COUNTED = ("bare", OURS, "aiohttp + json")
"""A run under valgrind takes some fifty times as long: the slower peers are left out."""

QUESTION = Question(
    contenders={name: Contender(work=counted(name)) for name in COUNTED},
    figures=(
        Figure(name="instructions", unit="thousand instructions a request", against="bare", drawn=True),
    ),
    bars=(
        Bar(
            says="Instructions of a request, times the bare loop's",
            value=lambda of: of("instructions", OURS) / of("instructions", "bare"),
            at_most=1.15,
        ),
    ),
    rounds=1,
    size=1_000,
    quick_size=400,
)
