"""A fleet without faults: one stream of calls, a real picker on real load counters, and backends.

The first fifth of the calls is not counted, since the fleet begins empty; and arrivals stop before time
does, so that every call that is counted has ended. Without that, means of busy queues read too low.
"""

from __future__ import annotations

from healthlb.core.load import Load, Subchannel
from healthlb.core.messages import Endpoint
from healthlb.core.pickers import ANY_CALL, PickerSource, make_factory
from healthlb.core.random_streams import Streams
from healthlb.core.states import Code
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.engine.stations import Job
from healthlb.simulation.scenario.laws import Exponential, Law
from healthlb.simulation.world.backend import Backend

MEAN = 1_000_000
"""Nanoseconds of the mean service: the unit of time."""
_FOREVER = 1 << 62
_UNCOUNTED = -1
_WARM_UP = 5  # the share that is not counted: one in so many


class _Call(Job):
    """A call under way: when it began, on the clock of the simulation, and the counters that it is in."""

    __slots__ = ("began", "load")

    began: int
    load: Load


class Fleet:
    """Runs so many calls through a picker to its backends.

    Attributes:
        times: of the calls that are counted and ended well.
        refused: how many of those counted were refused.
        seen: how many others a call met at its backend on arrival, summed over those counted.
        counted: calls that are counted.
        waits: of questions that need a slot, where `ask_every` is given, in units of the mean service.
        area: the integral of the calls in flight, from the first call that is counted to the last arrival.

    Args:
        seed: of the replication.
        rho: load per slot; above 0.
        calls: how many arrive.
        law: of the work; its mean is the unit of time.
        backends: how many.
        picker: as a channel's.
        slots: of each backend.
        ask_every: mean services between two questions to the first backend that need a slot for a moment, as a health
            Check in a server's pool; 0 for none.
        options: further ones of each `Backend`.
    """

    def __init__(self, seed: int, rho: float, calls: int, *, law: Law | None = None, backends: int = 1,
                 picker: PickerSource = "round_robin", slots: int = 1, ask_every: float = 0.0,
                 **options: object) -> None:  # fmt: skip
        streams = Streams(seed)
        self._law = law or Exponential(MEAN)
        self._gaps = Exponential(self._law.mean / (rho * slots * backends))
        self._work = streams.stream("work").random
        self._arrivals = streams.stream("arrivals").random
        self.engine = Engine()
        self.backends = [
            Backend(self.engine, f"b{place}", slots=slots, **options)  # type: ignore[arg-type]
            for place in range(backends)
        ]
        subs = [Subchannel(place, 1, Endpoint(f"b{place}")) for place in range(backends)]
        self._pick = make_factory(picker, streams.stream("pick")).build(subs).pick
        self._left = calls
        self._warm_at = calls - calls // _WARM_UP
        self._watched_at = 0
        self._in_flight = 0
        self._ask_every = round(ask_every * self._law.mean)
        self.waits: list[float] = []
        self.times = Histogram()
        self.refused = self.seen = self.counted = self.area = 0

    def run(self) -> Fleet:
        """Let all calls arrive and end; return self."""
        self.engine.after(0, self._arrive)
        if self._ask_every:
            self.engine.after(self._ask_every, self._ask)
        self.engine.run(_FOREVER)
        return self

    @property
    def mean(self) -> float:
        """Of the times, in units of the mean service."""
        return self.times.mean / self._law.mean

    def quantile(self, share: float) -> float:
        """Of the times, in units of the mean service."""
        return self.times.quantile(share) / self._law.mean

    @property
    def refused_share(self) -> float:
        """Of the calls that are counted."""
        return self.refused / self.counted

    @property
    def seen_mean(self) -> float:
        """How many others a call met at its backend."""
        return self.seen / self.counted

    @property
    def littles_ratio(self) -> float:
        """L / (lambda W): mean number in flight, over arrivals per time times mean time."""
        return self.area / self.times.total

    def _arrive(self) -> None:
        sub = self._pick(ANY_CALL)
        assert sub is not None
        self._left -= 1
        self._watch(1)
        load = sub.load
        is_counted = self._left < self._warm_at
        if is_counted:
            self.seen += load.in_flight
            self.counted += 1
        load.start()
        job = _Call(self._law.draw(self._work), self._finish)
        job.began = self.engine.now if is_counted else _UNCOUNTED
        job.load = load
        self.backends[sub.id].submit(job)
        if self._left:
            self.engine.after(self._gaps.draw(self._arrivals), self._arrive)

    def _ask(self) -> None:
        if self._left:
            asked_at, is_counted = self.engine.now, self._left < self._warm_at

            def answered(job: Job, code: Code) -> None:
                if is_counted:
                    self.waits.append((self.engine.now - asked_at) / self._law.mean)

            self.backends[0].ask(Job(0, answered), is_soon=False)
            self.engine.after(self._ask_every, self._ask)

    def _watch(self, change: int) -> None:
        now = self.engine.now
        if self._left < self._warm_at and self._left:
            self.area += self._in_flight * (now - self._watched_at)
        self._watched_at = now
        self._in_flight += change

    def _finish(self, job: Job, code: Code) -> None:
        assert isinstance(job, _Call)
        self._watch(-1)
        now = self.engine.now
        if code is Code.OK:
            job.load.succeed(now)
            if job.began != _UNCOUNTED:
                self.times.add(now - job.began)
        else:
            job.load.fail()
            self.refused += job.began != _UNCOUNTED
