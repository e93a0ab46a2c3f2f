"""The sandbox's APIs without a server: a request in, the JSON of the answer out."""

import json
from datetime import UTC, datetime

from navtalk_async.sandbox import Answers, SandboxRequest
from navtalk_async.sandbox._server import apis

NOW = datetime(2026, 4, 22, 12, 34, 41, tzinfo=UTC)
KEY_HEADERS = {"x-api-key": "k", "X-API-Key": "k", "Authorization": "Bearer k"}


class OfflineApi:
    """The API of that *name*, which answers from a *world* that every key opens."""

    rate = keys = None

    def __init__(self, name, world, answers=None):
        self.api, self.world, self.answers = apis()[name], world, answers or Answers()

    def now(self):
        return NOW

    def ask(self, path="", fault=None, *, method="GET", **query):
        """The JSON for *path*, which is below the API's prefix."""
        query = {"apikey": "k", **query} if self.api.name == "navtalk" else query
        request = SandboxRequest(method, self.api.prefix + path, query, headers=KEY_HEADERS, fault=fault)
        self.api.find_route(request)
        return json.loads(self.api.answer(request, self).body)
