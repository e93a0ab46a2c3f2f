"""How many requests at once a server can use, learned from how it answers: judgement on values, no clock.

Three signs, each of another kind of server:
- *Refusals above what was proven.* Every request has a rank: how many were in flight as it left, itself
  included. A server with a cap refuses from one rank on, so a refusal at a rank that no answer has come from
  yet shows the cap, and the limit falls to just below it, at once. That rank is the ceiling, and is probed
  again: soon at first, then ever more rarely (as CUBIC does, RFC 9438).
- *Refusals below what was proven* contradict a cap. They may be random faults: then fewer requests at once do
  not make them rarer. So the limit goes down a few steps; if their share stays the same, it comes back, and
  that share becomes the usual one of this server.
- *Goodput.* Where latency rises under load, nothing is refused. The limit grows while good answers a second
  grow with it. Later, now and then, a somewhat higher or lower limit is tried, and kept if it is better.

And a sign of our own side: *the event loop runs late*. It has more to do than it can, so more at once only
delay all else that runs in it. Then the limit does not grow, and goes down to 32 at the lowest. The gate says
where that would harm more than it helps: while somebody waits for the answers, bulk alone makes way.

A client with too few calls to reach its limit learns nothing from that, in either direction.

This file is longer than most: one state machine, whose states share all of their numbers.
"""

import math
from collections.abc import Callable
from enum import Enum, auto

from navtalk_async.events import LATE_SECONDS

START = 16  # how many at once for a server that is not known yet
# How many are sent before the first answer where that many are expected: of a volley of hundreds, a server
# that is limited refuses nearly all. The others wait for a round trip or two.
ASKED_START = 128
# How many at once after a pause that the server named, next to which a few round trips are nothing.
AFTER_A_PAUSE = 8
GROWTH = 0.5  # what every good answer adds while the limit grows: half as many more with every round
LEAST_GAIN = 1.1  # the goodput of a round, times that of the one before, with which growing by half goes on
# A latency that rises by no more than this does not matter; our own work may cost as much.
SLACK_SECONDS = 0.010
ENOUGH_FOR_A_LATE_LOOP = 32  # no more are given up for it: they keep nearly any server busy
# The limits that are tried, times the present one. After one that was too high, the next higher one is only a
# little higher.
HIGHER, A_LITTLE_HIGHER, LOWER = 1.25, 1.1, 0.75
# The goodput, times that before, that makes a higher limit worth it, and a lower one no loss.
BETTER, AS_GOOD = 1.06, 0.98
# The most rounds between two trials; the number of them doubles with every trial that failed.
MOST_ROUNDS = 64
# The part of what was in flight with a refusal that is answered well where the server is full. One that
# counts by time refuses all that comes, and may have nothing else to answer by then.
SERVED = 0.7
# After a pause there is no trial for so many times as long: one that fails would bring another pause.
PAUSES_WORTH = 40
# The fewest outcomes by which a goodput or a share of refusals is judged; fewer do while the limit grows.
ROUND, GROWING_ROUND = 60, 24
# The good answers from a ceiling, before it refuses anything, that disprove it. One may be luck: the server
# had room again, and we did not know yet.
HITS = 4
URGENT = 8  # refusals, as many as good answers, that are not waited upon until a round ends
FAIR_SHARE = 0.02  # refusals among the outcomes that are let pass
# Where more than this is refused, it is not by chance. A server that refuses quickly refuses so often that
# even with fewer at once the share hardly falls, as long as there is one too many.
MOST_CHANCE = 0.5
STEP_DOWN = 0.93
STEPS = 4  # so many steps down without fewer refusals show that they do not come from being too many


