"""A year of changes, replayed day by day: after each run the store holds what the server had by then."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec
import pytest
from profiles import PROFILE

from navtalk_async import NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.errors import ConnectFailed, ServerError
from navtalk_async.ingest import OVERLAP, SETTLE, sync
from navtalk_async.sandbox import Faults, Sandbox, World

LOG = logging.getLogger(__name__)
DAYS = {"sqlite": 365, "postgres": 100} if PROFILE == "thorough" else {"sqlite": 100, "postgres": 60}
"""How much of the year is lived through, where the archive is in one or the other."""

LEEWAY = timedelta(seconds=5)
"""What the clocks of this test are apart: a date has no fractions."""

ONCE = Retry(attempts=1)


def written(moment):
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Table(dict):
    """Rows of a store by their key."""

    def against(self, before):
        """How many are new, and how many have changed."""
        new = sum(key not in before for key in self)
        return new, sum(key in before and before[key] != row for key, row in self.items())


@dataclass
class Picture:
    """All rows of a store, as they stand."""

    sessions: Table
    messages: Table
    sync: Table
    changes: int

    @classmethod
    async def of(cls, address):
        async with Archive.open(address) as store:
            [about] = await store.projects()
            sessions, messages = Table(), Table()
            async for some in store.transcript_batches("default"):
                for session, said, *_ in some:
                    sessions[session.id] = session
                    messages.update({row.id: row for row in said})
            rows = await store._rows("SELECT * FROM sync_sessions")
            sync = Table({tuple(row[:2]): tuple(row) for row in rows})
        return cls(sessions, messages, sync, about.changes)

    @property
    def there(self):
        return {key: row for key, row in self.sessions.items() if row.deleted_at is None}


@dataclass
class Year:
    """The world, its clock, and what happens as it goes on."""

    box: Sandbox
    address: Path | str
    now: datetime
    dice: Random = field(default_factory=lambda: Random(365))
    key: str = "first"
    watermark: datetime | None = None
    open: dict = field(default_factory=dict)
    """The sessions that go on, each with the moment at which it ends."""
    late: list = field(default_factory=list)
    """What will be said in sessions that have ended: (moment, session)."""
    unseen: set = field(default_factory=set)
    """What only a comparison of everything can show."""
    recent: list = field(default_factory=list)
    """What happened less than the settle delay ago: (moment, session)."""
    done: dict = field(default_factory=dict)
    sends_date: bool = True

    @property
    def world(self):
        return self.box.world

    def clock(self):
        return self.now if self.sends_date else None

    def note(self, what):
        self.done[what] = self.done.get(what, 0) + 1

    def touch(self, session_id):
        self.recent.append((self.now, session_id))

    def unsettled(self):
        """The sessions that something happened to a moment ago; of them, the store may know or not."""
        self.recent = [each for each in self.recent if each[0] > self.now - SETTLE - LEEWAY]
        return {session_id for _, session_id in self.recent}

    # What happens.

    def begin(self):
        lasts = self.dice.choice([timedelta(minutes=5), timedelta(hours=2), timedelta(hours=40)])
        row = self.world.add_session(start_time=written(self.now), status=0)
        self.open[row["id"]] = self.now + lasts
        self.note("begun")

    def say(self, session_id):
        self.world.add_message(session_id, f"at {written(self.now)}", created_at=written(self.now))
        self.touch(session_id)
        self.note("said")

    def end(self, session_id):
        del self.open[session_id]
        status = self.dice.choice([1, 1, 1, 2])
        self.world.change_session(session_id, status=status, endTime=written(self.now))
        self.touch(session_id)
        self.note("ended")
        if self.dice.random() < 0.5:
            self.late.append((self.now + timedelta(seconds=self.dice.randrange(5, 110)), session_id))

    def back_fill(self, age):
        start = written(self.now - age)
        row = self.world.add_session(start_time=start, end_time=start)
        self.world.add_message(row["id"], "filled in", created_at=start)
        self.touch(row["id"])
        if moment(start) <= self.listed_since():
            self.unseen.add(row["id"])
        self.note("filled in")

    def remove(self, session_id):
        row = self.world.session(session_id)
        self.world.remove_session(session_id)
        is_watched = session_id in self.open or session_id in self.unsettled()
        self.open.pop(session_id, None)
        self.late = [each for each in self.late if each[1] != session_id]
        if moment(row["startTime"]) <= self.listed_since() and not is_watched:
            self.unseen.add(session_id)
        self.note("removed")

    def correct(self, session_id):
        said = self.world.messages(session_id)
        if said:
            one = self.dice.choice(said)["id"]
            if self.dice.random() < 0.5:
                self.world.change_message(session_id, one, content=f"corrected at {written(self.now)}")
            else:
                self.world.remove_message(session_id, one)
            self.touch(session_id)
            self.note("corrected")

    def alter(self, session_id):
        """A session that has ended changes: its video is there."""
        row = self.world.session(session_id)
        self.world.change_session(session_id, videoUrl=f"https://example.org/{written(self.now)}")
        if moment(row["startTime"]) <= self.listed_since():
            self.unseen.add(session_id)
        self.touch(session_id)
        self.note("altered")

    def listed_since(self):
        """Before this, the next listing does not look: sessions that begin then may be missed."""
        return self.watermark - OVERLAP if self.watermark else datetime.min.replace(tzinfo=UTC)

    def hour(self):
        """What an hour brings, up to now."""
        dice = self.dice
        for session_id, ends in list(self.open.items()):
            if ends <= self.now:
                self.end(session_id)
            elif dice.random() < 0.7:
                self.say(session_id)
                if dice.random() < 0.2:
                    self.correct(session_id)
        if dice.random() < 0.04:
            self.begin()
        if dice.random() < 0.01:
            self.back_fill(timedelta(hours=dice.randrange(1, 20)))
        if dice.random() < 0.005:
            self.back_fill(timedelta(days=dice.randrange(3, 90)))
        self.meddle()

    def meddle(self):
        """What an hour may do to sessions, also to those that have ended."""
        dice = self.dice
        # The first one stays: a store of which nothing is left at the API cannot tell whose key it is.
        ended = [row["id"] for row in self.world.sessions[1:] if row["id"] not in self.open]
        if ended and dice.random() < 0.01:
            self.remove(dice.choice(ended[-4:] if dice.random() < 0.5 else ended))
        if ended and dice.random() < 0.01:
            self.alter(dice.choice(ended))
        if self.open and dice.random() < 0.005:
            self.remove(dice.choice(list(self.open)))

    def until(self, moment):
        """Let the time pass, and happen what does."""
        while self.now < moment:
            self.late.sort()
            following = min(moment, self.now.replace(minute=0, second=0) + timedelta(hours=1))
            while self.late and self.late[0][0] <= following:
                self.now, session_id = self.late.pop(0)
                self.say(session_id)
            self.now = following
            if following.minute == 0:
                self.hour()

    # Runs.

    async def run(self, **options):
        client = NavTalkClient(self.key, base_url=self.box.navtalk_url, retry=ONCE, concurrency=4)
        async with client as nt, Archive.open(self.address) as store:
            # Under one name, since it is another address that cannot be reached.
            report = await sync(nt, store, concurrency=4, server="the year's", **options)
            [about] = await store.projects()
        assert about.watermark is None or about.round is None
        self.watermark = None if about.watermark is None else moment(about.watermark.rstrip("Z"))
        return report

    async def synced(self, **options):
        """A run, and what must hold after it."""
        before = await Picture.of(self.address) if self.watermark else None
        self.box.counts.reset()
        report = await self.run(**options)
        after = await Picture.of(self.address)
        if options.get("reconcile"):
            self.unseen.clear()
        self.assert_true(after)
        if before is not None:
            assert_reported(report, before, after)
            assert_nothing_needless(before, after)
        return report, before, after

    def assert_true(self, picture):
        """The store holds what the world had when the settle delay began, and what came since or not."""
        open_to_doubt = self.unseen | self.unsettled()
        ours = picture.there
        for row in self.world.sessions:
            if row["id"] in open_to_doubt:
                continue
            assert row["id"] in ours, (self.now, row)
            assert msgspec.json.decode(ours[row["id"]].raw) == row, self.now
        theirs = {row["id"] for row in self.world.sessions}
        assert not ours.keys() - theirs - open_to_doubt, self.now
        said = {}
        for row in picture.messages.values():
            said.setdefault(row.session_id, []).append((row.position, msgspec.json.decode(row.raw)))
        for session_id in theirs - open_to_doubt:
            kept = [row for _, row in sorted(said.get(session_id, []), key=lambda each: each[0])]
            assert kept == self.world.messages(session_id), (self.now, session_id)

    async def assert_quiet(self):
        """A run at once after another asks little, and writes nothing."""
        # Without anything under way: what has just changed is still to be read once more.
        while self.late or self.unsettled():
            self.now = max([self.now + SETTLE, *(when for when, _ in self.late)])
            late, self.late = self.late, []
            for _, session_id in late:
                self.say(session_id)
            await self.synced()
        self.now += SETTLE + LEEWAY
        await self.synced()
        self.now += LEEWAY
        report, before, after = await self.synced()
        assert before == after
        assert not any((report.inserted, report.changed, report.vanished, report.messages_inserted))
        counts = self.box.counts
        overlap = sum(moment(row["startTime"]) >= self.listed_since() for row in self.world.sessions)
        listed = sum(
            moment(self.world.session(each)["startTime"]) > self.listed_since() for each in self.open
        )
        watched = sum(counts.messages_by_session.values()) + len(self.open) - listed
        assert counts.messages_by_session.keys() == self.open.keys()
        assert counts.total <= 3 + watched + -(-overlap // 100)
        self.note("quiet runs")


def assert_reported(report, before, after):
    """What a run reports is what became of the store."""
    there = before.there
    new = [key for key in after.there if key not in there]
    changed = [key for key, row in after.there.items() if key in there and row.raw != there[key].raw]
    gone = [key for key in there if key not in after.there]
    assert (report.inserted, report.changed, report.vanished) == (len(new), len(changed), len(gone))
    inserted, altered = after.messages.against(before.messages)
    assert (report.messages_inserted, report.messages_changed) == (inserted, altered)
    assert report.messages_vanished == len(before.messages.keys() - after.messages.keys())


def assert_nothing_needless(before, after):
    """A row is touched only where its content changed."""
    for key, row in after.sessions.items():
        old = before.sessions.get(key)
        if old is not None and old.raw == row.raw and old.deleted_at == row.deleted_at:
            assert row == old


async def away_for_an_hour(year):
    """The API cannot be reached, or is ill; what happens meanwhile is found later."""
    kept = await Picture.of(year.address)
    year.box.faults = Faults(http_500=1.0)
    with pytest.raises(ServerError):
        await year.run()
    year.box.faults = Faults()
    port, year.box.port = year.box.port, 1
    with pytest.raises(ConnectFailed):
        await year.run()
    year.box.port = port
    assert (await Picture.of(year.address)).sessions == kept.sessions
    year.until(year.now + timedelta(hours=1))
    year.note("hours away")


async def a_new_key(year):
    world = year.world
    year.key = f"{year.key}-again"
    year.box.keys = {year.key: world}
    year.note("keys rotated")


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_year_of_changes_is_followed_whatever_happens(address):
    # The middle of this year is now; before and after it, our clock and the server's are months apart.
    days = DAYS["sqlite" if isinstance(address, Path) else "postgres"]
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=days // 2)
    async with Sandbox(World(0)) as box:
        year = Year(box, address, start)
        box.clock = year.clock
        box.keys = {year.key: box.world}
        box.world.add_session(start_time=written(start))
        for day in range(2 * days):
            # Sometimes twice a day, sometimes not for two; sometimes a moment after something ended.
            hours = year.dice.choice([6, 12, 24, 24, 36])
            if (year.now - start).days >= days:
                break
            year.until(year.now + timedelta(hours=hours, seconds=year.dice.choice([0, 0, 30])))
            # Without a date our own clock holds; it may be behind the server's by days.
            year.sends_date = not (timedelta(0) < year.now - datetime.now(UTC) < timedelta(days=5))
            year.note("runs")
            if not year.sends_date:
                year.note("runs without a date")
            await year.synced(reconcile=day % 30 == 29)
            if day % 40 == 20:
                await away_for_an_hour(year)
            if day == 50:
                await a_new_key(year)
            if day % 25 == 24 and year.sends_date:
                await year.assert_quiet()
        assert (year.now - start).days >= days
        LOG.info("%s", year.done)
        happened = {"begun", "said", "ended", "filled in", "removed", "corrected", "altered", "hours away"}
        assert happened | {"keys rotated", "quiet runs", "runs without a date"} <= year.done.keys()
