"""Where calls are worked on: slots with a line before them, or one processor that all of them share.

Work is conserved. A station is never idle while somebody waits, and what a job is given sums up to its
work however often the speed changes on the way; nothing ends twice.

A job's due time is written on it, and the engine's call is stale unless it comes at that very time. So a change of
speed is a new due time and a new call; the old one finds that it means nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from healthlb.core.states import Code
from healthlb.simulation.engine.engine import Engine

# What has become of a job.
NEW, QUEUED, RUNNING, FAILING, GONE = range(5)
NEVER = -1
_OK = Code.OK


class Job:
    """One attempt as the server sees it. Subclasses add what the client side needs.

    Attributes:
        work: nanoseconds of service at speed 1; at least 0.
        finish: called with the job and the status when the server is done with it.
        state: what has become of it; the backend's.
        is_abandoned: whether its caller has given up while the server goes on with it.
        due, since, left, spent: the station's.
    """

    __slots__ = ("due", "finish", "is_abandoned", "left", "since", "spent", "state", "work")

    def __init__(self, work: int, finish: Callable[[Job, Code], object]) -> None:
        self.work = work
        self.finish = finish
        self.state = NEW
        self.is_abandoned = False
        self.due = NEVER
        self.since = 0
        self.left: float = 0.0
        self.spent = 0


class Station(Protocol):
    """Works on jobs.

    Attributes:
        inside: jobs that wait or are worked on, those of callers that have given up included.
        wasted_ns: slot-time that went into jobs whose callers had given up.
    """

    inside: int
    wasted_ns: int

    @property
    def running(self) -> int:
        """Jobs that are worked on."""

    @property
    def has_room(self) -> bool:
        """Whether a job that comes is worked on at once."""

    def enter(self, job: Job) -> None:
        """Take a job, for which there is room; its `finish` is called in the end. Not while it stands still."""

    def enter_soon(self, job: Job) -> None:
        """Take a job that waits behind one other at the most. Not where there is room, nor while it stands still."""

    def remove(self, job: Job) -> None:
        """Forget a job that waits or is worked on."""

    def set_speed(self, speed: float) -> None:
        """Work at `speed` from now on, 0 for not at all."""

    def clear(self) -> list[Job]:
        """Forget all of them, and return them, those worked on first."""

    def busy_ns(self) -> int:
        """Return the slot-time used until now."""


class Slots:
    """A number of slots, each with one job at a time, and a line before them.

    Args:
        engine: virtual time.
        slots: how many jobs are worked on at once; at least 1.
        newest_first: whether the one that came last is taken from the line (LIFO), not the first.
    """

    __slots__ = ("_at", "_busy", "_changed_at", "_engine", "_line", "_serving", "_slots", "_speed", "_take", "inside",
                 "running", "wasted_ns")  # fmt: skip

    def __init__(self, engine: Engine, slots: int, newest_first: bool = False) -> None:
        self._engine = engine
        self._slots = slots
        self._speed = 1.0
        self._line: deque[Job] = deque()
        self._take: Callable[[], Job] = self._line.pop if newest_first else self._line.popleft
        self._serving: dict[Job, None] = {}
        self._busy = 0
        self._changed_at = 0
        self.inside = 0
        self.running = 0
        self.wasted_ns = 0

    def enter(self, job: Job) -> None:
        """Take a job: into a free slot, or to the line."""
        self.inside += 1
        if self.running < self._slots:
            self._start(job)
        else:
            job.state = QUEUED
            self._line.append(job)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self.running < self._slots

    def enter_soon(self, job: Job) -> None:
        """Take a job into the line, behind the first one there."""
        self.inside += 1
        job.state = QUEUED
        self._line.insert(1, job)

    def _start(self, job: Job) -> None:
        now = self._engine.now
        self._busy += self.running * (now - self._changed_at)
        self._changed_at = now
        self.running += 1
        self._work_on(job, now)

    def _work_on(self, job: Job, now: int) -> None:
        self._serving[job] = None
        job.state = RUNNING
        job.since = now
        job.left = work = job.work
        speed = self._speed
        job.due = due = now + (work if speed == 1.0 else math.ceil(work / speed))
        engine = self._engine
        engine.sequence = sequence = engine.sequence + 1
        heappush(engine.heap, (due, sequence, self._done, (job,)))

    def _done(self, job: Job) -> None:
        now = self._engine.now
        if job.due != now:
            return
        self._leave(job, now)
        if job.is_abandoned:
            self.wasted_ns += job.spent + now - job.since
        else:
            job.finish(job, _OK)

    def _leave(self, job: Job, now: int) -> None:
        job.due = NEVER
        job.state = GONE
        self.inside -= 1
        del self._serving[job]
        line = self._line
        while line:
            following = self._take()
            if following.state == QUEUED:
                self._work_on(following, now)
                return
        self._busy += self.running * (now - self._changed_at)
        self._changed_at = now
        self.running -= 1

    def remove(self, job: Job) -> None:
        """Forget a job; the next in the line starts in its slot. Not while it stands still."""
        if job.state == QUEUED:
            job.state = GONE
            self.inside -= 1
            return
        now = self._engine.now
        self._leave(job, now)
        self.wasted_ns += job.spent + now - job.since

    def set_speed(self, speed: float) -> None:
        """Work at `speed` from now on; what is left of each running job is stretched."""
        now, old = self._engine.now, self._speed
        if speed == old:
            return
        self.busy_ns()
        self._speed = speed
        for job in self._serving:
            if old:
                job.left = max(0.0, job.left - (now - job.since) * old)
                job.spent += now - job.since
            job.since = now
            job.due = now + math.ceil(job.left / speed) if speed else NEVER
            if speed:
                self._engine.at(job.due, self._done, job)

    def clear(self) -> list[Job]:
        """Forget all of them, in the order they would have been worked on by a FIFO."""
        self.busy_ns()
        jobs = [*self._serving, *(job for job in self._line if job.state == QUEUED)]
        for job in jobs:
            job.due = NEVER
            job.state = GONE
        self._serving.clear()
        self._line.clear()
        self.inside = self.running = 0
        return jobs

    def busy_ns(self) -> int:
        """Return the slot-time used until now; a station that stands still uses none."""
        now = self._engine.now
        if self._speed:
            self._busy += self.running * (now - self._changed_at)
        self._changed_at = now
        return self._busy


class Sharing:
    """A processor that all jobs share evenly, none of them faster than alone (processor sharing).

    It keeps one clock of the service that each job present was given; a job is done when that clock has moved on by its
    work. So an arrival or an end costs O(log n), however many share.

    Args:
        engine: virtual time.
        slots: how many jobs run at full speed side by side; at least 1.
    """

    __slots__ = ("_attained", "_busy", "_changed_at", "_due", "_engine", "_heap", "_sequence", "_slot_time", "_slots",
                 "_speed", "inside", "wasted_ns")  # fmt: skip

    def __init__(self, engine: Engine, slots: int) -> None:
        self._engine = engine
        self._slots = slots
        self._speed = 1.0
        self._heap: list[tuple[float, int, Job]] = []
        self._sequence = 0
        self._attained = 0.0
        self._slot_time = 0.0
        self._busy = 0.0
        self._changed_at = 0
        self._due = NEVER
        self.inside = 0
        self.wasted_ns = 0

    @property
    def running(self) -> int:
        """All that are inside."""
        return self.inside

    @property
    def has_room(self) -> bool:
        """Always."""
        return True

    def enter_soon(self, job: Job) -> None:
        """Take a job; nobody waits here."""
        self.enter(job)

    def enter(self, job: Job) -> None:
        """Take a job; it runs at once, and all others the slower."""
        self._advance()
        self.inside += 1
        self._sequence += 1
        job.state = RUNNING
        job.left = self._slot_time
        heappush(self._heap, (self._attained + job.work, self._sequence, job))
        self._schedule()

    def _advance(self) -> None:
        now = self._engine.now
        passed = now - self._changed_at
        self._changed_at = now
        inside = self.inside
        if not inside or not self._speed or not passed:
            return
        slots = self._slots
        share = passed * slots / inside if inside > slots else float(passed)
        self._slot_time += share
        self._attained += share * self._speed
        self._busy += share * inside

    def _schedule(self) -> None:
        heap = self._heap
        while heap and heap[0][2].state != RUNNING:
            heappop(heap)
        if not heap or not self._speed:
            self._due = NEVER
            return
        left = max(0.0, heap[0][0] - self._attained) / self._speed
        if self.inside > self._slots:
            left = left * self.inside / self._slots
        due = self._engine.now + math.ceil(left)
        if due != self._due:
            self._due = due
            self._engine.at(due, self._done)

    def _done(self) -> None:
        if self._engine.now != self._due:
            return
        self._due = NEVER
        self._advance()
        target, _, job = heappop(self._heap)
        # Due times are whole: the clock is at most a nanosecond past, or behind by a rounding.
        self._attained = max(self._attained, target)
        self._leave(job)
        if job.is_abandoned:
            self.wasted_ns += round(self._slot_time - job.left)
        else:
            job.finish(job, _OK)

    def _leave(self, job: Job) -> None:
        job.state = GONE
        self.inside -= 1
        self._schedule()

    def remove(self, job: Job) -> None:
        """Forget a job; its share goes to the others."""
        self._advance()
        self.wasted_ns += round(self._slot_time - job.left)
        self._leave(job)

    def set_speed(self, speed: float) -> None:
        """Share `speed` from now on."""
        self._advance()
        self._speed = speed
        self._schedule()

    def clear(self) -> list[Job]:
        """Forget all of them, those with the least left first."""
        self._advance()
        jobs = [job for _, _, job in sorted(self._heap) if job.state == RUNNING]
        for job in jobs:
            job.state = GONE
        self._heap.clear()
        self.inside = 0
        self._due = NEVER
        return jobs

    def busy_ns(self) -> int:
        """Return the slot-time used until now."""
        self._advance()
        return round(self._busy)
