"""The README's receivers of webhooks: what a stranger posts is a hint, whatever it says."""

import aiohttp
import pytest
from readme import RECEIVERS
from serving import on_aiohttp, on_uvicorn

from navtalk_async.archive import Archive
from navtalk_async.sandbox import Sandbox, World

NO_IDS = [b"", b"{}", b"[]", b"null", b'"x"', b"\xff", b'{"sessionId": null}', b'{"sessionId": "../x"}']


@pytest.mark.parametrize(("name", "serving"), [("on_fastapi", on_uvicorn), ("on_aiohttp", on_aiohttp)])
async def test_a_receiver_pokes_the_worker(name, serving, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with Sandbox(World(5, messages=1)) as box:
        monkeypatch.setenv("NAVTALK_API_KEY", "k")
        monkeypatch.setenv("NAVTALK_BASE_URL", box.navtalk_url)
        module = {"__name__": name}
        exec(compile(RECEIVERS[name], name, "exec"), module)
        async with serving(module["app"]) as port, aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port}/webhook"
            # The first round has come to its end when it has asked for all messages.
            while len(box.counts.messages_by_session) < 5:
                await box.arrived(box.counts.total + 1)
            for body in NO_IDS:
                async with http.post(url, data=body) as answer:
                    assert answer.status == 400
                    assert "names no session" in await answer.text()
            new = box.world.add_session()["id"]
            async with http.post(
                url, json={"sessionId": new, "status": "what is said is not read"}
            ) as answer:
                assert answer.status == 202
            while not box.counts.messages_by_session[new]:
                await box.arrived(box.counts.total + 1)
    async with Archive.open("chats/archive.db", read_only=True) as archive:
        assert (await archive.transcript(new)).session.status != "what is said is not read"
