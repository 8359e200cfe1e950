"""A scenario: who serves, who calls, what goes wrong, and what must hold. Values only; files are read elsewhere.

Times are whole nanoseconds here, and what a policy holds are the library's own configuration objects; so
what is simulated is what a channel would be given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from healthlb.config import DEFAULTS, ChannelConfig
from healthlb.core.pickers import PickerBuilder, PickerSource

if TYPE_CHECKING:
    from healthlb.simulation.scenario.laws import Law

# The options of a policy that are off by default, in the order in which they are told.
EXTRAS = ("panic_threshold", "drain", "slow_start")

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendGroup:
    """Backends that are alike; those of a group `b` are b0, b1 and so on.

    Attributes:
        name: the beginning of their names.
        count: how many; at least 1.
        slots: how many calls each works on at once; at least 1.
        discipline: "fifo", "ps", "lifo" or "inf".
        queue: how many calls may wait, None for any number.
        service: the law of an attempt's work; each attempt of a call draws its own.
        wire: nanoseconds one way. A backend's number times 7,919 ns is added, so that no tie depends on an order.
        jitter: each message takes longer by up to this, in nanoseconds, and overtakes none before it.
        zone: a name, or "".
        weight: that the resolver gives it; at least 1.
        speed: of its work, 1 for as the law says.
        max_streams: calls on one connection at once, None for any number.
        drop_cancelled: whether cancelled work is dropped.
        health: what its health service does: "honest", "lying" (SERVING whatever is), "absent" (UNIMPLEMENTED),
            "watchless" (has Check and no Watch),
            "stuck" (takes a Watch and says nothing), "closing" (one message, then the end), "unknown"
            (SERVICE_UNKNOWN).
        checks: who answers Checks and begins Watches: "pool", a slot, for which they wait as calls do (`grpc.server`);
            "beside", always at once; "loop", an event loop that calls block, which needs one slot and "fifo".
        max_age: nanoseconds after which a connection gets a GOAWAY, None for never; each lives up to a tenth more
            or less.
        accept, tls: nanoseconds of work for each new connection and for its handshake: it takes a slot, for which it
            waits as a call does, but no bound refuses it.
        watch_lag: nanoseconds until a Watch says what has become of the health.
        cold: nanoseconds in which its speed grows from `cold_speed` to full after a start; 0 for at once.
        cold_speed: the speed just after a start, as a share.
    """

    name: str = "b"
    count: int = 1
    slots: int = 1
    discipline: str = "fifo"
    queue: int | None = None
    service: Law
    wire: int = MILLISECOND
    jitter: int = 0
    zone: str = ""
    weight: int = 1
    speed: float = 1.0
    max_streams: int | None = None
    drop_cancelled: bool = False
    health: str = "honest"
    checks: str = "pool"
    max_age: int | None = None
    accept: int = 0
    tls: int = 0
    watch_lag: int = 0
    cold: int = 0
    cold_speed: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How calls arrive at one client.

    Attributes:
        kind: "poisson", "steady" (equal gaps), "closed", "burst" or "trace".
        rate: calls per second of one client, for "poisson" and "steady".
        rho: instead of `rate`: the load of all clients of the group as a share of what all backends can take.
        users: of "closed": who call, think and call again.
        think: of "closed": the law of the time between, None for none.
        size: of "burst": calls that arrive together.
        period: of "burst": nanoseconds from one to the next.
        times: of "trace": when the calls of one client arrive, in nanoseconds.
        fanout: how many calls a user request makes at once; it is over when all of them are.
    """

    kind: str = "poisson"
    rate: float | None = None
    rho: float | None = None
    users: int = 1
    think: Law | None = None
    size: int = 1
    period: int = SECOND
    times: tuple[int, ...] = ()
    fanout: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGroup:
    """Clients that are alike; those of a group `c` are c0, c1 and so on.

    Attributes:
        name: the beginning of their names.
        count: how many; at least 1.
        load: how calls arrive at each.
        start: each begins at a random time of so many nanoseconds; 0 for all at once.
        deadline: nanoseconds of each call, None for none.
        wait_for_ready: whether calls wait while nothing is READY.
        idempotent: whether they may be executed twice.
        zone: a name, or "".
        work: the law of a call's work, which all of its attempts have in common; None for each attempt its own, by the
            law of the backend that it goes to.
        cpu: nanoseconds of the client's one thread for each call: half before it leaves, half of them for each reply.
        dns_cache: nanoseconds for which each keeps the resolver's answer; it hears of another one when its own time is
            over. 0 for at once.
    """

    name: str = "c"
    count: int = 1
    load: Load = field(default_factory=Load)
    start: int = 0
    deadline: int | None = None
    wait_for_ready: bool = False
    idempotent: bool = True
    zone: str = ""
    work: Law | None = None
    cpu: int = 0
    dns_cache: int = 0


