"""Load reports of backends: ORCA's, as trailers (gRFC A51).

There are two forms. `endpoint-load-metrics-bin` holds an `xds.data.orca.v3.OrcaLoadReport`; `endpoint-load-metrics`
holds the same as text, as Envoy reads it: `TEXT cpu_utilization=0.5,rps_fractional=100`, or `JSON` and an object.
C-core keeps the binary one to itself, no grpcio client is shown it (seen on 1.85.1): there, it is the text that counts.

The one rule: what a server sends cannot hurt. A report that cannot be read is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from healthlb.core.wire import read_fields

BINARY_KEY = "endpoint-load-metrics-bin"
TEXT_KEY = "endpoint-load-metrics"

_NUMBERS = {1: "cpu_utilization", 2: "mem_utilization", 6: "qps", 7: "eps", 9: "application_utilization"}
_MAPS = {4: "request_cost", 5: "utilization", 8: "named_metrics"}
_OTHER_NAMES = {"rps_fractional": "qps"}
_HUMP = re.compile(r"[A-Z]")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a backend says of its load.

    Attributes:
        cpu_utilization: share of its CPU in use; may be above 1.
        mem_utilization: share of its memory in use.
        application_utilization: how full it finds itself; may be above 1.
        qps: queries per second that it serves.
        eps: errors per second that it answers.
        request_cost: what this call cost, by name.
        utilization: shares of other resources, by name.
        named_metrics: anything else, by name.
    """

    cpu_utilization: float = 0.0
    mem_utilization: float = 0.0
    application_utilization: float = 0.0
    qps: float = 0.0
    eps: float = 0.0
    request_cost: Mapping[str, float] = field(default_factory=dict)
    utilization: Mapping[str, float] = field(default_factory=dict)
    named_metrics: Mapping[str, float] = field(default_factory=dict)

    def metric(self, name: str) -> float | None:
        """Return a metric by its name in gRFC A114, such as `cpu_utilization` or `named_metrics.queue`.

        One that is 0 or no number counts as not reported: None, as for a name that nothing has.
        """
        group, _, key = name.partition(".")
        if key:
            value = getattr(self, group).get(key, 0.0) if group in _MAPS.values() else 0.0
        else:
            value = getattr(self, name) if name in _NUMBERS.values() else 0.0
        return value if value > 0 else None


def report_of(trailers: Iterable[tuple[str, Any]]) -> LoadReport | None:
    """Return the report among trailers, None where there is none."""
    for key, value in trailers:
        if key == TEXT_KEY and isinstance(value, str):
            return parse_text(value)
        if key == BINARY_KEY and isinstance(value, bytes):
            return parse_report(value)
    return None


def parse_text(text: str) -> LoadReport | None:
    """Return the report that `TEXT ...` or `JSON ...` holds, None where it holds none."""
    form, _, body = text.partition(" ")
    pairs: dict[str, Any]
    try:
        if form == "TEXT":
            pairs = dict(pair.strip().split("=") for pair in body.split(",") if pair.strip())
        elif form == "JSON":
            pairs = dict(_flat(json.loads(body)))
        else:
            return None
        return _from_pairs(pairs)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None


def _flat(value: Any) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        # Protobuf's JSON has humps.
        name = _HUMP.sub(lambda hump: f"_{hump[0].lower()}", key)
        if isinstance(inner, Mapping):
            yield from ((f"{name}.{part}", number) for part, number in inner.items())
        else:
            yield name, inner


def _from_pairs(pairs: Mapping[str, Any]) -> LoadReport:
    numbers: dict[str, float] = {}
    maps: dict[str, dict[str, float]] = {name: {} for name in _MAPS.values()}
    for key, value in pairs.items():
        name, _, part = key.partition(".")
        name = _OTHER_NAMES.get(name, name)
        if part and name in maps:
            maps[name][part] = float(value)
        elif name in _NUMBERS.values():
            numbers[name] = float(value)
    return LoadReport(**numbers, **maps)  # type: ignore[arg-type]


def parse_report(data: bytes) -> LoadReport | None:
    """Return the report that a trailer's value holds, None where it holds none."""
    numbers: dict[str, float] = {}
    maps: dict[str, dict[str, float]] = {name: {} for name in _MAPS.values()}
    try:
        for number, value in read_fields(data):
            if number in _NUMBERS and isinstance(value, float):
                numbers[_NUMBERS[number]] = value
            elif number in _MAPS and isinstance(value, bytes):
                entry = dict(read_fields(value))
                maps[_MAPS[number]][_text(entry.get(1, b""))] = _float(entry.get(2, 0.0))
    except ValueError:
        return None
    return LoadReport(**numbers, **maps)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        raise ValueError("not a string")
    return value.decode()


def _float(value: object) -> float:
    if not isinstance(value, float):
        raise ValueError("not a double")
    return value
