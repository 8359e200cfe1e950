"""Plays a spec file on a Balancer; see tests/specs/README.md for the format.

The one rule: a spec says all that counts. Time runs to a phase with a Tick at each deadline, as a driver
would send it; Watches and Checks go by their place (the first, the second ...), not by their number.
"""

from __future__ import annotations

import dataclasses
import enum
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

from healthlb.config import Backoff, FlapDamping, HealthCheck, Heartbeat, SlowStart
from healthlb.config.outliers import FailurePercentage, Outliers, SuccessRate
from healthlb.core import messages
from healthlb.core.balancer import Balancer
from healthlb.core.load import Verdict
from healthlb.core.messages import (
    SECOND,
    CallFailed,
    Code,
    ConnectivityState,
    Endpoint,
    Event,
    Probe,
    ProbeEnded,
    Report,
    SendCheck,
    ServingStatus,
    StartWatch,
    Tick,
)
from healthlb.core.pickers import ANY_CALL
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.core.subchannel.dialling import Pace
from tests.core.configs import config_of

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.toml"))

_START = 1_000 * SECOND  # so that no time is 0 by chance
_HEADER = {
    "title", "source", "service", "is_checked", "health", "outliers", "panic_threshold", "slow_start", "keep", "drain",
    "phases",
}  # fmt: skip
_INPUTS = {"title", "at", "stalls", "events"}
_EXPECTATIONS = {
    "states", "state", "reasons", "serving", "ready", "picks", "failure", "effects", "facts", "is_rebuilt", "deadline",
    "absent", "ejected", "probes", "damped", "is_panicking", "weights", "hung", "refused",
}  # fmt: skip
_NUMBERED = {"watch": StartWatch, "check": SendCheck}


class SpecError(Exception):
    """The spec file itself is wrong."""


def read(path: Path) -> dict[str, Any]:
    """Read a spec; a key that means nothing is an error, since it would check nothing."""
    spec = tomllib.loads(path.read_text())
    _refuse_unknown(spec, _HEADER)
    for phase in spec["phases"]:
        _refuse_unknown(phase, _INPUTS | _EXPECTATIONS)
    if not all(_EXPECTATIONS & phase.keys() for phase in (spec["phases"][0], spec["phases"][-1])):
        raise SpecError("the first and the last phase must expect something")
    return spec


def _refuse_unknown(table: dict[str, Any], known: set[str]) -> None:
    if unknown := table.keys() - known:
        raise SpecError(f"unknown keys: {sorted(unknown)}")


