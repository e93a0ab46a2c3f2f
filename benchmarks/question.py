"""A question: the contenders, the figures that are measured, and the bars they must meet."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from benchmarks.world import World

OURS = "navtalk-async"

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Job:
    """The arguments of a contender: how much to do, in which case, and the address of the server."""

    size: int
    case: str = ""
    address: str = ""
    """Empty where the question needs no server."""


Work = Callable[[Job], Figures | Awaitable[Figures]]
"""Does the job, raises if a row is missing, and returns its figures. A coroutine runs on uvloop."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the job."""

    work: Work
    cases: tuple[str, ...] | None = None
    """The cases it takes part in; all of them."""
    share: float = 1.0
    """It does so much of the question's size: a slow one need not do everything to be measured."""
    once: bool = False
    """It runs in the first round only."""
    in_quick: bool = True
    ours: bool = False
    """Whether it is this library under another name."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that contenders are measured by."""

    name: str
    unit: str
    form: str = ",.0f"
    better: Literal["less", "more"] = "less"
    against: str | None = None
    """The yardstick: the contender that all others are shown as multiples of, in the same case and round."""


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the picture: one figure of every contender in one case, with its unit below the title."""

    title: str
    figure: str
    case: str = ""


class Round:
    """What one time around came to: `round_("cpu", "bare")` is one figure of one contender."""

    def __init__(self, figures: Mapping[tuple[str, str], Figures]) -> None:
        self._figures = figures

    def __call__(self, figure: str, contender: str, case: str = "") -> float:
        """One figure; a KeyError if it was not measured."""
        return self._figures[contender, case][figure]

    def every(self, figure: str, case: str = "") -> dict[str, float]:
        """The *figure* of every contender that has it."""
        return {
            contender: figures[figure]
            for (contender, its_case), figures in self._figures.items()
            if its_case == case and figure in figures
        }


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The bound that the median over all rounds must meet."""

    says: str
    value: Callable[[Round], float]
    """Of one round; a KeyError where something in it was not measured."""
    at_most: float = float("inf")
    at_least: float = float("-inf")

    @property
    def limit(self) -> str:
        """The bound, in words."""
        return (
            f"at least {self.at_least:,g}" if self.at_most == float("inf") else f"at most {self.at_most:,g}"
        )

    def met_by(self, value: float) -> bool:
        """Whether *value* is within it."""
        return self.at_least <= value <= self.at_most


@dataclass(frozen=True, kw_only=True)
class Question:
    """What each module of `benchmarks.questions` has as its `QUESTION`; the first line of its docstring asks
    it.
    """

    contenders: Mapping[str, Contender]
    figures: tuple[Figure, ...]
    bars: tuple[Bar, ...] = ()
    panels: tuple[Panel, ...] = ()
    cases: tuple[str, ...] = ("",)
    """What every contender is put through, each compared only within itself."""
    world: Callable[[Job], World] | None = None
    """The data and behaviour of the server; None for no server. Each run has a new one."""
    in_quick: bool = True
    """Whether a quick run of everything asks it."""
    rounds: int = 3
    size: int = 1
    quick_size: int = 1
