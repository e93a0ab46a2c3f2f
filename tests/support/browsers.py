"""Browsers of this machine, without windows: Chromium by Playwright, Firefox by WebDriver BiDi.

Both note whatever a page does that ours must not do.
"""

import asyncio
import json
import os
import re
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import aiohttp
from playwright.async_api import async_playwright
from programs import program

WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""

LISTENING = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")


class Noise:
    """What pages did that ours must not do: requests, dialogs, errors, and what their policy refused."""

    def __init__(self):
        self.seen = []

    def request(self, url, own):
        # Firefox draws the buttons of a video with a font that it holds itself.
        if not url.startswith((own, "data:font/")):
            self.seen.append(f"request {url}")

    def add(self, what):
        self.seen.append(what)


@asynccontextmanager
async def chromium():
    """A browser of Playwright's."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program("chromium", "chromium-browser"), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()


class ChromiumPage:
    """A page of Chromium as `FirefoxPage` is one, with Playwright's own page beside it."""

    def __init__(self, page, own):
        self.page, self.noise = page, Noise()
        page.on("request", lambda request: self.noise.request(request.url, own))
        page.on("dialog", self._dismiss)
        page.on("pageerror", lambda error: self.noise.add(f"error {error}"))
        page.on("console", self._console)
        page.on("popup", lambda popup: self.noise.add(f"window {popup.url}"))
        page.on("download", lambda download: self.noise.add(f"download {download.url}"))

    async def _dismiss(self, dialog):
        self.noise.add(f"dialog {dialog.message}")
        await dialog.dismiss()

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.noise.add(f"console {message.text}")

    async def open(self, address):
        await self.page.goto(address)
        self.noise.seen += await self.run("violations")

    async def run(self, script) -> Any:
        return await self.page.evaluate(script)


@asynccontextmanager
async def chromium_page(browser, own="file:", **how):
    """A page that may load what begins with *own*; *how* is handed to Playwright."""
    context = await browser.new_context(**how)
    await context.add_init_script(WATCH)
    try:
        yield ChromiumPage(await context.new_page(), own)
    finally:
        await context.close()


class Bidi:
    """A connection that speaks WebDriver BiDi."""

    def __init__(self, socket):
        self._socket, self._numbers = socket, count(1)
        self._waiting, self.handlers = {}, {}

    async def ask(self, method, **params):
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        return await self._waiting[number]

    async def listen(self):
        async for message in self._socket:
            told = message.json()
            answer = self._waiting.pop(told.get("id"), None)
            if told["type"] == "event":
                for handle in self.handlers.get(told["method"], ()):
                    handle(told["params"])
            elif answer is not None and told["type"] == "success":
                answer.set_result(told["result"])
            elif answer is not None:
                answer.set_exception(RuntimeError(f"{told['error']}: {told['message']}"))


@asynccontextmanager
async def firefox(profile):
    """A browser, as a connection; its *profile* is a folder that is empty."""
    process = await asyncio.create_subprocess_exec(
        program("firefox-esr", "firefox"),
        *("--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(profile)),
        env={**os.environ, "HOME": str(profile), "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        found = None
        while found is None:
            line = await process.stderr.readline()
            assert line, "Firefox ended before it listened."
            found = LISTENING.search(line)
        drain = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            # Firefox refuses a connection that names an origin.
            async with session.ws_connect(f"{found[1].decode()}/session", max_msg_size=0) as socket:
                browser = Bidi(socket)
                listening = asyncio.create_task(browser.listen())
                await browser.ask("session.new", capabilities={})
                events = ["network.beforeRequestSent", "log.entryAdded", "browsingContext"]
                await browser.ask("session.subscribe", events=events)
                await browser.ask("script.addPreloadScript", functionDeclaration=f"() => {{{WATCH}}}")
                yield browser
        await listening
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await drain


class FirefoxPage:
    """A page of Firefox."""

    def __init__(self, browser, context, own):
        self.noise, self._browser, self._context = Noise(), browser, context
        browser.handlers = {
            "network.beforeRequestSent": [lambda it: self.noise.request(it["request"]["url"], own)],
            "log.entryAdded": [self._log],
            "browsingContext.userPromptOpened": [lambda it: self.noise.add(f"dialog {it['message']}")],
            "browsingContext.contextCreated": [lambda it: self.noise.add(f"window {it['url']}")],
            "browsingContext.downloadWillBegin": [lambda it: self.noise.add(f"download {it['url']}")],
        }

    def _log(self, entry):
        if entry["level"] in ("error", "warn"):
            self.noise.add(f"console {entry['text']}")

    async def open(self, address):
        await self._browser.ask(
            "browsingContext.navigate", context=self._context, url=address, wait="complete"
        )
        self.noise.seen += await self.run("violations")

    async def run(self, script) -> Any:
        """The value of *script*, as far as it is JSON."""
        said = await self._browser.ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({script})) ?? 'null')()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert said["type"] == "success", said
        return json.loads(said["result"]["value"])


@asynccontextmanager
async def firefox_page(browser, own="file:"):
    """A page that may load what begins with *own*."""
    context = (await browser.ask("browsingContext.create", type="tab"))["context"]
    try:
        yield FirefoxPage(browser, context, own)
    finally:
        browser.handlers = {}
        await browser.ask("browsingContext.close", context=context)