@dataclass(frozen=True, slots=True)
class PickerWithArguments:
    """A registered picker and the arguments of its constructor.

    Attributes:
        name: of the picker.
        arguments: by their names.
        make: returns its factory.
    """

    name: str
    arguments: Mapping[str, object]
    make: Callable[[], PickerBuilder] = field(compare=False, repr=False)

    def __call__(self) -> PickerBuilder:
        """Return a factory."""
        return self.make()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name} {value}' for name, value in self.arguments.items())})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(ChannelConfig):
    """What the clients' channels are given: the options of a channel, and these.

    Attributes:
        name: of the policy.
        picker: a registered name, or what returns a factory.
        service: whose health is asked for, None for no health checking.
    """

    name: str = "default"
    picker: PickerSource = "round_robin"
    service: str | None = ""

    @property
    def extras(self) -> dict[str, object]:
        """The options among `EXTRAS` that are not as by default."""
        return {name: value for name in EXTRAS if (value := getattr(self, name)) != getattr(DEFAULTS, name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, once or again and again.

    Attributes:
        kind: "crash", "health", "error", "slow", "pause", "blackhole", "partition", "goaway", "drain", "resolver",
            "cold" or "stall".
        target: which backends: a glob over names, "zone:a", or "30%" for the first share of them in order.
        start: nanoseconds.
        until: nanoseconds; None for the end of the run.
        period: nanoseconds from one occurrence to the next, None for a single one from `start` to `until`.
        duty: the share of each period in which the backend is well; the period begins with that share.
        phase: nanoseconds by which the periods are shifted, None for a random one for each backend.
        mode: of "crash" and "drain": "rst", "blackhole" or "half-open"; of "health": the status to report,
            "NOT_SERVING" where it is "", or what the health service does: "lying", "absent", "watchless", "stuck",
            "closing", "unknown" or "ending" (Watches end with `code`).
        rate: of "error": the share of calls that fail.
        factor: of "slow": by which the speed is multiplied.
        code: of "error" and "health": the status's name.
        latency: of "error": nanoseconds until a failed call is answered.
        clients: which clients, for "partition", "goaway" and "stall": a glob, or "zone:a".
        addresses: of "resolver": the names the resolver gives from then on; empty for an empty list.
        error: of "resolver": what went wrong, instead of a list.
        drain: of "drain": nanoseconds from NOT_SERVING to the end of the process.
        stagger: nanoseconds by which each target's fault begins, and ends, later than that of the target before.
    """

    kind: str
    target: str = "*"
    start: int = 0
    until: int | None = None
    period: int | None = None
    duty: float = 0.5
    phase: int | None = 0
    mode: str = ""
    rate: float = 1.0
    factor: float = 1.0
    code: str = "UNAVAILABLE"
    latency: int = 0
    clients: str = "*"
    addresses: tuple[str, ...] = ()
    error: str = ""
    drain: int = 0
    stagger: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One thing that must hold.

    Attributes:
        name: of the check.
        check: an expression.
        why: the law behind it.
        policy: for which policy, None for all.
    """

    name: str
    check: str
    why: str = ""
    policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A world, what happens in it, and what must hold.

    Attributes:
        name: a short one.
        title: what it shows.
        seed: of all random streams.
        duration: nanoseconds in which calls arrive.
        warmup: nanoseconds at the beginning that do not count.
        drain: nanoseconds after `duration` in which calls may end.
        replications: how often it is run with other random streams.
        backends: who serves.
        clients: who calls.
        policies: what the clients' channels are given, by name; a run takes one of them.
        faults: what goes wrong.
        addresses: what the resolver gives at first; None for all backends.
        expect: what must hold.
        parameters: numbers that checks may name.
        tags: by which it is found.
    """

    name: str
    title: str = ""
    seed: int = 1
    duration: int = 10 * SECOND
    warmup: int = 0
    drain: int = 10 * SECOND
    replications: int = 1
    backends: tuple[BackendGroup, ...]
    clients: tuple[ClientGroup, ...]
    policies: Mapping[str, Policy] = field(default_factory=lambda: {"default": Policy()})
    faults: tuple[Fault, ...] = ()
    addresses: tuple[str, ...] | None = None
    expect: tuple[Expectation, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