class World:
    """One spec's balancer, and what it has asked for."""

    def __init__(self, spec: dict[str, Any]) -> None:
        service = spec.get("service", "svc") if spec.get("is_checked", True) else None
        self._outliers = _outliers(spec["outliers"]) if "outliers" in spec else None
        pace = Pace()
        self.balancer = Balancer(
            service,
            config_of(
                _policy(spec.get("health", {})),
                outliers=self._outliers,
                panic_threshold=spec.get("panic_threshold", 0.0),
                slow_start=SlowStart(**spec["slow_start"]) if "slow_start" in spec else None,
                drain=spec.get("drain"),
            ),
            seed=1,
            pace=pace,
            keep=spec.get("keep", 0.0),
        )
        self._pace = pace
        self._probes_ended: list[ProbeEnded] = []
        self._now = _START
        self._numbers: dict[tuple[type, int], list[int]] = defaultdict(list)
        self._generations: dict[int, int] = {}
        self._fresh = 0

    def play(self, phase: dict[str, Any]) -> None:
        """Let time run to the phase, then tell its events; check what it expects."""
        before = self.balancer.snapshot.ready
        effects = self._run_to(_START + _ns(phase["at"]), stalls=phase.get("stalls", False)) if "at" in phase else []
        for name, *values in phase.get("events", []):
            effects += self._tell(name, values)
        is_rebuilt = self.balancer.snapshot.ready is not before
        names = [type(effect).__name__ for effect in effects]

        expected = {key: phase[key] for key in _EXPECTATIONS & phase.keys() if key not in ("deadline", "absent")}
        observed = {
            "effects": [self._plain(effect) for effect in effects if not isinstance(effect, Report)],
            "facts": [self._plain(effect.fact) for effect in effects if isinstance(effect, Report)],
            "is_rebuilt": is_rebuilt,
            **self._picture(),
        }
        for key in ("reasons", "serving", "weights"):  # these may name some addresses only
            observed[key] = {address: observed[key].get(address) for address in phase.get(key, {})}
        assert {key: observed[key] for key in expected} == expected
        assert [name for name in phase.get("absent", []) if name in names] == []
        if "deadline" in phase:
            self._check_deadline(phase["deadline"])

    def _run_to(self, end: int, *, stalls: bool) -> list[Any]:
        if end < self._now:
            raise SpecError("time goes back")
        effects = []
        if stalls:
            self._now = end
        while (deadline := self.balancer.deadline) is not None and deadline <= end:
            self._now = max(self._now, deadline)
            effects += self._handle(Tick())
        self._now = end
        return effects

    def _tell(self, name: str, values: list[Any]) -> list[Any]:
        if name == "call_succeeded":
            self._handle_of(*values).load.start()
            self._handle_of(*values).load.succeed(self._now)
            return []
        if name == "call_began":
            assert self._handle_of(*values).load.start()
            return []
        if name == "call_ended":
            return self._end(self._handle_of(values[0]), values[1])
        if name == "calls":
            return self._calls(*values)
        if name == "begun":
            handle = self._handle_of(*values)
            handle.load.take_probe(True)
            assert handle.load.start()
            return []
        if name == "well":
            return self._well(*values)
        if name == "other_watches":
            return [self._pace.dials.watches.reserve(self._now) for _ in range(*values)][:0]
        if name == "status":
            sub, status = values
            return self._tell("HealthReported", [sub, len(self._numbers[StartWatch, sub]), status])
        if name in ("statuses", "flaps", "loses"):
            return getattr(self, f"_{name}")(*values)
        kind = getattr(messages, name)
        names = [field.name for field in dataclasses.fields(kind)]
        arguments = {field: self._value(field, value, values) for field, value in zip(names, values, strict=False)}
        return self._handle(kind(**arguments))

    def _calls(self, sub: int, code: str, count: int = 1) -> list[Any]:
        effects = []
        for _ in range(count):
            handle = self._handle_of(sub)
            handle.load.take_probe(True)
            assert handle.load.start()
            effects += self._end(handle, code)
        return effects

    def _statuses(self, sub: int, count: int, *statuses: str) -> list[Any]:
        effects = []
        for number in range(count):
            effects += self._tell("status", [sub, statuses[number % len(statuses)]])
        return effects

    def _flaps(self, sub: int, count: int, seconds: float) -> list[Any]:
        effects = []
        for number in range(count):
            effects += self._run_to(self._now + _ns(seconds), stalls=False)
            effects += self._tell("status", [sub, "SERVING" if number % 2 else "NOT_SERVING"])
        return effects

    def _loses(self, sub: int, count: int) -> list[Any]:
        effects = []
        for _ in range(count):
            effects += self._tell("ConnectivityChanged", [sub, "READY"])
            effects += self._tell("status", [sub, "SERVING"])
            effects += self._tell("ConnectivityChanged", [sub, "IDLE"])
        return effects

    def _well(self, *subs: int) -> list[Any]:
        effects = []
        for sub in subs:
            self._fresh += 1
            effects += self._tell("ConnectivityChanged", [sub, "READY"])
            effects += self._tell("DataReady", [sub, self._fresh])
            # The Watch on an address that is new to a channel that serves waits a moment.
            if not any(isinstance(effect, StartWatch) and effect.sub == sub for effect in effects):
                effects += self._run_to(self._now + _ns(0.02), stalls=False)
            effects += self._tell("status", [sub, "SERVING"])
        return effects

    def _end(self, handle: Any, code: str) -> list[Any]:
        effects = []
        if code == "OK":
            handle.load.succeed(self._now)
        elif code == "abandoned":
            handle.load.abandon()
        else:
            assert self._outliers is not None
            counted = Verdict.LATE if code == "DEADLINE_EXCEEDED" else Verdict.FAILURE
            handle.load.fail(counted if code in self._outliers.codes else Verdict.ANSWER)
            effects += self._handle(CallFailed(handle.id, handle.generation, Code[code]))
        while self._probes_ended:
            effects += self._handle(self._probes_ended.pop())
        return effects

    def _handle_of(self, sub: int) -> Any:
        snapshot = self.balancer.snapshot
        return next(handle for handle in snapshot.ready + snapshot.probes if handle.id == sub)

    def _handle(self, event: Event) -> list[Any]:
        effects = self.balancer.handle(event, self._now)
        for effect in effects:
            if isinstance(effect, Probe):
                ended = ProbeEnded(effect.subchannel.id, effect.subchannel.generation)
                effect.subchannel.load.offer_probe(lambda ended=ended: self._probes_ended.append(ended))
            for field, kind in _NUMBERED.items():
                if isinstance(effect, kind):
                    self._numbers[kind, effect.sub].append(getattr(effect, field))
        return effects

    def _value(self, field: str, value: Any, values: list[Any]) -> Any:
        match field:
            case "endpoints":
                return tuple(Endpoint(one) if isinstance(one, str) else Endpoint(**one) for one in value)
            case "state":
                return ConnectivityState[value]
            case "status":
                return ServingStatus[value] if isinstance(value, str) else value
            case "code":
                return Code[value]
            case "watch" | "check":
                # A number that was never given out stands for nonsense.
                numbers = self._numbers[_NUMBERED[field], values[0]]
                return numbers[value - 1] if value <= len(numbers) else 10_000 + value
        return value

    def _plain(self, message: Any) -> list[Any]:
        names = [field.name for field in dataclasses.fields(message) if field.name != "at"]
        fields = {name: getattr(message, name) for name in names}
        for field, kind in _NUMBERED.items():
            if field in fields:
                fields[field] = self._numbers[kind, message.sub].index(fields[field]) + 1
        if "subchannel" in fields:
            handle = fields.pop("subchannel")
            fields = {"sub": handle.id, "generation": handle.generation, **fields}
        if "timeout" in fields:
            fields["timeout"] /= SECOND
        if "list_age" in fields:
            age = fields.pop("list_age")
            fields |= {} if age is None else {"list_age": age / SECOND}
        for count in ("changes", "failures"):
            if fields.get(count) == 1:
                del fields[count]
        if "duration" in fields:
            fields["duration"] = round(fields["duration"] / SECOND, 3)
        if "penalty" in fields:
            fields["penalty"] = round(fields["penalty"], 1)
        return [type(message).__name__, *(_plain_value(value) for value in fields.values())]

    def _picture(self) -> dict[str, Any]:
        snapshot = self.balancer.snapshot
        views = {view.endpoint.address: view for view in snapshot.views}
        picker = RoundRobin().build(snapshot.ready)
        picks = [picker.pick(ANY_CALL) for _ in range(2 * len(snapshot.ready))]
        return {
            "states": {address: view.state.name for address, view in views.items()},
            "state": snapshot.state.name,
            "reasons": {address: view.reason for address, view in views.items()},
            "serving": {address: _serving_name(view.serving) for address, view in views.items()},
            "ready": [handle.address for handle in snapshot.ready],
            "picks": sorted({handle.address for handle in picks if handle is not None}),
            "ejected": [address for address, view in views.items() if view.is_ejected],
            "damped": [address for address, view in views.items() if view.is_damped],
            "is_panicking": snapshot.is_panicking,
            "hung": snapshot.shedding.hung if snapshot.shedding else 0,
            "refused": round(snapshot.shedding.share, 3) if snapshot.shedding else 0,
            "weights": {address: round(view.weight, 6) for address, view in views.items()},
            "probes": [handle.address for handle in snapshot.probes],
            "failure": snapshot.failure.details if snapshot.failure else "",
        }

    def _check_deadline(self, expected: float | str | list[float]) -> None:
        deadline = self.balancer.deadline
        if expected == "none":
            assert deadline is None
            return
        assert deadline is not None
        low, high = expected if isinstance(expected, list) else (expected, expected)
        assert _START + _ns(low) <= deadline <= _START + _ns(high), (deadline - _START) / SECOND


