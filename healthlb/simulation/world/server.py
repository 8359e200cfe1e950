"""A server: a queue that works on calls, its health service, and the links that clients have to it.

The truth is here, and nobody's belief. What clients make of it they have from the wire alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from heapq import heappush
from typing import Any

from healthlb.core.pickers.orca import LoadReport
from healthlb.core.states import Code
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.engine.stations import Job
from healthlb.simulation.scenario.scenario import SECOND, BackendGroup
from healthlb.simulation.world.backend import Backend
from healthlb.simulation.world.health import HealthService
from healthlb.simulation.world.link import Attempt, Link, LinkOwner

_AGE_SPREAD = 0.1
_REPORT_EVERY = SECOND


class Handshake(Job):
    """A server's work for a new connection, which the client waits for."""

    __slots__ = ("link", "token")

    def __init__(self, work: int, finish: Callable[[Any, Code], object], link: Link, *, token: int) -> None:
        super().__init__(work, finish)
        self.link = link
        self.token = token


class Server:
    """One backend.

    Args:
        engine: virtual time.
        name: of the backend; its address too.
        number: among all backends.
        group: its settings.
        errors: the stream that says which calls fail.
        ages: the stream for the ages of its connections.
        on_truth: called when `truth` has changed.

    Attributes:
        law: which of the scenario's laws of work is its own, by number.
        picks: attempts that were sent to it, by bins of time.
        links: of clients, in the order they came.
        is_listed: whether the resolver gives it.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        number: int,
        *,
        group: BackendGroup,
        errors: random.Random,
        ages: random.Random,
        on_truth: Callable[[Server], object],
    ) -> None:
        self.engine = engine
        self.name = name
        self.number = number
        self.group = group
        self.zone = group.zone
        self.wire = group.wire + number * 7919
        self.law = 0
        self.picks: list[int] = []
        self.links: dict[Link, None] = {}
        self.is_listed = True
        self.backend = Backend(
            engine,
            name,
            slots=group.slots,
            discipline=group.discipline,
            queue=group.queue,
            drop_cancelled=group.drop_cancelled,
            random=errors.random,
            cold=group.cold,
            cold_speed=group.cold_speed,
        )
        self._submit = self.backend.submit
        self.health = HealthService(
            engine, self.backend, self.knows, mode=group.health, lag=group.watch_lag, checks=group.checks
        )
        self.finish: Callable[[Any, Code], object] = self._finish
        self._ages = ages
        self._on_truth = on_truth
        self._handshake = group.accept + group.tls
        self._handshakes: dict[Link, Handshake] = {}
        self._is_silent = False
        self._crashes: list[str] = []
        self._pauses = 0
        self._slow: list[float] = []
        self._failing: list[tuple[float, Code, int]] = []
        self._ill: list[int] = []
        self._modes = [group.health]
        self._report = LoadReport()
        self._served = 0
        self._reported_at = self._reported_served = self._reported_busy = 0
        self.truth = "up"
        if group.speed != 1.0:
            self.backend.set_speed(group.speed)

    # --- what is true ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        truth = self._find_truth()
        if truth != self.truth:
            self.truth = truth
            self._on_truth(self)

    def _find_truth(self) -> str:
        if not self.is_listed:
            return "absent"
        if self._crashes:
            return "crashed"
        if self._pauses:
            return "hung"
        if self._ill:
            return "not_serving"
        if self._failing:
            return "failing"
        return "slow" if any(factor < 1 for factor in self._slow) else "up"

    def set_listed(self, is_listed: bool) -> None:
        """The resolver gives it from now on, or does not."""
        self.is_listed = is_listed
        self._settle()

    # --- connections ---------------------------------------------------------------------------------------

    def knocked(self, connection: LinkOwner, token: int) -> None:
        """A client asks for a connection."""
        if self._crashes:
            if not self._is_silent:
                connection.path.down(connection.refused, token)
            return
        # The kernel accepts, even for a process that stands still.
        link = Link(self, connection, self.group.max_streams)
        self.links[link] = None
        if self._handshake:
            connection.path.down(connection.accepted, token)
            self._handshakes[link] = job = Handshake(self._handshake, self._shaken, link, token=token)
            self.backend.admit(job)
        else:
            self._establish(link, token)

    def _shaken(self, job: Handshake, _: Code) -> None:
        if self._handshakes.pop(job.link, None) is not None and job.link.is_known:
            self._establish(job.link, job.token)

    def _establish(self, link: Link, token: int) -> None:
        if self.group.max_age is not None:
            age = self.group.max_age * (1 + _AGE_SPREAD * (2 * self._ages.random() - 1))
            self.engine.after(int(age), self.go_away, (link,))
        link.path.down(link.connection.established, token, link)

    def closed(self, link: Link, attempts: Iterable[Attempt]) -> None:
        """A client has closed a connection, and given up the attempts on it."""
        if link.is_known:
            del self.links[link]
            link.is_known = False
            for attempt in attempts:
                self.backend.cancel(attempt)

    def knows(self, link: Link) -> bool:
        """Whether it has this connection; where it has not, its host says so with a reset."""
        if link.is_known:
            return True
        if not (link.is_mute or (self._crashes and self._is_silent)):
            link.path.down(link.reset)
        return False

    def go_away(self, links: Iterable[Link]) -> None:
        """Ask clients to leave these connections."""
        for link in links:
            if link.is_known and not self.backend.is_paused:
                link.path.down(link.go_away)

    # --- calls ---------------------------------------------------------------------------------------------

    def arrive(self, attempt: Attempt) -> None:
        """A request has arrived."""
        link = attempt.link
        if link.is_known:  # type: ignore[union-attr]
            self._submit(attempt)
        else:
            self.knows(link)  # type: ignore[arg-type]

    def cancelled(self, attempt: Attempt) -> None:
        """Take in that a client has given an attempt up."""
        assert attempt.link is not None
        if attempt.link.is_known:
            self.backend.cancel(attempt)

    def _finish(self, job: Job, code: Code) -> None:
        attempt: Attempt = job  # type: ignore[assignment]
        self._served += 1
        link = attempt.link
        assert link is not None
        path = link.path
        if path.is_plain:
            engine = self.engine
            engine.sequence = sequence = engine.sequence + 1
            heappush(engine.heap, (engine.now + path.delay, sequence, attempt.client.replied, (attempt, code)))
        else:
            path.down(attempt.client.replied, attempt, code)

    # --- what goes wrong -----------------------------------------------------------------------------------

    def crash(self, mode: str) -> None:
        """End the process.

        Args:
            mode: "rst", its host resets connections and refuses others; "blackhole", its host is gone too;
                "half-open", connections are gone without a word, then and later, and others are refused.
        """
        self._crashes.append(mode)
        self._is_silent = "blackhole" in self._crashes
        if len(self._crashes) == 1:
            self.backend.crash()
            self.health.forget()
            links, self.links = self.links, {}
            handshakes, self._handshakes = self._handshakes, {}
            for link, job in handshakes.items():
                if mode == "rst":
                    link.path.down(link.connection.refused, job.token)
            for link in links:
                link.is_known = False
                link.is_mute = mode == "half-open"
                if mode == "rst":
                    link.path.down(link.reset)
        self._settle()

    def restart(self, mode: str) -> None:
        """Begin again, once all that has ended it is over."""
        self._crashes.remove(mode)
        self._is_silent = "blackhole" in self._crashes
        if not self._crashes:
            self.backend.restart()
            if self._pauses:
                self.backend.pause()
        self._settle()

    def pause(self) -> None:
        """Stand still, as with SIGSTOP: the kernel goes on to take what comes."""
        self._pauses += 1
        self.backend.pause()
        self._settle()

    def resume(self) -> None:
        """Go on."""
        self._pauses -= 1
        if not self._pauses and not self._crashes:
            self.backend.resume()
            self.health.resumed()
        self._settle()

    def slow_down(self, factor: float) -> None:
        """Multiply the speed."""
        self._slow.append(factor)
        self._set_speed()

    def speed_up(self, factor: float) -> None:
        """Undo `slow_down` with the same arguments."""
        self._slow.remove(factor)
        self._set_speed()

    def _set_speed(self) -> None:
        speed = self.group.speed
        for factor in self._slow:
            speed *= factor
        self.backend.set_speed(speed)
        self._settle()

    def fail_calls(self, rate: float, code: Code, latency: int) -> None:
        """Answer a share of the calls with an error."""
        self._failing.append((rate, code, latency))
        self._set_error()

    def mend_calls(self, rate: float, code: Code, latency: int) -> None:
        """Undo `fail_calls` with the same arguments."""
        self._failing.remove((rate, code, latency))
        self._set_error()

    def _set_error(self) -> None:
        self.backend.set_error(*(self._failing[-1] if self._failing else (0.0, Code.UNAVAILABLE, 0)))
        self._settle()

    def fall_ill(self, status: int) -> None:
        """Have another serving status than SERVING."""
        self._ill.append(status)
        self.health.set_status(status)
        self._settle()

    def recover(self, status: int) -> None:
        """Undo `fall_ill` with the same arguments."""
        self._ill.remove(status)
        self.health.set_status(self._ill[-1] if self._ill else 1)
        self._settle()

    def mislead(self, mode: str, code: Code) -> None:
        """Have the health service do something else."""
        self._modes.append(mode)
        self.health.code = code
        self.health.set_mode(mode)

    def come_clean(self, mode: str, code: Code) -> None:
        """Undo `mislead` with the same arguments."""
        self._modes.remove(mode)
        self.health.set_mode(self._modes[-1])

    def report(self) -> LoadReport:
        """Return what it says of its load with each reply (gRFC A51): means over a second or more."""
        now = self.engine.now
        passed = now - self._reported_at
        if passed >= _REPORT_EVERY:
            served, busy = self._served, self.backend.busy_ns
            self._report = LoadReport(
                application_utilization=(busy - self._reported_busy) / (passed * self.group.slots),
                qps=(served - self._reported_served) * SECOND / passed,
            )
            self._reported_at, self._reported_served, self._reported_busy = now, served, busy
        return self._report

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.truth}, {len(self.links)} links>"
