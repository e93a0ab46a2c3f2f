"""Which sessions and messages a project in a store is made of."""

import msgspec

__all__ = ["Scope"]


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which sessions and messages are wanted. A project in a store has one scope for good."""

    start: str | None = None
    """The least begin, `yyyy-MM-dd HH:mm:ss` in UTC."""
    end: str | None = None
    status: int | None = None
    role: int | None = None
    sessions: tuple[str, ...] = ()
    """Only these, by id; the other filters of sessions then do not apply."""

    def text(self) -> str:
        """The scope as JSON, for comparing."""
        return msgspec.json.encode(self).decode()
