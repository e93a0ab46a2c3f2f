"""Over real sockets: a change is sent once, and its error says whether it may have been made."""

from contextlib import asynccontextmanager

import pytest
from changes import AFTER_A_CHANGE

from navtalk_async import KodeyClient, LexiconClient, Retry, Role
from navtalk_async.errors import RateLimited
from navtalk_async.sandbox import Faults, Sandbox, World

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
CLIENTS = {"kodey": KodeyClient, "lexicon": LexiconClient}
WRITES = {
    "kodey create": lambda kodey, _: kodey.chats.create(agent_id="a", user_id="zoe"),
    "kodey delete": lambda kodey, chat: kodey.chats.delete(chat),
    "kodey send": lambda kodey, chat: kodey.messages.create(chat, "Once", Role.USER),
    "lexicon create": lambda lexicon, _: lexicon.chats.create(user_id="zoe"),
    "lexicon delete": lambda lexicon, chat: lexicon.chats.delete(chat),
}
each_write = pytest.mark.parametrize("write", WRITES)


@asynccontextmanager
async def writing(write, **options):
    """A sandbox, and a call that makes the change on a connection that was used before."""
    name = write.partition(" ")[0]
    async with Sandbox(World(5), **options) as box:
        async with CLIENTS[name]("sk_live_1", base_url=box.url_of(name), retry=QUICK) as client:
            chat = box.world.sessions[0]["id"]
            await client.chats.get(chat)
            yield box, lambda: WRITES[write](client, chat)


@each_write
@pytest.mark.parametrize(("fault", "kind"), AFTER_A_CHANGE.items())
async def test_a_change_is_asked_for_once_and_the_error_says_that_it_may_have_happened(write, fault, kind):
    async with writing(write) as (box, change):
        box.fail_next(fault)
        if (write, fault) == ("kodey delete", "truncated"):
            # Nothing is read out of its answer, so nothing can be wrong with it.
            await change()
        else:
            with pytest.raises(kind, match="may have been made") as caught:
                await change()
            assert (caught.value.may_have_happened, caught.value.attempts) == (True, 1)
        assert box.counts.writes.total() == 1


@each_write
async def test_a_change_that_was_refused_did_not_happen(write):
    async with writing(write, faults=Faults(retry_after=60)) as (box, change):
        box.fail_next("429")
        with pytest.raises(RateLimited) as caught:
            await change()
        assert not caught.value.may_have_happened
        assert (caught.value.retry_after, box.counts.writes.total()) == (60, 1)