def _policy(table: dict[str, Any]) -> HealthCheck:
    fields = dict(table)
    for name, defaults in (("backoff", {}), ("reconnect", {"initial": 0.2, "maximum": 1.0})):
        fields[name] = Backoff(**{"jitter": 0.0, **defaults, **fields.get(name, {})})
    if "damping" in fields:
        fields["damping"] = FlapDamping(**fields["damping"])
    fields["heartbeat"] = Heartbeat(**fields["heartbeat"]) if "heartbeat" in fields else None
    return HealthCheck(**fields)


def _outliers(table: dict[str, Any]) -> Outliers:
    fields: dict[str, Any] = {"jitter": 0.0, **table}
    for name, kind in (("success_rate", SuccessRate), ("failure_percentage", FailurePercentage)):
        if name in fields:
            fields[name] = kind(**fields[name]) if isinstance(fields[name], dict) else None
    if fields.get("ejection_growth") is False:
        fields["ejection_growth"] = None
    return Outliers(**fields)


def _ns(seconds: float | str) -> int:
    return round(float(seconds) * SECOND)


def _serving_name(status: int | None) -> str:
    return "" if status is None else ServingStatus(status).name if status in set(ServingStatus) else str(status)


def _plain_value(value: Any) -> Any:
    match value:
        case Endpoint(address):
            return address
        case enum.Enum():
            return value.name
    return value