class Limit:
    """How many requests at once: so many, reached from a slow start."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now: int = min(most, ASKED_START)
        self.proven: int = 0  # the highest rank that a good answer has come from, as far as that still holds
        # Seconds from sending to the end of the answer, lately; 0 where nothing is known.
        self.latency: float = 0.0
        # How late the event loop is at its worst, slowly forgotten; only who learns knows.
        self.lag: float = 0.0

    def __repr__(self) -> str:
        return f"<Limit {self.now} of {self.most}>"

    def expect(self, at_once: int) -> None:
        """So many at once are about to come; as long as nothing else is known, begin with them."""

    def answered(self, now: float, sent_at: float, rank: int, *, full: bool, is_typical: bool = True) -> None:
        """Count a good answer; *full* is whether the limit was in use, *is_typical* whether the time it took
        says anything of the others.
        """
        if is_typical:
            self.latency += 0.1 * (now - sent_at - self.latency)
        self.proven = max(self.proven, rank)
        if full and self.now < self.most:
            self.now += 1

    def refused(self, now: float, sent_at: float, rank: int) -> bool:  # noqa: ARG002 - for who learns
        """Count a refusal for overload; whether it contradicts a cap at any higher rank."""
        return rank <= self.proven

    def lagged(self, seconds: float, *, heed: bool = True) -> None:
        """Take note of how late the event loop is; *heed* is whether the limit may be the reason."""

    def paused(self, now: float, seconds: float, *, named: bool) -> None:  # noqa: ARG002 - for who learns
        """All calls pause for *seconds*; *named* is whether the server said how long."""
        if named:
            self.now = min(self.now, AFTER_A_PAUSE)


class State(Enum):
    """What the limit does, and so what the end of a round of answers means."""

    # Half as many more with every round; then HOLD, where more bring no more answers, or were refused.
    GROW = auto()
    HOLD = auto()  # it stays for some rounds; then TRY, or PROBE where there is a ceiling
    TRY = auto()  # a higher or lower limit; GROW again where a higher one is better, else HOLD the better one
    PROBE = auto()  # the ceiling; HOLD below it where it refuses, GROW beyond it where it does not


class LearningLimit(Limit):
    """As many as the server can use, up to *most*."""

    def __init__(self, most: int, on_round: Callable[[], None] = lambda: None) -> None:
        """*on_round* is called as each round ends, and measures how late the loop is; see `lagged`."""
        super().__init__(most)
        self._on_round = on_round
        self.now = min(most, START)
        self._state = State.GROW
        self._size = float(self.now)
        self._goal = 0  # the limit before a pause, which is come back to; 0 for none
        self._resumes_at = 0.0
        # The good answers, since a pause began, to what left before it: what a full server was full with.
        self._served = 0
        self._goodput = 0.0
        self._base = 0.0  # the lowest latency of a round, slowly forgotten
        self._was = 0  # the limit that was left for a trial
        self._ceiling: int = 0  # the lowest rank that was refused; 0 where none is known
        self._stride = 1  # by how much a disproved ceiling is raised
        self._above_good, self._above_refused = 0, 0.0  # outcomes from the ceiling or above
        self._wait = 1  # the rounds from one trial to the next
        self._rounds = 0
        self._downwards = False
        self._higher = HIGHER
        self._patient_until = 0.0
        self._cut_at = 0.0
        self._is_late = False
        self._contradicted = False  # whether the latest refusal was at a rank that was good before
        self._chance = _Chance()
        self._begin(0.0)
        self._fewest = 1  # the first answer alone: none later shows as well how fast an idle server is

    def __repr__(self) -> str:
        return f"<Limit {self.now} of {self.most} auto>"

    def expect(self, at_once: int) -> None:
        if self._state is State.GROW and not self._goodput and not self._goal:
            self._set(max(self.now, min(at_once, ASKED_START)))

    def answered(self, now: float, sent_at: float, rank: int, *, full: bool, is_typical: bool = True) -> None:
        if rank > self.proven and (not self._ceiling or rank < self._ceiling):
            self.proven = rank
        self._chance.good += 1
        self._answers += 1
        if is_typical:
            self._seconds += now - sent_at
            self._timed += 1
        if full:
            self._full += 1
            if self._state is State.GROW and not self._goal and not self._is_late:
                self._size = min(self._size + GROWTH, float(self.most))
                self.now = int(self._size)
        if self._goal:
            self._come_back(sent_at)
        elif self._ceiling and rank >= self._ceiling:
            self._above_good += 1
            if self._state is State.PROBE and self._above_good >= HITS:
                self._raise_ceiling()
        if sent_at >= self._began and self._answers >= self._fewest:
            self._end_round(now)

    def refused(self, now: float, sent_at: float, rank: int) -> bool:
        if rank <= self.proven or self._chance.is_usual:
            if sent_at > self._cut_at:
                self._chance.refused += 1
                if URGENT <= self._chance.refused >= self._chance.good:
                    self._weigh_refusals(now)
            self._contradicted = rank <= self.proven
            return self._contradicted
        if self._ceiling and rank >= self._ceiling:
            self._above_refused += 1
        if not self._ceiling or rank < self._ceiling or (rank == self._ceiling and sent_at > self._cut_at):
            self._found_ceiling(now, rank)
        return False

    def paused(self, now: float, seconds: float, *, named: bool) -> None:
        if not named and seconds <= 2 * self.latency:
            return
        self._patient_until = max(self._patient_until, now + PAUSES_WORTH * seconds)
        limit = max(self.now, self._goal)
        if self._contradicted and limit > 1:
            # At what price: here, it is not waited for a share of refusals to become known.
            limit = min(limit - 1, int(limit * STEP_DOWN))
            self._stay_at(limit)
            self._hold(now, limit, wait=self._wait)
        self._contradicted = False
        if now >= self._resumes_at:
            self._served = 0
        self._resumes_at = now + seconds
        self._goal = limit if limit > AFTER_A_PAUSE else 0
        self._set(min(limit, AFTER_A_PAUSE))
        self._begin(now + seconds, skip=True)

    def lagged(self, seconds: float, *, heed: bool = True) -> None:
        """Note that the event loop took so many *seconds* for all that was ready."""
        self.lag = max(seconds, 0.7 * self.lag)
        self._is_late = heed and self.lag >= LATE_SECONDS

    def _set(self, limit: int) -> None:
        self.now = max(1, min(self.most, limit))
        self._size = float(self.now)

    def _come_back(self, sent_at: float) -> None:
        if sent_at < self._resumes_at:
            self._served += 1
            return
        if SERVED * self._goal <= self._served < self._goal:
            self._goal = self._served
            self._stay_at(self._goal)
        self._served = 0
        if self.now < self._goal:
            self._set(self.now + 1)
        if self.now >= self._goal:
            self._goal = 0

    # Refusals ---------------------------------------------------------------------------------------------

    def _found_ceiling(self, now: float, rank: int) -> None:
        """Stay below *rank*; what is refused at once with it may lower it further."""
        on_trial = self._state is State.PROBE
        if on_trial:
            # Back to what was good, and not to what only this one refusal was above.
            rank = max(1 + self.proven, min(rank, self._ceiling - self._stride + 1))
        self._ceiling, self._above_good, self._above_refused = rank, 0, 1.0
        self._goal = min(self._goal, rank - 1)
        wait = min(MOST_ROUNDS, 2 * self._wait) if on_trial else self._wait
        self._hold(now, min(self.now, rank - 1), wait=wait)
        self._cut_at = now
        self._chance.good = self._chance.refused = 0

    def _stay_at(self, limit: int) -> None:
        """Take *limit* for the most that the server can use, until a trial shows another."""
        self.proven = min(self.proven, limit)
        # What still comes from above it left before, and speaks of another time.
        self._ceiling, self._above_good, self._above_refused = limit + 1, 0, math.inf

    def _probe(self, ceiling: int, stride: int = 1) -> None:
        """Try a *ceiling*, *stride* above the last one."""
        self._state, self._stride = State.PROBE, stride
        self._ceiling, self._above_good, self._above_refused = ceiling, 0, 0.0
        self._set(ceiling)

    def _raise_ceiling(self) -> None:
        stride = 2 * self._stride
        if self._ceiling < self.most and stride <= self.now:
            self._probe(self._ceiling + stride, stride)
        else:
            self._grow()

    def _grow(self) -> None:
        self._ceiling, self._above_good, self._above_refused = 0, 0, 0.0
        self._state, self._goodput, self._wait = State.GROW, 0.0, 1

    def _weigh_refusals(self, now: float) -> bool:
        """Take a step down, or back up, for refusals that no cap explains; whether one was taken."""
        before, step = self.now, self._chance.weighed(self.now)
        if step == before:
            return False
        if step > before:
            self._set(step)
            self._grow()
        else:
            self._stay_at(step)
            self._hold(now, step, wait=self._wait)
        self._cut_at = now
        return True

    # Rounds -----------------------------------------------------------------------------------------------

    def _begin(self, now: float, *, skip: bool = False) -> None:
        """Begin a round; *skip* one in which answers still come to what left under another limit."""
        fewest = max(GROWING_ROUND, self.now) if self._state is State.GROW else max(ROUND, 2 * self.now)
        # The fewest answers that end it; one of them is to what left since it began.
        self._began, self._fewest = now, 0 if skip else fewest
        self._answers = self._timed = self._full = 0
        self._seconds = 0.0

    def _end_round(self, now: float) -> None:
        seconds, answers, full, skipped = now - self._began, self._answers, self._full, not self._fewest
        if self._timed:
            self.latency = self._seconds / self._timed
        self._on_round()
        self._begin(now)
        if self._state is State.HOLD and self._above_good > max(HITS, 3 * self._above_refused):
            self._probe(self._ceiling)
            return
        if skipped or self._goal or seconds <= 0 or (self._chance.known and self._weigh_refusals(now)):
            return
        if self._late and self.now > ENOUGH_FOR_A_LATE_LOOP:
            # What it does at once is what there is at once: with less, the same is done in shorter turns.
            self._hold(now, max(ENOUGH_FOR_A_LATE_LOOP, int(self.now * LOWER)), wait=2)
        elif full >= 0.7 * answers:
            self._base = min(self.latency, 1.01 * self._base) if self._base else self.latency
            self._judge(now, answers / seconds)

    @property
    def _late(self) -> bool:
        return self._is_late and self.now >= ENOUGH_FOR_A_LATE_LOOP

    @property
    def _slow(self) -> bool:
        return self.latency > 1.3 * self._base + SLACK_SECONDS

    def _hold(self, now: float, limit: int, *, wait: int) -> None:
        self._set(limit)
        self._state, self._goodput = State.HOLD, 0.0
        self._wait, self._rounds = wait, 0
        self._begin(now, skip=True)

    def _judge(self, now: float, goodput: float) -> None:
        """Go on by the *goodput* of a round. PROBE waits for a request as high as the ceiling."""
        match self._state:
            case State.GROW:
                self._judge_grow(now, goodput)
            case State.HOLD:
                self._judge_hold(now, goodput)
            case State.TRY:
                self._judge_try(now, goodput)

    def _judge_grow(self, now: float, goodput: float) -> None:
        before, self._goodput = self._goodput, goodput
        if self.now >= self.most:
            self._hold(now, self.now, wait=1)
        elif goodput < LEAST_GAIN * before and self._slow:
            self._downwards = goodput < before
            self._hold(now, int(self.now / (1 + GROWTH)), wait=1)

    def _judge_hold(self, now: float, goodput: float) -> None:
        self._goodput = goodput
        self._rounds += 1
        if self._rounds < self._wait or now < self._patient_until:
            return
        lower = self.now > 1 and self._slow and self._downwards
        self._downwards = not self._downwards
        if lower:
            self._try(now, min(self.now - 1, int(self.now * LOWER)))
        elif self._late:
            return
        elif self._ceiling and self._ceiling <= self.most:
            self._probe(self._ceiling)
        elif not self._ceiling and self.now < self.most:
            self._try(now, max(self.now + 1, int(self.now * self._higher)))

    def _try(self, now: float, limit: int) -> None:
        self._state, self._was = State.TRY, self.now
        self._set(limit)
        self._begin(now, skip=True)

    def _judge_try(self, now: float, goodput: float) -> None:
        lower = self.now < self._was
        if goodput < (AS_GOOD if lower else BETTER) * self._goodput:
            if not lower:
                self._higher = HIGHER if self._higher < HIGHER else A_LITTLE_HIGHER
            self._hold(now, self._was, wait=min(MOST_ROUNDS, 2 * self._wait))
        elif lower and self._slow:
            self._goodput = goodput
            self._try(now, min(self.now - 1, int(self.now * LOWER)) or 1)
        elif lower or self._higher < HIGHER:
            self._hold(now, self.now, wait=1)
        else:
            self._state, self._goodput = State.GROW, 0.0
            self._begin(now)


class _Chance:
    """Whether refusals become rarer when there are fewer requests at once."""

    def __init__(self) -> None:
        self.good = self.refused = 0
        self._usual = FAIR_SHARE
        self._steps = 0
        self._limit = 0
        self._share = 0.0

    @property
    def is_usual(self) -> bool:
        """Whether this server is known to refuse whatever it is asked."""
        return self._usual > FAIR_SHARE

    @property
    def known(self) -> bool:
        return self.good + self.refused >= ROUND

    def weighed(self, limit: int) -> int:
        """The limit to go on with, where *limit* has brought the outcomes so far."""
        share = self.refused / (self.good + self.refused)
        self.good = self.refused = 0
        if share <= self._usual:
            self._steps = 0
            return limit
        if not self._steps:
            self._limit, self._share = limit, share
        if self._steps >= STEPS and 0.7 * self._share < share < MOST_CHANCE:
            self._steps, self._usual = 0, 1.5 * share
            return self._limit
        self._steps += 1
        return max(1, min(limit - 1, math.ceil(limit * (0.7 if share > 0.25 else STEP_DOWN))))
