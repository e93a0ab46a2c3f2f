"""A plugin of pytest: the sandbox and its clients as fixtures.

It comes with the package, and imports nothing of it until a fixture is used. The sandbox serves from a thread
of its own and the clients work in any event loop: the fixtures are the same for every plugin that runs
asynchronous tests, for every scope of loops, and for tests without a loop.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

try:
    import pytest
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "navtalk_async.testing needs pytest, which is not installed: pip install pytest", name="pytest"
    ) from None

if TYPE_CHECKING:
    from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient, NavTalkClient
    from navtalk_async.sandbox import Sandbox

__all__ = [
    "kodey_client",
    "lexicon_client",
    "llamacloud_client",
    "navtalk_client",
    "navtalk_environment",
    "navtalk_sandbox",
]

KEY = "sandbox-key"
SESSIONS = 60


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for line in (
        "navtalk_sandbox(**options): options of Sandbox for the fixture of that name, as faults='500=5%'",
        "navtalk_client(**options): options of the fixtures' clients, as timeout=5.0",
    ):
        config.addinivalue_line("markers", line)


@pytest.fixture
def navtalk_sandbox(request: pytest.FixtureRequest) -> "Iterator[Sandbox]":
    """A running local server of all APIs, with 60 sessions; its world, faults and answers may be replaced.

    `@pytest.mark.navtalk_sandbox(sessions=500, faults="500=5%")` gives it other options, those of `Sandbox`:
    `faults` may be a text for `Faults.parse`, `answers` a dict, and `world` a function that makes one.
    """
    from navtalk_async.sandbox import Sandbox  # noqa: PLC0415 - as all imports here, see above

    try:
        sandbox = Sandbox(**_sandbox_options(_marked(request, "navtalk_sandbox")))
    except (TypeError, ValueError) as refusal:
        raise pytest.UsageError(f"@pytest.mark.navtalk_sandbox: {refusal}") from None
    with sandbox:
        yield sandbox


@pytest.fixture
def navtalk_client(request: pytest.FixtureRequest, navtalk_sandbox: "Sandbox") -> "Iterator[NavTalkClient]":
    """A client of NavTalk in `navtalk_sandbox`, which waits for nothing but answers: its clock jumps to the
    end of each pause, so that a deadline passes all the same.

    `@pytest.mark.navtalk_client(timeout=5.0)` gives it, and those of the other APIs, other options.
    """
    yield from _client("NavTalkClient", request, navtalk_sandbox.navtalk_url)


@pytest.fixture
def kodey_client(request: pytest.FixtureRequest, navtalk_sandbox: "Sandbox") -> "Iterator[KodeyClient]":
    """As `navtalk_client`, of Kodey.ai."""
    yield from _client("KodeyClient", request, navtalk_sandbox.kodey_url)


@pytest.fixture
def lexicon_client(request: pytest.FixtureRequest, navtalk_sandbox: "Sandbox") -> "Iterator[LexiconClient]":
    """As `navtalk_client`, of Lexicon; its users are `user-0` to `user-3`."""
    yield from _client("LexiconClient", request, navtalk_sandbox.lexicon_url)


@pytest.fixture
def llamacloud_client(
    request: pytest.FixtureRequest, navtalk_sandbox: "Sandbox"
) -> "Iterator[LlamaCloudClient]":
    """As `navtalk_client`, of LlamaCloud."""
    yield from _client("LlamaCloudClient", request, navtalk_sandbox.llamacloud_url)


@pytest.fixture
def navtalk_environment(navtalk_sandbox: "Sandbox", monkeypatch: pytest.MonkeyPatch) -> "Sandbox":
    """`navtalk_sandbox`, with its addresses and a key in the environment variables of all APIs: clients that
    the program under test makes by itself, and commands that it starts, ask the sandbox.
    """
    from navtalk_async.dialects import dialect_of  # noqa: PLC0415

    for name, url in navtalk_sandbox.urls.items():
        dialect = dialect_of(name)
        monkeypatch.setenv(dialect.key_variable, KEY)
        monkeypatch.setenv(dialect.base_url_variable, url)
    return navtalk_sandbox


def _marked(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    """The options of all markers of this *name*, those of the test itself before those of its module."""
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers(name):
        if marker.args:
            raise pytest.UsageError(
                f"@pytest.mark.{name} takes options by name only, not {marker.args[0]!r}."
            )
        options = {**marker.kwargs, **options}
    return options


def _sandbox_options(options: dict[str, Any]) -> dict[str, Any]:
    from navtalk_async.sandbox import Answers, Faults  # noqa: PLC0415

    if callable(world := options.get("world")):
        options["world"] = world()
    if isinstance(faults := options.get("faults"), str):
        options["faults"] = Faults.parse(faults)
    if isinstance(answers := options.get("answers"), dict):
        options["answers"] = Answers(**cast("dict[str, Any]", answers))
    return {"sessions": SESSIONS, **options}


def _client(name: str, request: pytest.FixtureRequest, base_url: str) -> Iterator[Any]:
    import asyncio  # noqa: PLC0415
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    import navtalk_async  # noqa: PLC0415
    from navtalk_async.wire.clock import JumpingClock  # noqa: PLC0415

    options = _marked(request, "navtalk_client")
    try:
        client = getattr(navtalk_async, name)(KEY, base_url=base_url, **options)
    except (TypeError, ValueError) as refusal:
        raise pytest.UsageError(f"@pytest.mark.navtalk_client: {refusal}") from None
    client._wire.new_clock = JumpingClock  # noqa: SLF001 - only tests replace it
    yield client
    # In a loop of its own, in a thread: the loop of the test has ended, or belongs to other tests too.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, client.aclose()).result()
