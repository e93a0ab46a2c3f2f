"""Places at which a test may end the process, to see what it leaves behind.

They lie before and after everything that reaches the disk. Nothing but code in the same process can arm
them, and one that is not armed costs a look at a variable.
"""

from collections.abc import Callable

__all__ = ["arm", "reach"]

_on_reached: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """The process has come to the place *name*."""
    if _on_reached is not None:
        _on_reached(name)


def arm(on_reached: Callable[[str], None] | None) -> None:
    """Call *on_reached* with the name of every place that is reached from now on, in whatever thread."""
    global _on_reached  # noqa: PLW0603 - one process, one life to end
    _on_reached = on_reached
