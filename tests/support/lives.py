"""Archives to which whatever can happen happens: sessions that come, change, go and come back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from feed_copies import copy_of
from hypothesis import strategies as st
from store_rows import begin, clock, everything, journal, message, session, wanted

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession, FetchResult

PROJECTS = ("default", "a {any} {0} '%s")


@dataclass
class Life:
    """An archive, and what an API has of its sessions; every act is one commit, or none."""

    store: Archive
    text: Callable[[str], str] = str
    """Of what is said, what is kept."""
    titles: dict = field(default_factory=dict)
    said: dict = field(default_factory=dict)
    gone: set = field(default_factory=set)
    minutes: count = field(default_factory=lambda: count(1))

    async def begin(self):
        for project in PROJECTS:
            await begin(self.store, project)

    def row(self, key):
        return session(key[1], title=f"title {self.titles.setdefault(key, 0)}")

    async def list(self, key, _):
        """It is listed as it is: nothing new, or it is new, or has come back."""
        self.gone.discard(key)
        await journal(self.store, self.row(key), project=key[0], minutes=next(self.minutes), quiet=True)

    async def retitle(self, key, dice):
        self.titles[key] = dice
        await self.list(key, dice)

    async def save(self, key, _):
        if key not in self.gone and await self.store.contains(key[0], [self.row(key).id]):
            rows = [message(number, text) for number, text in self.said.get(key, {}).items()]
            at = clock(next(self.minutes)).now
            await self.store.save_messages(key[0], [FetchResult(wanted(self.row(key)), rows, at=at)])

    async def say(self, key, dice):
        self.said.setdefault(key, {})[dice] = self.text(f"said {dice}")
        await self.save(key, dice)

    async def edit(self, key, dice):
        said = self.said.setdefault(key, {})
        for number in list(said)[: 1 + dice % 2]:
            said[number] = self.text(f"edited {next(self.minutes)}")
        await self.save(key, dice)

    async def unsay(self, key, dice):
        said = self.said.setdefault(key, {})
        for number in list(said)[dice:]:
            del said[number]
        await self.save(key, dice)

    async def move(self, key, dice):
        said = self.said.setdefault(key, {})
        self.said[key] = dict(reversed(said.items()))
        await self.save(key, dice)

    async def new(self, key, dice):
        await self.list(key, dice)
        await self.say(key, dice)

    async def fail(self, key, _):
        await self.store.record_failures(key[0], [FailedSession(self.row(key).id, "ServerError: 500", 1)])

    async def delete(self, key, _):
        self.gone.add(key)
        await self.store.mark_deleted(key[0], self.row(key).id)

    async def retry(self, key, _):
        await begin(self.store, key[0], retry_failed=True)

    async def refetch(self, key, _):
        if await self.store.contains(key[0], [self.row(key).id]):
            await self.store.refetch(key[0], [self.row(key).id])

    async def act(self, name, project, number, dice):
        await getattr(self, name)((PROJECTS[project], number), dice)

    async def finish(self):
        """Everything that is pending is fetched."""
        for project in PROJECTS:
            for key in [(project, number) for number in range(2)]:
                if self.row(key).id in await self.store.pending(project):
                    await self.list(key, 0)
                    await self.save(key, 0)

    async def copy(self):
        return copy_of([each for project in PROJECTS for each in await everything(self.store, project)])

    async def pending(self):
        return [(project, each) for project in PROJECTS for each in await self.store.pending(project)]


ACTS = (
    "list",
    "retitle",
    "save",
    "say",
    "edit",
    "unsay",
    "move",
    "new",
    "fail",
    "delete",
    "retry",
    "refetch",
)
often = ("new", "say", "edit", "unsay", "move")
few = st.sampled_from([0, 0, 0, 1])
acts = st.tuples(st.sampled_from((*often, *often, *ACTS)), few, few, st.integers(0, 3))
