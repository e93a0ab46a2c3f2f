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

A client with too few calls to reach its limit learns nothing from that, in either direction.

This file is longer than most: one state machine, whose states share all of their numbers.
"""

import math
from enum import Enum, auto
from typing import ClassVar

START = 16
"""How many at once for a server that is not known yet."""

ASKED_START = 128
"""How many are sent before the first answer where that many are expected: of a volley of hundreds, a
server that is limited refuses nearly all. The others wait for a round trip or two."""

AFTER_A_PAUSE = 8
"""How many at once after a pause that the server named, next to which a few round trips are nothing."""

GROWTH = 0.5
"""What every good answer adds while the limit grows: half as many more with every round."""

LEAST_GAIN = 1.1
"""The goodput of a round, times that of the one before, with which growing by half goes on."""

SLACK_SECONDS = 0.010
"""A latency that rises by no more than this does not matter; our own work may cost as much."""

HIGHER, A_LITTLE_HIGHER, LOWER = 1.25, 1.1, 0.75
"""The limits that are tried, times the present one. After one that was too high, the next higher one
is only a little higher."""

BETTER, AS_GOOD = 1.06, 0.98
"""The goodput, times that before, that makes a higher limit worth it, and a lower one no loss."""

MOST_ROUNDS = 64
"""The most rounds between two trials; the number of them doubles with every trial that failed."""

SERVED = 0.7
"""The part of what was in flight with a refusal that is answered well where the server is full. One that
counts by time refuses all that comes, and may have nothing else to answer by then."""

PAUSES_WORTH = 40
"""After a pause there is no trial for so many times as long: one that fails would bring another pause."""

ROUND, GROWING_ROUND = 60, 24
"""The fewest outcomes by which a goodput or a share of refusals is judged; fewer do while the limit grows."""

HITS = 4
"""The good answers from a ceiling, before it refuses anything, that disprove it. One may be luck: the server
had room again, and we did not know yet."""

URGENT = 8
"""Refusals, as many as good answers, that are not waited upon until a round ends."""

FAIR_SHARE = 0.02
"""Refusals among the outcomes that are let pass."""

MOST_CHANCE = 0.5
"""Where more than this is refused, it is not by chance. A server that refuses quickly refuses so often that
even with fewer at once the share hardly falls, as long as there is one too many."""

STEP_DOWN = 0.93

STEPS = 4
"""So many steps down without fewer refusals show that they do not come from being too many."""


class Limit:
    """How many requests at once: so many, reached from a slow start."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now: int = min(most, ASKED_START)
        self.proven: int = 0
        """The highest rank that a good answer has come from, as far as that still holds."""
        self.latency: float = 0.0
        """Seconds from sending to the end of the answer, lately; 0 where nothing is known."""

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

    def paused(self, now: float, seconds: float, *, named: bool) -> None:  # noqa: ARG002 - for who learns
        """All calls pause for *seconds*; *named* is whether the server said how long."""
        if named:
            self.now = min(self.now, AFTER_A_PAUSE)


class State(Enum):
    """What the limit does, and so what the end of a round of answers means."""

    GROW = auto()
    """Half as many more with every round; then HOLD, where more bring no more answers, or were refused."""
    HOLD = auto()
    """It stays for some rounds; then TRY, or PROBE where there is a ceiling."""
    TRY = auto()
    """A higher or lower limit; GROW again where a higher one is better, else HOLD the better one."""
    PROBE = auto()
    """The ceiling; HOLD below it where it refuses, GROW beyond it where it does not."""


