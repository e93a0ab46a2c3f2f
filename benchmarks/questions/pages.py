"""How fast is an archive of 400,000 messages written as pages, and how fast do they open from a disk?

20,000 sessions of 20 messages in SQLite, as `searching` makes them, and one more of 100,000 messages. They
are written to pages; those are opened in Chromium: the overview, the list until it can be filtered, and the
long session. The list is filtered as if somebody typed, and words of all sorts are searched for.
"""

import asyncio
import random
import shutil
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.meter import peak_kib
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.questions.handing_on import use_all_cores
from benchmarks.questions.searching import EACH, fill, query, some
from navtalk_async.archive import Archive
from navtalk_async.formats import export
from navtalk_async.formats.html.pages import A_PAGE

if TYPE_CHECKING:
    from playwright.sync_api import Page

LONG = 100_000
SEARCHES = 60
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

TYPED = """(words) => words.map((word) => {
  const began = performance.now();
  document.forms[0].q.value = word;
  document.forms[0].dispatchEvent(new Event("input"));
  document.body.offsetHeight;
  return performance.now() - began;
})"""

READY = """(name) => new Promise((resolve) => {
  const look = () => {
    if (document.documentElement.dataset.ready?.startsWith(name)) resolve(performance.now());
    else setTimeout(look, 1);
  };
  look();
})"""

SEARCHED = """(words) => {
  const began = performance.now();
  delete document.documentElement.dataset.ready;
  document.forms[0].q.value = words;
  document.forms[0].requestSubmit();
  return new Promise((resolve) => {
    const look = () => {
      if (document.documentElement.dataset.ready) resolve(performance.now() - began);
      else setTimeout(look, 1);
    };
    look();
  });
}"""


async def written(folder: Path, sessions: int) -> Figures:
    """Make an archive and its pages; the figures of that."""
    async with Archive.open(folder / "archive.db") as archive:
        await archive.begin("default", api="navtalk", scope="{}")
        await fill(archive, range(sessions))
    async with Archive.open(folder / "archive.db", read_only=True) as archive:
        began = perf_counter()
        await export(archive, folder, formats="html")
        seconds = perf_counter() - began
        peak = peak_kib() / 1024
        began = perf_counter()
        (folder / "manifest.json").unlink()
        await export(archive, folder, formats="html", overwrite=True)
        again = perf_counter() - began
    size = sum(each.stat().st_size for each in folder.joinpath("html/data").iterdir())
    return {
        "messages": sessions * EACH / seconds,
        "again": sessions * EACH / again,
        "peak": peak,
        "data": size / (sessions * EACH),
    }


async def add_long(folder: Path, sessions: int) -> None:
    """Add a session of many messages to the archive and its pages."""
    async with Archive.open(folder / "archive.db") as archive:
        await archive.begin("default", api="navtalk", scope="{}")
        await fill(archive, [sessions], LONG)
        await export(archive, folder, formats="html", overwrite=True)


def opened(page: "Page", folder: Path) -> Figures:
    """The figures of a browser, in ms."""
    html = folder / "html"
    page.goto("about:blank")
    figures = {"overview": loading(page, html / "index.html")}
    page.goto(f"file://{html}/sessions.html")
    figures["list"] = page.evaluate(READY, "list")
    chance = random.Random(1)
    ids = [each.name[: chance.randint(1, 8)] for each in sorted(html.joinpath("s").iterdir())[:50]]
    figures["filter"] = p95(page.evaluate(TYPED, [*ids, "completed 2025", "2025-01-0", ""]))
    page.goto(f"file://{html}/search.html")
    page.evaluate(SEARCHED, some(chance, 1)[0])
    figures["search"] = p95([page.evaluate(SEARCHED, query(chance)) for _ in range(SEARCHES)])
    [name] = {each.name for each in html.joinpath("s").glob(f"*.{LONG // A_PAGE}.html")}
    figures["long"] = loading(page, html / "s" / name)
    return figures


def loading(page: "Page", path: Path) -> float:
    began = perf_counter()
    page.goto(f"file://{path}")
    return (perf_counter() - began) * 1000


def p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


def measured(job: Job) -> Figures:
    """The figures of an archive of so many messages."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - an extra

    use_all_cores()
    with TemporaryDirectory() as name:
        folder, sessions = Path(name), job.size // EACH
        figures = asyncio.run(written(folder, sessions))
        asyncio.run(add_long(folder, sessions))
        program = next(filter(None, map(shutil.which, BROWSERS)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            figures |= opened(browser.new_page(), folder)
            browser.close()
    return figures


BARS = {
    "overview": ("Milliseconds until the overview is there", 500),
    "list": ("Milliseconds until a list of 20,000 sessions can be filtered", 500),
    "filter": ("Milliseconds of a filter of 20,000 sessions, p95", 100),
    "search": ("Milliseconds of a search of 400,000 messages in a browser, p95", 300),
    "long": ("Milliseconds until a page of a session of 100,000 messages is there", 1_000),
    "peak": ("MiB at the peak of writing 400,000 messages as pages", 200),
}

QUESTION = Question(
    contenders={OURS: Contender(work=measured)},
    figures=(
        Figure(name="messages", unit="messages/s", better="more"),
        Figure(name="again", unit="messages/s where nothing is new", better="more"),
        Figure(name="peak", unit="MiB at the peak"),
        Figure(name="data", unit="bytes of list and index a message"),
        Figure(name="overview", unit="ms, overview"),
        Figure(name="list", unit="ms, list"),
        Figure(name="filter", unit="ms, filter, p95"),
        Figure(name="search", unit="ms, search, p95"),
        Figure(name="long", unit="ms, page of 100,000 messages"),
    ),
    bars=(
        Bar(
            says="Messages a second written as pages, sessions of 20 each",
            value=lambda of: of("messages", OURS),
            at_least=20_000,
        ),
        *(
            Bar(says=says, value=lambda of, name=name: of(name, OURS), at_most=most)
            for name, (says, most) in BARS.items()
        ),
    ),
    in_quick=False,
    size=400_000,
    quick_size=20_000,
)
