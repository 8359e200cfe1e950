"""How one call of /test.Echo behaves: what its metadata asks for, and what was set for the whole server.

One rule: metadata of the call wins over `Backend.behave`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one call is to do.

    Attributes:
        call_id: the client's name for the call (`x-id`), counted in the journal; None without one.
        sleep: seconds before the answer (`x-sleep`).
        fail: the code to end with instead of an answer (`x-fail`), or None.
        details: text that goes with `fail` (`x-details`).
        has_early_headers: send the initial metadata before sleeping (`x-headers: 1`), not with the answer.
        has_echo: answer the request's body (`x-echo: 1`).
        count: messages of ServerStream (`x-count`), 3 by default.
        interval: seconds between two of them (`x-interval`).
        trailing: metadata to end with; names the server even where nothing else does.
    """

    call_id: str | None
    sleep: float
    fail: grpc.StatusCode | None
    details: str
    has_early_headers: bool
    has_echo: bool
    count: int
    interval: float
    trailing: tuple[tuple[str, str | bytes], ...]


class Steering:
    """Makes a `Plan` for each call; `behave` swaps the server-wide part as a whole, so no lock is needed."""

    def __init__(self, name: str) -> None:
        """Start with a server that answers at once."""
        self.name = name
        self._wide: dict[str, str] = {}

    def behave(self, **wanted: Any) -> None:
        """Replace the server-wide behaviour; the keys are those of the metadata, without their `x-`."""
        self._wide = {f"x-{key}": str(value) for key, value in wanted.items() if value is not None}

    def plan(self, metadata: Iterable[tuple[str, str | bytes]]) -> Plan:
        """Return what the call with this metadata is to do."""
        asked = self._wide | {key: str(value) for key, value in metadata if key.startswith("x-")}
        trailing: list[tuple[str, str | bytes]] = [("x-backend", self.name)]
        if "x-trailer" in asked:
            trailing.append(("x-trailer", asked["x-trailer"]))
        if "x-pushback" in asked:
            trailing.append(("grpc-retry-pushback-ms", asked["x-pushback"]))
        if "x-report" in asked:
            qps, cpu = (float(part) for part in asked["x-report"].split(","))
            binary = struct.pack("<BdBd", 1 << 3 | 1, cpu, 6 << 3 | 1, qps)
            trailing.append(("endpoint-load-metrics-bin", binary))
            trailing.append(("endpoint-load-metrics", f"TEXT cpu_utilization={cpu},rps_fractional={qps}"))
        return Plan(
            call_id=asked.get("x-id"),
            sleep=float(asked.get("x-sleep", 0)),
            fail=grpc.StatusCode[asked["x-fail"]] if "x-fail" in asked else None,
            details=asked.get("x-details", f"{self.name} was told to fail"),
            has_early_headers=asked.get("x-headers") == "1",
            has_echo=asked.get("x-echo") == "1",
            count=int(asked.get("x-count", 3)),
            interval=float(asked.get("x-interval", 0)),
            trailing=tuple(trailing),
        )

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The initial metadata of every call."""
        return (("x-backend", self.name),)