class LearningLimit(Limit):
    """As many as the server can use, up to *most*."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.now = min(most, START)
        self._state = State.GROW
        self._size = float(self.now)
        self._goal = 0
        """The limit before a pause, which is come back to; 0 for none."""
        self._resumes_at = 0.0
        self._served = 0
        """The good answers, since a pause began, to what left before it: what a full server was full with."""
        self._round = _Round()
        self._skip = False
        """Whether the present round still has answers to what left under another limit."""
        self._goodput = 0.0
        self._base = 0.0
        """The lowest latency of a round, slowly forgotten."""
        self._was = 0
        """The limit that was left for a trial."""
        self._ceiling = 0
        self._stride = 1
        """By how much a disproved ceiling is raised."""
        self._above_good, self._above_refused = 0, 0.0
        self._wait = 1
        self._rounds = 0
        self._downwards = False
        self._higher = HIGHER
        self._patient_until = 0.0
        self._cut_at = 0.0
        self._contradicted = False
        """Whether the latest refusal was at a rank that was good before."""
        self._chance = _Chance()

    def __repr__(self) -> str:
        return f"<Limit {self.now} of {self.most} auto>"

    def expect(self, at_once: int) -> None:
        if self._state is State.GROW and not self._goodput and not self._goal:
            self._set(max(self.now, min(at_once, ASKED_START)))

    def answered(self, now: float, sent_at: float, rank: int, *, full: bool, is_typical: bool = True) -> None:
        if rank > self.proven and (not self._ceiling or rank < self._ceiling):
            self.proven = rank
        self._chance.good += 1
        current = self._round
        current.answers += 1
        if is_typical:
            current.latencies += now - sent_at
        else:
            current.untimed += 1
        if full:
            current.full += 1
            if self._state is State.GROW and not self._goal:
                self._size = min(self._size + GROWTH, float(self.most))
                self.now = int(self._size)
        if self._goal:
            self._come_back(sent_at)
        elif self._ceiling and rank >= self._ceiling:
            self._above_good += 1
            if self._state is State.PROBE and self._above_good >= HITS:
                self._raise_ceiling()
        if sent_at >= current.began and current.answers >= current.least:
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
            self._hold(now, wait=self._wait)
        self._contradicted = False
        if now >= self._resumes_at:
            self._served = 0
        self._resumes_at = now + seconds
        self._goal = limit if limit > AFTER_A_PAUSE else 0
        self._set(min(limit, AFTER_A_PAUSE))
        self._begin(now + seconds, skip=True)

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

    def _grow(self) -> None:
        self._ceiling = 0
        self._state, self._goodput, self._wait = State.GROW, 0.0, 1

    def _found_ceiling(self, now: float, rank: int) -> None:
        """Stay below *rank*; what is refused at once with it may lower it further."""
        on_trial = self._state is State.PROBE
        if on_trial:
            # Back to what was good, and not to what only this one refusal was above.
            rank = max(1 + self.proven, min(rank, self._ceiling - self._stride + 1))
        self._ceiling = rank
        self._goal = min(self._goal, rank - 1)
        self._set(min(self.now, rank - 1))
        self._hold(now, wait=min(MOST_ROUNDS, 2 * self._wait) if on_trial else self._wait)
        self._cut_at = now
        self._above_good, self._above_refused = 0, 1.0
        self._chance.forget()

    def _stay_at(self, limit: int) -> None:
        """Take *limit* for the most that the server can use, until a trial shows another."""
        self.proven = min(self.proven, limit)
        self._ceiling = limit + 1
        # What still comes from above it left before, and speaks of another time.
        self._above_good, self._above_refused = 0, math.inf

    def _probe(self) -> None:
        self._state, self._stride = State.PROBE, 1
        self._above_good, self._above_refused = 0, 0.0
        self._set(self._ceiling)

    def _raise_ceiling(self) -> None:
        self._above_good, self._above_refused = 0, 0.0
        if self._ceiling >= self.most or 2 * self._stride > self.now:
            self._grow()
            return
        self._stride *= 2
        self._ceiling += self._stride
        self._set(self._ceiling)

    # Rounds -----------------------------------------------------------------------------------------------

    def _begin(self, now: float, *, skip: bool = False) -> None:
        self._skip = skip
        least = max(GROWING_ROUND, self.now) if self._state is State.GROW else max(ROUND, 2 * self.now)
        self._round = _Round(began=now, least=0 if skip else least)

    def _end_round(self, now: float) -> None:
        done, skipped = self._round, self._skip
        if done.answers > done.untimed:
            self.latency = done.latencies / (done.answers - done.untimed)
        self._begin(now)
        if self._state is State.HOLD and self._above_good > max(HITS, 3 * self._above_refused):
            self._probe()
            return
        if skipped or self._goal or now <= done.began:
            return
        if self._chance.known and self._weigh_refusals(now):
            return
        if done.full < 0.7 * done.answers:
            return
        self._base = min(self.latency, 1.01 * self._base) if self._base else self.latency
        goodput = done.answers / (now - done.began)
        if (judge := self._JUDGES.get(self._state)) is not None:
            judge(self, now, goodput)

    @property
    def _slow(self) -> bool:
        return self.latency > 1.3 * self._base + SLACK_SECONDS

    def _hold(self, now: float, *, wait: int) -> None:
        self._state = State.HOLD
        self._goodput = 0.0
        self._wait, self._rounds = wait, 0
        self._begin(now, skip=True)

    def _judge_grow(self, now: float, goodput: float) -> None:
        before, self._goodput = self._goodput, goodput
        if self.now >= self.most:
            self._hold(now, wait=1)
        elif goodput < LEAST_GAIN * before and self._slow:
            self._downwards = goodput < before
            self._set(int(self.now / (1 + GROWTH)))
            self._hold(now, wait=1)

    def _judge_hold(self, now: float, goodput: float) -> None:
        self._goodput = goodput
        self._rounds += 1
        if self._rounds < self._wait or now < self._patient_until:
            return
        lower = self.now > 1 and self._slow and self._downwards
        self._downwards = not self._downwards
        if lower:
            self._try(now, min(self.now - 1, int(self.now * LOWER)))
        elif self._ceiling and self._ceiling <= self.most:
            self._probe()
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
            self._set(self._was)
            self._hold(now, wait=min(MOST_ROUNDS, 2 * self._wait))
        elif lower and self._slow:
            self._goodput = goodput
            self._try(now, min(self.now - 1, int(self.now * LOWER)) or 1)
        elif lower or self._higher < HIGHER:
            self._hold(now, wait=1)
        else:
            self._state, self._goodput = State.GROW, 0.0
            self._begin(now)

    def _weigh_refusals(self, now: float) -> bool:
        """Take a step down, or back up, for refusals that no cap explains; whether one was taken."""
        step = self._chance.weighed(self.now)
        if step == self.now:
            return False
        if step > self.now:
            self._set(step)
            self._grow()
        else:
            self._set(step)
            self._stay_at(step)
            self._hold(now, wait=self._wait)
        self._cut_at = now
        return True

    _JUDGES: ClassVar = {State.GROW: _judge_grow, State.HOLD: _judge_hold, State.TRY: _judge_try}
    """What judges the goodput of a round. PROBE has none: it waits for a request as high as the ceiling."""


class _Round:
    """What came in from some moment on."""

    __slots__ = ("answers", "began", "full", "latencies", "least", "untimed")

    def __init__(self, began: float = 0.0, least: int = 0) -> None:
        self.began = began
        self.least = least
        """The fewest answers that end it; one of them is to what left since it began."""
        self.answers = 0
        self.full = 0
        """Answers from the highest rank there was: the limit was in use."""
        self.latencies = 0.0
        self.untimed = 0
        """Answers whose time is not among the latencies."""


class _Chance:
    """Whether refusals become rarer when there are fewer requests at once."""

    def __init__(self) -> None:
        self.good = self.refused = 0
        self._usual = FAIR_SHARE
        self._steps = 0
        self._limit = 0
        self._share = 0.0

    def forget(self) -> None:
        """Begin to count again."""
        self.good = self.refused = 0

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
        self.forget()
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
