"""What the sandbox served: the figures by which a client is judged from the other side of the wire."""

from collections import Counter, deque
from typing import Any

from ._api import SandboxRequest

_LOGGED = 10_000
_SECRET = "apikey"  # noqa: S105 - the name of the parameter that is left out


class Counts:
    """How many requests came and how they were answered, since the start or since `reset`."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start at zero again; requests in flight stay in flight."""
        self.total = 0
        """Requests that arrived, answered or not."""
        self.by_kind: Counter[str] = Counter()
        """Requests by endpoint: sessions, session and messages in every API, its other ones, and other."""
        self.by_api: Counter[str] = Counter()
        """Requests by API, e.g. navtalk."""
        self.writes: Counter[tuple[str, str]] = Counter()
        """Requests to change something that arrived, answered or not, by method and path."""
        self.written: deque[tuple[str, str, bytes]] = deque(maxlen=_LOGGED)
        """The latest of them, each its method, path and body."""
        self.by_status: Counter[int] = Counter()
        """Responses by HTTP status; a connection reset or dropped has none."""
        self.faults: Counter[str] = Counter()
        """Faults that happened, by kind."""
        self.messages_by_session: Counter[str] = Counter()
        """Requests for messages, by session id."""
        self.connections = 0
        """Connections that were opened."""
        self.peak_in_flight = self.in_flight
        """The most requests that were in flight at once."""
        self.recent: deque[tuple[str, dict[str, str]]] = deque(maxlen=_LOGGED)
        """The latest requests, each its kind and parameters, without the key."""

    @property
    def session_gets(self) -> int:
        """How often a single session was asked for."""
        return self.by_kind["session"]

    def add(self, request: SandboxRequest, api: str) -> None:
        """Count a *request* to that *api* as arrived and in flight."""
        self.total += 1
        self.by_api[api] += 1
        self.by_kind[request.kind or "other"] += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if request.kind == "messages":
            self.messages_by_session[request.session_id] += 1
        params = {name: value for name, value in request.query.items() if name != _SECRET}
        if request.session_id:
            params["sessionId"] = request.session_id
        if request.method != "GET":
            self.writes[request.method, request.path] += 1
            self.written.append((request.method, request.path, request.body))
        self.recent.append((request.kind or "other", params))

    def as_dict(self) -> dict[str, Any]:
        """All figures for JSON, without the recent requests."""
        return {
            "total": self.total,
            "by_kind": dict(self.by_kind),
            "by_api": dict(self.by_api),
            "writes": {f"{method} {path}": count for (method, path), count in self.writes.items()},
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "faults": dict(self.faults),
            "messages_by_session": dict(self.messages_by_session),
            "session_gets": self.session_gets,
            "connections": self.connections,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
        }
