"""Writes what came of a scenario into a folder: `run.json`, `bins.csv.gz` and `lanes.jsonl.gz`.

The same runs give the same bytes. What differs from machine to machine is in the manifest, apart.

    run.json        what was run, with which code; metrics, latencies and trace hash of each run; the checks
    bins.csv.gz     a row for each 100 ms: the whole fleet's where `backend` is empty, and one for each backend
    lanes.jsonl.gz  a line for each change of what a backend was, or was taken for by the first client
    trace.txt.gz    with `--trace 3`: every pick, completion, fact and fault
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from healthlb.simulation.running import Outcome
from healthlb.simulation.sweep.cells import engine_version, fingerprint
from healthlb.simulation.world.record import RunRecord, Steps

_FLEET = ("offered", "ok", "connects", "watch_starts", "tokens")


def write_results(folder: Path, outcome: Outcome, content: Mapping[str, Any]) -> None:
    """Write all files; the folder is made where there is none, and files of a run before are replaced.

    Args:
        folder: where to.
        outcome: what came of it.
        content: of the scenario's file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(manifest(outcome, content), indent=1) + "\n")
    _write_packed(folder / "bins.csv.gz", _csv(_bin_rows(outcome)))
    _write_packed(folder / "lanes.jsonl.gz", "".join(json.dumps(line) + "\n" for line in _lane_lines(outcome)))
    traces = [line for record in outcome.records for line in _trace_lines(record)]
    if traces:
        _write_packed(folder / "trace.txt.gz", "\n".join(traces) + "\n")


def manifest(outcome: Outcome, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `run.json` holds."""
    scenario = outcome.scenario
    return {
        "schema": 1,
        "scenario": scenario.name,
        "title": scenario.title,
        "hash": fingerprint(json.loads(json.dumps(content, default=str))),
        "seed": scenario.seed,
        "replications": scenario.replications,
        "seconds": scenario.duration / 1e9,
        "is_complete": outcome.is_complete,
        "holds": outcome.is_good,
        "version": _version(),
        "engine": engine_version(),
        "platform": f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}",
        "checks": [asdict(check) for check in outcome.checks],
        "runs": [_run(record) for record in outcome.records],
        "content": content,
    }


def _version() -> str:
    try:
        return metadata.version("healthlb")
    except metadata.PackageNotFoundError:
        return "unknown"


def _run(record: RunRecord) -> dict[str, Any]:
    return {
        "policy": record.policy,
        "replication": record.replication,
        "trace_hash": record.trace_hash,
        "events": record.events,
        "cpu_seconds": round(record.cpu_seconds, 3),
        "metrics": dict(record.metrics),
        "errors": {code: sum(values) for code, values in record.bins.errors.items()},
        "latency": record.latency.to_json(),
    }


def _write_packed(path: Path, text: str) -> None:
    # Without a time and a name in its head, so that equal content is equal bytes.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _csv(rows: Iterable[Mapping[str, object]]) -> str:
    found = list(rows)
    names = list(dict.fromkeys(name for row in found for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return stream.getvalue()


def _bin_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    for record in outcome.records:
        bins = record.bins
        truth = {lane.backend: _at_bins(lane.truth, bins.width, len(bins.arrivals)) for lane in record.lanes}
        belief = {lane.backend: _at_bins(lane.belief, bins.width, len(bins.arrivals)) for lane in record.lanes}
        for place in range(len(bins.arrivals)):
            head = {
                "policy": record.policy,
                "replication": record.replication,
                "time": f"{place * bins.width / 1e9:.1f}",
            }
            fleet = (bins.arrivals, bins.ok, bins.connects, bins.watch_starts, bins.tokens)
            errors = {f"errors_{code}": values[place] for code, values in bins.errors.items()}
            sums = {name: values[place] for name, values in zip(_FLEET, fleet, strict=True)}
            yield {**head, "backend": "", "sent": bins.attempts[place], **sums, **errors}
            for name, picks in bins.picks.items():
                states = {"truth": truth[name][place], "belief": belief[name][place]}
                yield {**head, "backend": name, "sent": picks[place], **states}


def _at_bins(steps: Steps, width: int, count: int) -> list[str]:
    """Return what a step function is at the beginning of each bin."""
    found, place = [], 0
    for number in range(count):
        while place + 1 < len(steps) and steps[place + 1][0] <= number * width:
            place += 1
        found.append(steps[place][1])
    return found


def _lane_lines(outcome: Outcome) -> Iterator[dict[str, object]]:
    for record in outcome.records:
        changes = [
            (time, lane.backend, what, state)
            for lane in record.lanes
            for what, steps in (("truth", lane.truth), ("belief", lane.belief))
            for time, state in steps
        ]
        for time, backend, what, state in sorted(changes, key=lambda change: change[0]):
            head = {"policy": record.policy, "replication": record.replication}
            yield {**head, "ns": time, "backend": backend, what: state}


def _trace_lines(record: RunRecord) -> list[str]:
    if not record.trace:
        return []
    return [f"# policy {record.policy}, replication {record.replication}", *record.trace]
