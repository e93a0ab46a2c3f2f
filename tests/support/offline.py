"""The sandbox's APIs without a server: a request in, the JSON of the answer out."""

import json
from datetime import UTC, datetime

from navtalk_async.sandbox import Answers, ApiContext, SandboxRequest
from navtalk_async.sandbox._server import apis

NOW = datetime(2026, 4, 22, 12, 34, 41, tzinfo=UTC)
KEY_HEADERS = {"x-api-key": "k", "X-API-Key": "k", "Authorization": "Bearer k"}


class OfflineApi(ApiContext):
    """The API of that *name*, which answers from a *world* that every key opens."""

    def __init__(self, name, world, answers=None):
        super().__init__(world, answers or Answers(), clock=lambda: NOW)
        self.api = apis()[name]

    def ask(self, path="", fault=None, *, method="GET", **query):
        """The JSON for *path*, which is below the API's prefix."""
        query = {"apikey": "k", **query} if self.api.name == "navtalk" else query
        request = SandboxRequest(
            method, self.api.prefix + path, query, self, headers=KEY_HEADERS, fault=fault
        )
        self.api.find_route(request)
        return json.loads(self.api.answer(request).body)
