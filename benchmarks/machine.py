"""The machine and the versions that the figures were measured with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

LIBRARIES = (
    *("navtalk-async", "aiohttp", "yarl", "multidict", "msgspec", "anyio", "uvloop"),
    *("httpx", "pydantic", "orjson", "requests", "niquests", "dlt", "openai", "tenacity"),
)


class Machine(msgspec.Struct):
    """The hardware, the system and the versions of everything that takes part."""

    cpu: str
    cores: int | None
    system: str
    python: str
    libraries: dict[str, str]

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {version}" for name, version in self.libraries.items())
        return f"{self.cpu}, {self.cores} cores, {self.system}, {self.python}\n{libraries}"


def this_machine() -> Machine:
    return Machine(
        cpu=cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries={name: found for name in LIBRARIES if (found := installed(name))},
    )


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
