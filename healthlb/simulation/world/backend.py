"""A server as a queue: what it works on at once, what waits, what it refuses, and how it fails.

A job that was taken ends once, in one of four ways: `finish` is called with OK, or with an error; its
caller cancels it, and hears no more; or a crash takes it, and `crash` returns it. The wire, connections and health are
not known here.
"""

from __future__ import annotations

from collections.abc import Callable

from healthlb.config import check_count, check_number
from healthlb.core.states import Code
from healthlb.errors import ConfigError
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.engine.stations import FAILING, GONE, NEW, QUEUED, RUNNING, Job, Sharing, Slots, Station

DISCIPLINES = ("fifo", "lifo", "ps", "inf")
_UNLIMITED = 1 << 62
_WARM_UP_STEPS = 20


class Backend:
    """One server process.

    Args:
        engine: virtual time.
        name: of the backend.
        slots: how many jobs it works on at once; at least 1, and without a limit for "inf".
        discipline: "fifo"; "lifo" (the newest of those that wait is next); "ps" (all share the slots evenly); or "inf"
            (nobody waits).
        queue: how many jobs beyond the slots it takes; None for any number. More are answered RESOURCE_EXHAUSTED.
        drop_cancelled: whether a cancelled job that still waits is dropped; otherwise it is worked on for nobody.
        stop_cancelled: whether a cancelled job that is worked on is stopped.
        max_streams: how many jobs it takes at once, waiting ones included; None for any number. More are answered
            UNAVAILABLE, as HTTP/2's REFUSED_STREAM is.
        random: draws which calls fail while `set_error` is in force.
        cold: nanoseconds in which its speed grows from `cold_speed` to full after a restart; 0 for at once.
        cold_speed: the share of its speed just after a restart; above 0, at most 1.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    __slots__ = ("_cold", "_cold_speed", "_drop", "_engine", "_enter", "_epoch", "_error_code", "_error_latency",
                 "_error_rate", "_failing", "_full", "_held", "_is_calm", "_limit", "_random", "_speed", "_station",
                 "_stop", "_warmth", "is_down", "is_paused", "name")  # fmt: skip

    def __init__(self, engine: Engine, name: str = "b0", *, slots: int = 1, discipline: str = "fifo",
                 queue: int | None = None, drop_cancelled: bool = False, stop_cancelled: bool = False,
                 max_streams: int | None = None, random: Callable[[], float] | None = None, cold: int = 0,
                 cold_speed: float = 0.1) -> None:  # fmt: skip
        check_count("slots", slots, low=1)
        check_number("cold_speed", cold_speed, above=0, high=1)
        if discipline not in DISCIPLINES:
            raise ConfigError(f"discipline must be one of {', '.join(DISCIPLINES)}, not {discipline!r}")
        self.name = name
        self.is_down = False
        self.is_paused = False
        self._engine = engine
        self._random = random
        self._station = self._build(discipline, slots)
        self._enter = self._station.enter
        self._limit, self._full = _limit_of(_UNLIMITED if discipline == "inf" else slots, queue, max_streams)
        self._drop, self._stop = drop_cancelled, stop_cancelled
        self._cold, self._cold_speed = cold, cold_speed
        self._speed = self._warmth = 1.0
        self._error_rate, self._error_code, self._error_latency = 0.0, Code.UNAVAILABLE, 0
        self._failing: dict[Job, None] = {}
        self._held: list[tuple[Callable[..., None], Job, Code]] = []
        self._epoch = 0
        self._is_calm = True

    def _build(self, discipline: str, slots: int) -> Station:
        if discipline == "ps":
            return Sharing(self._engine, slots)
        return Slots(self._engine, _UNLIMITED if discipline == "inf" else slots, discipline == "lifo")

    # --- what the load sees ------------------------------------------------------------------------

    @property
    def in_service(self) -> int:
        """How many jobs are worked on."""
        return self._station.running

    @property
    def queued(self) -> int:
        """How many wait for a slot."""
        return self._station.inside - self._station.running

    @property
    def busy_ns(self) -> int:
        """Slot-time used until now, in nanoseconds; while it is paused, none is."""
        return self._station.busy_ns()

    @property
    def wasted_ns(self) -> int:
        """Of that, what went into jobs whose callers had given up before they were done."""
        return self._station.wasted_ns

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self._station.has_room

    def submit(self, job: Job) -> None:
        """Take a request that has arrived."""
        if self._is_calm and self._station.inside < self._limit:
            self._enter(job)
        else:
            self._submit_with_care(job, Code.OK)

    def ask(self, job: Job, *, is_soon: bool) -> None:
        """Take a question that is no work; it ends at once, or when it has come to a slot. Not while it stands still.

        Args:
            job: the question.
            is_soon: whether it waits behind one other job at the most, besides those that are worked on.
        """
        if self._station.has_room:
            self._answer(job, Code.OK)
        elif self._station.inside >= self._limit:
            self._answer(job, self._full)
        elif is_soon:
            self._station.enter_soon(job)
        else:
            self._enter(job)

    def admit(self, job: Job) -> None:
        """Take work that no bound refuses and no error spoils, as that of a handshake."""
        self._admit(job)

    def cancel(self, job: Job) -> None:
        """Take in that the caller of a submitted job has given up; `finish` will not be called."""
        if self.is_paused and job.state != GONE:
            self._held.append((self._cancel, job, Code.OK))
        else:
            self._cancel(job)

    # --- what goes wrong ---------------------------------------------------------------------------

    def set_speed(self, factor: float) -> None:
        """Work at `factor` of the usual speed from now on, running jobs included; above 0."""
        check_number("speed", factor, above=0)
        self._speed = factor
        self._pace()

    def set_error(self, rate: float, code: Code = Code.UNAVAILABLE, latency: int = 0) -> None:
        """Answer this share of the requests that arrive from now on with `code`, after `latency` ns, in no slot."""
        check_number("rate", rate, low=0, high=1)
        self._error_rate, self._error_code, self._error_latency = rate, code, latency
        self._settle()

    def pause(self) -> None:
        """Stop the world: nothing is worked on, taken or answered until `resume`."""
        if not self.is_down and not self.is_paused:
            self.is_paused = True
            self._settle()
            self._pace()

    def resume(self) -> None:
        """Go on after a pause, first with what has arrived meanwhile, in its order."""
        if not self.is_paused:
            return
        self.is_paused = False
        self._settle()
        self._pace()
        held, self._held = self._held, []
        for act, job, code in held:
            act(job, code)

    def crash(self) -> list[Job]:
        """End the process. What it had taken is returned, and none of that will finish.

        Requests that arrive until `restart` are answered UNAVAILABLE at once.
        """
        jobs = self._station.clear()
        jobs += self._failing
        for act, job, _ in self._held:
            if act == self._cancel:
                job.is_abandoned = True
            elif job.state == NEW:
                jobs.append(job)
        for job in jobs:
            job.state = GONE
        self._failing.clear()
        self._held.clear()
        self.is_down, self.is_paused = True, False
        self._epoch += 1
        self._settle()
        return [job for job in jobs if not job.is_abandoned]

    def restart(self) -> None:
        """Begin again after a crash, empty, and cold where `cold` says so."""
        self.is_down = False
        self._warmth = 1.0
        self._settle()
        self._pace()
        if self._cold:
            self.warm_up(self._cold_speed, self._cold)

    def warm_up(self, factor: float, length: int) -> None:
        """Work at `factor` of the speed now, and at all of it after `length` ns, in twenty even steps."""
        check_number("factor", factor, above=0, high=1)
        self._epoch += 1
        for step in range(_WARM_UP_STEPS + 1):
            warmth = factor + (1 - factor) * step / _WARM_UP_STEPS
            self._engine.after(length * step // _WARM_UP_STEPS, self._warmed, self._epoch, warmth)
        self._warmed(self._epoch, factor)

    def _warmed(self, epoch: int, warmth: float) -> None:
        if epoch == self._epoch:
            self._warmth = warmth
            self._pace()

    # --- off the fast path ---------------------------------------------------------------------------

    def _pace(self) -> None:
        self._station.set_speed(0.0 if self.is_paused else self._speed * self._warmth)

    def _settle(self) -> None:
        self._is_calm = not (self.is_down or self.is_paused or self._error_rate)

    def _submit_with_care(self, job: Job, code: Code) -> None:
        if self.is_paused:
            self._held.append((self._submit_with_care, job, code))
        elif self.is_down:
            self._answer(job, Code.UNAVAILABLE)
        elif self._error_rate and self._draw() < self._error_rate:
            job.state = FAILING
            self._failing[job] = None
            self._engine.after(self._error_latency, self._failed, job, self._error_code)
        elif self._station.inside < self._limit:
            self._enter(job)
        else:
            self._answer(job, self._full)

    def _draw(self) -> float:
        # A rate of 1 needs no stream.
        return self._random() if self._random is not None and self._error_rate < 1 else 0.0

    def _admit(self, job: Job, code: Code = Code.OK) -> None:
        if self.is_paused:
            self._held.append((self._admit, job, code))
        else:
            self._enter(job)

    def _failed(self, job: Job, code: Code) -> None:
        if job.state != FAILING:
            return
        if self.is_paused:
            self._held.append((self._failed, job, code))
            return
        del self._failing[job]
        self._answer(job, code)

    def _answer(self, job: Job, code: Code) -> None:
        job.state = GONE
        job.finish(job, code)

    def _cancel(self, job: Job, _: Code = Code.OK) -> None:
        state = job.state
        if state in (QUEUED, RUNNING):
            if self._drop if state == QUEUED else self._stop:
                self._station.remove(job)
            else:
                job.is_abandoned = True
        elif state == FAILING:
            job.state = GONE
            del self._failing[job]

    def __repr__(self) -> str:
        state = "down" if self.is_down else "paused" if self.is_paused else f"{self.in_service} in service"
        return f"<Backend {self.name} {state}, {self.queued} queued>"


def _limit_of(slots: int, queue: int | None, max_streams: int | None) -> tuple[int, Code]:
    if queue is not None:
        check_count("queue", queue, low=0)
    if max_streams is not None:
        check_count("max_streams", max_streams, low=1)
    room = _UNLIMITED if queue is None else slots + queue
    if max_streams is not None and max_streams < room:
        return max_streams, Code.UNAVAILABLE
    return room, Code.RESOURCE_EXHAUSTED
