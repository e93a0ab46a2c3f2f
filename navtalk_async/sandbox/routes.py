"""Which endpoint a method and a path lead to, for APIs whose paths hold the ids."""

from collections.abc import Mapping
from dataclasses import dataclass

from .exchange import Asked, Refused


@dataclass(frozen=True, slots=True)
class Routes:
    """The endpoints below *prefix*: what each is called, by its method and path, e.g. ``GET {id}/message``.

    Where two fit, the first is meant.
    """

    prefix: str
    table: Mapping[str, str]

    def kind(self, asked: Asked) -> str:
        """What the endpoint that *asked* leads to is called, or an empty string."""
        steps = asked.steps(self.prefix)
        for route, kind in self.table.items():
            method, _, path = route.partition(" ")
            if method == asked.method and _fits(path, steps):
                return kind
        return ""

    def step(self, asked: Asked, name: str) -> str:
        """What the path of *asked* has in the place of *name*, or an empty string when it has none."""
        steps = asked.steps(self.prefix)
        for route, kind in self.table.items():
            method, _, path = route.partition(" ")
            if kind == asked.kind and method == asked.method and _fits(path, steps):
                return dict(zip(path.split("/"), steps, strict=False)).get(f"{{{name}}}", "")
        return ""

    def refused(self, asked: Asked) -> Refused:
        """What to raise for a request that leads to no endpoint: 405 where another method leads to one."""
        steps = asked.steps(self.prefix)
        if any(_fits(route.partition(" ")[2], steps) for route in self.table):
            return Refused(405, "Method Not Allowed")
        return Refused(404, "Not Found")


def _fits(path: str, steps: list[str]) -> bool:
    names = path.split("/") if path else []
    return len(names) == len(steps) and all(
        step != "" if name.startswith("{") else name == step for name, step in zip(names, steps, strict=True)
    )
