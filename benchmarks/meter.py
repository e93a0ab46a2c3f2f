"""The cost of a part of the work: CPU and wall time within a `with`, and the peak memory."""

import gc
import re
import resource
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class Meter:
    """What happens within its `with` counts; read it afterwards."""

    cpu_seconds = 0.0
    wall_seconds = 0.0

    def __enter__(self) -> Self:
        # The garbage of the warm-up is not collected at the cost of this part.
        gc.collect()
        self._cpu_from, self._wall_from = cpu_seconds(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_seconds = cpu_seconds() - self._cpu_from
        self.wall_seconds = time.perf_counter() - self._wall_from


def cpu_seconds(whose: int = resource.RUSAGE_SELF) -> float:
    """The CPU time of this process with all its threads, or of all its children that have ended."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def peak_kib() -> int:
    """The most memory this process has ever held."""
    # Linux counts the parent's memory at the time of the fork into ru_maxrss; VmHWM begins with the program.
    status = Path("/proc/self/status")
    if status.exists():
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(peak)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def percentile(values: list[float], share: float) -> float:
    """The least of *values* that *share* of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
