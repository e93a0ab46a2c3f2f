"""A secret, so held that no traceback and no report shows it."""

from collections.abc import Callable
from functools import wraps
from typing import Generic, NoReturn, ParamSpec, TypeVar

__all__ = ["Opaque", "Secret", "checked_key", "discreet"]

T = TypeVar("T")
P = ParamSpec("P")


class Opaque:
    """Shows nothing of what it holds, however a report of local variables writes it: a `str` with a `repr` of
    its own would be cut, or decoded, by those that write texts themselves.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "[key]"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is not pickled or copied: read it where it is used.")


class Secret(Opaque, Generic[T]):
    """A key, or the callable that returns one."""

    __slots__ = ("_hidden",)

    def __init__(self, hidden: T) -> None:
        self._hidden = hidden

    def reveal(self) -> T:
        """What it holds, for an expression that gives it no name."""
        return self._hidden


def checked_key(key: object) -> Secret[str]:
    """*key* without the white space around it; or as it is, where it was checked before.

    Raises:
        ValueError: it is no text, is empty, or contains characters that no key has; neither the message nor a
            traceback shows it.
    """
    found = _sealed(key)
    # A traceback begins in this frame.
    del key
    if isinstance(found, str):
        raise ValueError(found)
    return found


def _sealed(key: object) -> Secret[str] | str:
    """*key*, or why it is refused."""
    if isinstance(key, Secret):
        return key
    if not isinstance(key, str):
        return f"The API key is a {type(key).__name__}, and not a text."
    key = key.strip()
    if not key:
        return "The API key is empty."
    if not key.isascii() or not key.isprintable() or " " in key:
        return "The API key holds characters that no key has; was more than the key copied?"
    return Secret(key)


def discreet(call: Callable[P, T]) -> Callable[P, T]:
    """*call*, with tracebacks that end before it: its arguments, and what it names, may be the key."""

    @wraps(call)
    def called(*args: P.args, **options: P.kwargs) -> T:
        try:
            return call(*args, **options)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            refusal = error
        del args, options
        refusal.__context__ = None
        try:
            raise refusal.with_traceback(None)
        finally:
            # Else it would keep this frame, which keeps it.
            del refusal

    return called
