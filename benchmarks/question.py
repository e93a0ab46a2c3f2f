"""What a question's module says about itself, as a value."""

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Question:
    """A module of this folder that has `CONTENDERS`, the first of them the plain way of doing it.

    A contender is a function of a `Job`, plain or async. It warms up, does *size* of the work within
    `job.meter`, checks the outcome and sets `job.meter.units`.
    """

    name: str
    asks: str
    """The first line of its docstring."""
    contenders: tuple[str, ...]
    variants: tuple[str, ...]
    """Ways to run every contender in turn, event loops say; compared only within one."""
    unit: str
    figure: str
    """Which of the meter's figures is compared."""
    bar: float
    served: bool
    """Whether contenders need the server; where the unit is a request, its count is compared with theirs."""
    size: int
    quick_size: int
    warm_up_units: int

    @classmethod
    def of(cls, module: ModuleType) -> Self:
        """What *module* asks, and how."""
        return cls(
            name=module.__name__.rpartition(".")[2],
            asks=(module.__doc__ or "").partition("\n")[0],
            contenders=tuple(module.CONTENDERS),
            variants=getattr(module, "VARIANTS", ("",)),
            unit=module.UNIT,
            figure=module.FIGURE,
            bar=module.BAR,
            served=getattr(module, "SERVED", False),
            size=module.SIZE,
            quick_size=module.QUICK_SIZE,
            warm_up_units=getattr(module, "WARM_UP_UNITS", 0),
        )


def all_questions() -> dict[str, Question]:
    """Every question of this folder, by name."""
    names = [found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(f"benchmarks.{name}") for name in names if name != "__main__"]
    return {(asked := Question.of(module)).name: asked for module in modules if hasattr(module, "CONTENDERS")}
