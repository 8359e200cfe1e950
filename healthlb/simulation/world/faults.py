"""What goes wrong, and when: faults become events of the engine.

Every fault that is over is taken back, and nothing else with it; so faults may overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from healthlb.core.states import Code, ServingStatus
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.scenario import Fault
from healthlb.simulation.world.health import MODES

if TYPE_CHECKING:
    from healthlb.core.random_streams import Streams
    from healthlb.simulation.engine.engine import Engine
    from healthlb.simulation.scenario.scenario import Scenario
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.path import Path
    from healthlb.simulation.world.resolver import Resolver
    from healthlb.simulation.world.server import Server
    from healthlb.simulation.world.state_history import Lanes

KINDS = (
    "crash", "health", "error", "slow", "pause", "blackhole", "partition", "goaway", "drain", "resolver", "cold",
    "stall",
)  # fmt: skip

Act = Callable[[], object]
_STATUSES = {status.name: int(status) for status in ServingStatus}


def select(target: str, names: Sequence[str], zones: Sequence[str]) -> list[int]:
    """Return the numbers of those that a target means: a glob, `zone:a`, or `30%` for the first share of them.

    Raises:
        ConfigError: it means nothing.
    """
    if target.startswith("zone:"):
        found = [number for number, zone in enumerate(zones) if zone == target[5:]]
    elif target.endswith("%"):
        found = list(range(round(len(names) * _percent(target) / 100)))
    else:
        patterns = [pattern.strip() for pattern in target.split(",")]
        found = [n for n, name in enumerate(names) if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not found and not target.endswith("%"):
        raise ConfigError(f"target must name one of {', '.join(names[:8])}, a zone or a share, not {target!r}")
    return found


def _percent(target: str) -> float:
    try:
        percent = float(target[:-1])
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise ConfigError(f"target must be a share from 0% to 100%, not {target!r}")
    return percent


def windows(fault: Fault, shift: int, phase: int, end: int) -> Iterator[tuple[int, int | None]]:
    """Yield when a fault begins and ends; None is never.

    Args:
        fault: which.
        shift: nanoseconds by which all is later.
        phase: of its periods, in nanoseconds.
        end: of the run.
    """
    start = fault.start + shift
    until = None if fault.until is None else fault.until + shift
    if fault.period is None:
        if start <= end:
            yield start, until
        return
    last = end if until is None else min(until, end)
    well = round(fault.duty * fault.period)
    if well <= 0:
        yield start, until
        return
    begin = start - phase % fault.period
    while begin < last and well < fault.period:
        bad, good = max(start, begin + well), begin + fault.period
        if start < good and bad < last:
            yield bad, min(good, last) if until is not None else good
        begin += fault.period


class FaultyWorld(Protocol):
    """What faults need of a world.

    Attributes:
        scenario: its faults are planned.
        engine: virtual time.
        streams: where random phases come from.
        end: when the run is over, in nanoseconds.
        servers: whom faults befall.
        clients: likewise.
        lanes: what is written down of each server.
        resolver: may give other lists.
    """

    scenario: Scenario
    engine: Engine
    streams: Streams
    end: int
    servers: list[Server]
    clients: list[Client]
    lanes: Lanes
    resolver: Resolver

    def path(self, client: Client, server: Server) -> Path:
        """Return the way between a client and a server."""

    def note_fault(self, what: str) -> None:
        """Something goes wrong, or is mended."""


class Faults:
    """Has the faults of a scenario happen in a world.

    Args:
        world: where.
    """

    def __init__(self, world: FaultyWorld) -> None:
        self._world = world

    def schedule(self) -> None:
        """Have all of them happen in their time.

        Raises:
            ConfigError: a fault's kind, target or mode is unknown.
        """
        for index, fault in enumerate(self._world.scenario.faults):
            if fault.kind not in KINDS:
                raise ConfigError(f"fault kind must be one of {', '.join(KINDS)}, not {fault.kind!r}")
            if fault.kind == "resolver":
                self._plan(index, fault, 0, "resolver", *self._of_resolver(fault))
            elif fault.kind == "stall":
                for place, client in enumerate(self._clients(fault)):
                    self._plan(index, fault, place, client.id, client.stall, client.resume)
            else:
                for place, server in enumerate(self._servers(fault)):
                    self._plan(index, fault, place, server.name, *self._of_server(fault, server))

    def _servers(self, fault: Fault) -> list[Server]:
        servers = self._world.servers
        numbers = select(fault.target, [server.name for server in servers], [server.zone for server in servers])
        return [servers[number] for number in numbers]

    def _clients(self, fault: Fault) -> list[Client]:
        clients = self._world.clients
        numbers = select(fault.clients, [one.id for one in clients], [one.group.zone for one in clients])
        return [clients[number] for number in numbers]

    # --- when ----------------------------------------------------------------------------------------

    def _plan(self, index: int, fault: Fault, place: int, name: str, begin: Act, end: Act) -> None:
        phase = fault.phase
        if phase is None:
            random = self._world.streams.stream("fault", index, name).random()
            phase = int(random * (fault.period or 0))
        self._next(windows(fault, place * fault.stagger, phase, self._world.end), f"{fault.kind} {name}", begin, end)

    def _next(self, times: Iterator[tuple[int, int | None]], what: str, begin: Act, end: Act) -> None:
        window = next(times, None)
        if window is not None:
            self._world.engine.at(window[0], self._begin, window[1], times, what, begin, end)

    def _begin(
        self, until: int | None, times: Iterator[tuple[int, int | None]], what: str, begin: Act, end: Act
    ) -> None:
        self._world.note_fault(f"{what} begins")
        begin()
        if until is not None:
            self._world.engine.at(until, self._end, times, what, begin, end)

    def _end(self, times: Iterator[tuple[int, int | None]], what: str, begin: Act, end: Act) -> None:
        self._world.note_fault(f"{what} ends")
        end()
        self._next(times, what, begin, end)

    # --- what ----------------------------------------------------------------------------------------

    def _of_server(self, fault: Fault, server: Server) -> tuple[Act, Act]:
        match fault.kind:
            case "crash":
                mode = _crash_mode(fault)
                return (lambda: server.crash(mode)), (lambda: server.restart(mode))
            case "health":
                return _of_health(fault, server)
            case "error":
                failing = (fault.rate, _code(fault), fault.latency)
                return (lambda: server.fail_calls(*failing)), (lambda: server.mend_calls(*failing))
            case "slow":
                return (lambda: server.slow_down(fault.factor)), (lambda: server.speed_up(fault.factor))
            case "pause":
                return server.pause, server.resume
            case "blackhole" | "partition":
                return self._of_cut(fault, server)
            case "goaway":
                return (lambda: self._go_away(fault, server)), _nothing
            case "drain":
                return self._of_drain(fault, server)
            case _:
                length = (fault.until or self._world.end) - fault.start
                return (lambda: server.backend.warm_up(fault.factor, length)), _nothing

    def _of_cut(self, fault: Fault, server: Server) -> tuple[Act, Act]:
        clients = self._clients(fault)

        def cut() -> None:
            for client in clients:
                self._world.path(client, server).cut()
                self._world.lanes.cut(client, server, 1)

        def heal() -> None:
            for client in clients:
                self._world.path(client, server).heal()
                self._world.lanes.cut(client, server, -1)

        return cut, heal

    def _go_away(self, fault: Fault, server: Server) -> None:
        paths = [self._world.path(client, server) for client in self._clients(fault)]
        server.go_away([link for link in server.links if link.path in paths])

    def _of_drain(self, fault: Fault, server: Server) -> tuple[Act, Act]:
        mode = _crash_mode(fault)
        status = int(ServingStatus.NOT_SERVING)
        occurrences = [0]
        stopped = [False]

        def stop(occurrence: int) -> None:
            if occurrence == occurrences[0]:
                stopped[0] = True
                server.crash(mode)

        def begin() -> None:
            server.fall_ill(status)
            self._world.engine.after(fault.drain, stop, occurrences[0])

        def end() -> None:
            occurrences[0] += 1
            if stopped[0]:
                stopped[0] = False
                server.restart(mode)
            server.recover(status)

        return begin, end

    def _of_resolver(self, fault: Fault) -> tuple[Act, Act]:
        resolver = self._world.resolver
        answer = fault.error or fault.addresses
        return (lambda: resolver.push(answer)), (lambda: resolver.take_back(answer))


def _nothing() -> None:
    """What a fault that is but a moment needs at its end."""


def _crash_mode(fault: Fault) -> str:
    mode = fault.mode or "rst"
    if mode not in ("rst", "blackhole", "half-open"):
        raise ConfigError(f"fault mode of {fault.kind} must be rst, blackhole or half-open, not {mode!r}")
    return mode


def _code(fault: Fault) -> Code:
    if fault.code not in Code.__members__:
        raise ConfigError(f"fault code must be the name of a status, not {fault.code!r}")
    return Code[fault.code]


def _of_health(fault: Fault, server: Server) -> tuple[Act, Act]:
    mode = fault.mode or "NOT_SERVING"
    if mode in _STATUSES:
        status = _STATUSES[mode]
        return (lambda: server.fall_ill(status)), (lambda: server.recover(status))
    if mode not in MODES:
        known = [*_STATUSES, *MODES]
        raise ConfigError(f"fault mode of health must be one of {', '.join(known)}, not {mode!r}")
    code = _code(fault)
    return (lambda: server.mislead(mode, code)), (lambda: server.come_clean(mode, code))
