"""Random worlds: any servers, wires, clients, settings and faults, from a seed and a number.

A world is a scenario like any other, and a function of its seed and number alone. All faults are over at
`CALM`, and every setting is so short that the time from then to the end is enough for all to be well again.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from healthlb.config import (
    Backoff,
    Failover,
    FlapDamping,
    HealthCheck,
    Heartbeat,
    RetryBudget,
    RetryThrottle,
    SlowStart,
    Subset,
)
from healthlb.config.outliers import FailurePercentage, Outliers, SuccessRate
from healthlb.config.overload import Overload
from healthlb.core.pickers import picker_names
from healthlb.core.random_streams import Streams
from healthlb.simulation.scenario.laws import Bimodal, Deterministic, Exponential, Law
from healthlb.simulation.scenario.scenario import (
    MILLISECOND,
    SECOND,
    BackendGroup,
    ClientGroup,
    Fault,
    Load,
    Policy,
    Scenario,
)

CALM = 6 * SECOND
END = 14 * SECOND
POLICY = "fuzz"

_FAULTS = ("crash", "health", "error", "slow", "pause", "partition", "goaway", "drain", "resolver", "cold", "stall")
# Of twenty worlds these may have what connections, calls and lists cost; those that tests name are among the others.
_COSTLY = (4, 9, 16)
_LEAST = 300 * MILLISECOND
# A wire that was cut takes as long again to come back, since TCP's own retries back off.
_LONGEST_CUT = 2 * SECOND


def random_world(seed: int, number: int) -> Scenario:
    """Return world `number` of the fuzz run with this seed."""
    draw = _Draw(Streams(seed).stream("world", number))
    # From a stream of its own, so that what is drawn besides stays as it was.
    checks = _Draw(Streams(seed).stream("world", number, "checks"))
    limits = _Draw(Streams(seed).stream("world", number, "drain"))
    backends = tuple(replace(group, checks=checks.checks(group)) for group in draw.backends())
    clients = draw.clients()
    seed_of_world, policy = draw.whole(1, 1 << 40), draw.policy()
    if number % 20 in _COSTLY:
        costs = _Draw(Streams(seed).stream("world", number, "costs"))
        backends = tuple(costs.costly_backend(group) for group in backends)
        clients = tuple(costs.costly_client(group) for group in clients)
    names = [f"{group.name}{place}" for group in backends for place in range(group.count)]
    return Scenario(
        name=f"fuzz {seed}:{number}",
        seed=seed_of_world,
        duration=END,
        drain=3 * SECOND,
        backends=backends,
        clients=clients,
        policies={POLICY: replace(policy, drain=limits.drain())},
        faults=tuple(draw.fault(names, clients) for _ in range(draw.whole(0, 7))),
    )


class _Draw:
    """Draws the parts of a world.

    Args:
        stream: where all comes from.
    """

    def __init__(self, stream: random.Random) -> None:
        self._random = stream.random

    # --- numbers -------------------------------------------------------------------------------------

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """Return True this often."""
        return self._random() < share

    def one_of(self, *values: Any) -> Any:
        """Return one of the values; those that are given more than once, more often."""
        return values[int(self._random() * len(values))]

    def seconds(self, low: float, high: float) -> float:
        """Return seconds, in milliseconds' steps."""
        return round(low + self._random() * (high - low), 3)

    # --- servers and clients -------------------------------------------------------------------------

    def backends(self) -> tuple[BackendGroup, ...]:
        """Return one or two groups of servers, one to six in each."""
        groups = [self._backend("b", self.whole(1, 5))]
        if self.chance(0.3):
            groups.append(self._backend("x", self.whole(1, 2)))
        return tuple(groups)

    def _backend(self, name: str, count: int) -> BackendGroup:
        mean = self.one_of(1, 3, 10) * MILLISECOND
        law: Law = self.one_of(Exponential(mean), Deterministic(mean), Bimodal(mean, 20 * mean, 0.03))
        is_aged = self.chance(0.15)
        return BackendGroup(
            name=name,
            count=count,
            slots=self.whole(1, 6),
            discipline=self.one_of("fifo", "fifo", "ps", "lifo", "inf"),
            queue=self.one_of(None, None, 4),
            service=law,
            wire=self.one_of(200_000, 1_000_003, 5_000_011),
            jitter=self.one_of(0, 0, 700_000, 3_000_000),
            zone=self.one_of("", "a", "b"),
            weight=self.whole(1, 4),
            max_streams=self.one_of(None, None, None, 3),
            drop_cancelled=self.chance(0.5),
            health=self.one_of(*["honest"] * 8, "lying", "absent", "stuck", "closing", "unknown"),
            max_age=self.whole(700, 3000) * MILLISECOND if is_aged else None,
            watch_lag=self.one_of(0, 0, 0, 150 * MILLISECOND),
            cold=self.one_of(0, 0, SECOND),
        )

    def checks(self, group: BackendGroup) -> str:
        """Return who answers the Checks of a group of servers."""
        who = self.one_of("pool", "pool", "beside", "loop")
        is_loop = (group.slots, group.discipline) == (1, "fifo")
        return "pool" if who == "loop" and not is_loop else str(who)

    def clients(self) -> tuple[ClientGroup, ...]:
        """Return one to three clients, in one group or two."""
        groups = [self._client("c", self.whole(1, 2))]
        if self.chance(0.3):
            groups.append(self._client("d", 1))
        return tuple(groups)

    def _client(self, name: str, count: int) -> ClientGroup:
        rate = float(self.one_of(15, 30, 60, 110))
        load = self.one_of(
            Load(kind="poisson", rate=rate),
            Load(kind="poisson", rate=rate),
            Load(kind="steady", rate=rate),
            Load(kind="burst", size=5, period=200 * MILLISECOND),
            Load(kind="closed", users=3, think=Exponential(60 * MILLISECOND)),
        )
        return ClientGroup(
            name=name,
            count=count,
            load=load,
            start=self.one_of(0, 300 * MILLISECOND),
            deadline=self.one_of(None, *[self.whole(30, 1000) * MILLISECOND] * 5),
            wait_for_ready=self.chance(0.3),
            idempotent=self.chance(0.7),
            zone=self.one_of("", "a", "b"),
        )

    # --- what connections, calls and lists cost ------------------------------------------------------

    def costly_backend(self, group: BackendGroup) -> BackendGroup:
        """Return a group of servers for which new connections may be work."""
        return replace(
            group,
            accept=self.one_of(0, 0, 200_000),
            tls=self.one_of(0, 0, 2 * MILLISECOND, 15 * MILLISECOND),
        )

    def costly_client(self, group: ClientGroup) -> ClientGroup:
        """Return a group of clients that may have a slow thread, keep lists, and make many calls of a request."""
        return replace(
            group,
            cpu=self.one_of(0, 0, 100_000, MILLISECOND),
            dns_cache=self.one_of(0, 0, 300 * MILLISECOND, 1500 * MILLISECOND),
            load=replace(group.load, fanout=self.one_of(1, 1, 2, 4)),
        )

    # --- settings ------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        """Return settings of which any may be on."""
        panic_threshold = self.one_of(0.2, 0.5, 0.8) if self.chance(0.3) else 0.0
        slow_start = self._slow_start() if self.chance(0.2) else None
        return Policy(
            name=POLICY,
            picker=self.one_of("round_robin", "round_robin", "least_request", *picker_names()),
            service=self.one_of("", "", "svc", "svc", None),
            health=self._health(),
            failover=self._failover() if self.chance(0.8) else None,
            outliers=self._outliers() if self.chance(0.6) else None,
            subset=Subset(size=self.whole(1, 4), seed=self.one_of(None, 7)) if self.chance(0.15) else None,
            overload=self._overload() if self.chance(0.3) else None,
            panic_threshold=panic_threshold,
            slow_start=slow_start,
        )

    def drain(self) -> float | None:
        """Return how many seconds calls may stay on an address that left, None for no limit."""
        return self.seconds(0.01, 0.5) if self.chance(0.3) else None

    def _slow_start(self) -> SlowStart:
        return SlowStart(window=self.seconds(0.3, 2), aggression=self.one_of(1.0, 2.0))

    def _overload(self) -> Overload:
        return Overload(
            max_waiting=self.one_of(None, 0, 3),
            max_wait=self.one_of(None, self.seconds(0.01, 0.5)),
            max_in_flight=self.one_of(None, 2, 8),
            max_in_flight_per_subchannel=self.one_of(None, 1, 3),
        )

    def _backoff(self, low: float, high: float) -> Backoff:
        initial = self.seconds(low, high)
        multiplier, jitter = self.one_of(1.0, 1.6, 2.0), self.one_of(0.0, 0.2, 1.0)
        return Backoff(initial=initial, maximum=self.seconds(initial, 1.0), multiplier=multiplier, jitter=jitter)

    def _health(self) -> HealthCheck:
        beat = Heartbeat(interval=self.seconds(0.2, 1.5), timeout=self.seconds(0.1, 0.8))
        half_life = self.seconds(0.2, 1)
        damping = FlapDamping(half_life=half_life, max_suppress=min(3.0, 3 * half_life))
        is_steady = self.chance(0.7)
        return HealthCheck(
            backoff=self._backoff(0.05, 0.8),
            reconnect=self._backoff(0.05, 0.8),
            first_response_timeout=self.seconds(0.3, 1.5),
            min_restart_interval=self.one_of(0.02, 0.1),
            heartbeat=beat if self.chance(0.6) else None,
            on_unimplemented=self.one_of("healthy", "healthy", "unhealthy"),
            rise=1 if is_steady else self.whole(1, 3),
            fall=1 if is_steady else self.whole(1, 3),
            confirm_interval=self.seconds(0.05, 0.3),
            damping=damping if self.chance(0.3) else None,
        )

    def _failover(self) -> Failover:
        budget = self.one_of(
            None,
            RetryThrottle(max_tokens=self.one_of(2, 4, 10), token_ratio=self.one_of(0.05, 0.1, 1.0)),
            RetryBudget(ratio=self.one_of(0.0, 0.1, 0.5), min_per_second=self.one_of(0.0, 1.0, 5.0), ttl=2.0),
        )
        return Failover(
            max_attempts=self.whole(1, 5),
            codes=self.one_of(("UNAVAILABLE",), ("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED")),
            strict=self.chance(0.2),
            budget=budget,
            backoff=self._backoff(0.01, 0.1) if self.chance(0.3) else None,
            attempt_timeout=self.seconds(0.02, 0.3) if self.chance(0.3) else None,
            hedging_delay=self.one_of(0.0, 0.02, 0.1) if self.chance(0.2) else None,
        )

    def _outliers(self) -> Outliers:
        base = self.seconds(0.2, 1)
        hosts, volume = self.one_of(2, 3), self.one_of(3, 10)
        rate = SuccessRate(stdev_factor=self.one_of(500, 1900), minimum_hosts=hosts, request_volume=volume)
        share = FailurePercentage(threshold=self.one_of(30, 85), minimum_hosts=hosts, request_volume=volume)
        return Outliers(
            consecutive_failures=self.one_of(None, 2, 5),
            consecutive_connection_failures=self.one_of(None, 2, 5),
            success_rate=self.one_of(None, rate),
            failure_percentage=self.one_of(None, share),
            latency_factor=self.one_of(None, None, 2.0),
            latency_floor=0.02,
            interval=self.seconds(0.2, 1),
            base_ejection_time=base,
            ejection_growth=None if hosts == 2 else 2.0,
            max_ejection_time=self.seconds(base, 1.5),
            max_ejection_percent=self.one_of(10, 34, 50, 100),
            jitter=self.one_of(0.0, 0.1, 1.0),
        )

    # --- faults --------------------------------------------------------------------------------------

    def fault(self, names: list[str], clients: tuple[ClientGroup, ...]) -> Fault:
        """Return something that goes wrong, once or again and again, and is over at `CALM`."""
        kind = self.one_of(*_FAULTS)
        start = self.whole(_LEAST, CALM - SECOND)
        until = min(CALM, start + self.whole(20 * MILLISECOND, 4 * SECOND))
        if kind == "partition":
            until = min(until, start + _LONGEST_CUT)
        period = self.whole(50, 2500) * MILLISECOND if self.chance(0.4) else None
        common: dict[str, Any] = {"kind": kind, "start": start, "until": until, "target": self._target(names)}
        if kind not in ("resolver", "stall", "drain", "partition"):
            phase = self.one_of(0, None)
            common |= {"period": period, "duty": self.one_of(0.3, 0.5, 0.9), "phase": phase}
        return Fault(**common, **self._details(kind, names, clients))

    def _target(self, names: list[str]) -> str:
        return str(self.one_of(*names, *names, "*", "50%", "b*"))

    def _details(self, kind: str, names: list[str], clients: tuple[ClientGroup, ...]) -> dict[str, Any]:
        which = self.one_of("*", "*", *(f"{group.name}0" for group in clients))
        match kind:
            case "crash":
                return {"mode": self.one_of("rst", "rst", "blackhole", "half-open")}
            case "drain":
                return {"mode": "rst", "drain": self.whole(0, 600) * MILLISECOND}
            case "health":
                modes = ("NOT_SERVING", "NOT_SERVING", "UNKNOWN", "lying", "absent", "stuck", "closing", "ending")
                return {"mode": self.one_of(*modes), "code": self.one_of("UNAVAILABLE", "INTERNAL")}
            case "error":
                code = self.one_of("UNAVAILABLE", "INTERNAL", "NOT_FOUND", "RESOURCE_EXHAUSTED")
                return {"rate": self.one_of(0.2, 0.7, 1.0), "code": code, "latency": self.whole(0, 5) * MILLISECOND}
            case "slow" | "cold":
                return {"factor": self.one_of(0.05, 0.3)}
            case "partition" | "goaway" | "stall":
                return {"clients": which}
            case "resolver":
                some = tuple(name for name in names if self.chance(0.6))
                return {"error": "SERVFAIL"} if self.chance(0.2) else {"addresses": self.one_of(some, some[::-1], ())}
            case _:
                return {}
