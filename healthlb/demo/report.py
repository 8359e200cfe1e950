"""The end of the demo: a summary for people, or a JSON document for programs."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from healthlb.demo.demo import Settings
from healthlb.demo.frame import FAULT_NAMES, spelled
from healthlb.demo.ledger import BackendFigures, FaultFigures, Summary


def show(summary: Summary, console: Console, is_plain: bool) -> None:
    """Print the tables and the verdict."""
    style = box.ASCII if is_plain else box.SIMPLE_HEAD
    console.print()
    console.print(_backends(summary, style))
    if summary.faults:
        console.print(_faults(summary, style))
    console.print(_totals(summary), soft_wrap=True)
    if summary.is_overloaded:
        console.print("this machine is too slow for that rate: calls waited for their turn, and may have failed for it")
    for problem in summary.problems:
        console.print(f"[bold red]{'X' if is_plain else '✖'}[/] {escape(problem)}", soft_wrap=True)
    console.print(_verdict(summary, is_plain), soft_wrap=True)


def to_json(summary: Summary, settings: Settings) -> str:
    """The summary as one document; times in seconds."""
    return json.dumps(
        {
            "settings": {
                "duration": settings.duration,
                "backends": settings.backends,
                "rate": settings.rate,
                "seed": settings.seed,
            },
            "elapsed": _rounded(summary.elapsed),
            "interrupted": summary.is_interrupted,
            "calls": summary.calls,
            "errors": summary.errors,
            "overloaded": summary.is_overloaded,
            "excused": summary.excused,
            "latency": {"p50": _rounded(summary.p50), "p99": _rounded(summary.p99)},
            "backends": [_backend_entry(backend) for backend in summary.backends],
            "faults": [_fault_entry(fault) for fault in summary.faults],
            "ok": summary.is_fine,
            "problems": list(summary.problems),
        },
        indent=2,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _backend_entry(backend: BackendFigures) -> dict[str, Any]:
    return {
        "address": backend.address,
        "calls": backend.calls,
        "errors": backend.errors,
        "share": round(backend.share, 4),
    }


def _fault_entry(fault: FaultFigures) -> dict[str, Any]:
    return {
        "kind": fault.kind.value,
        "address": fault.address,
        "at": _rounded(fault.at),
        "lasted": _rounded(fault.lasted),
        "calls_while_bad": fault.calls_while_bad,
        "last_call_after": _rounded(fault.last_call_after),
        "back_after": _rounded(fault.back_after),
        "excused": fault.excused,
    }


def _table(title: str, style: box.Box, texts: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    # No padding on the left but within frames, so that it fits 80 columns.
    padding = (0, 1) if style is box.ASCII else (0, 1, 0, 0)
    table = Table(box=style, title=title, title_justify="left", title_style="bold", padding=padding)
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _backends(summary: Summary, style: box.Box) -> Table:
    table = _table("Backends", style, ("backend",), ("calls", "errors", "share"))
    for backend in summary.backends:
        table.add_row(backend.address, f"{backend.calls:,}", _alarming(backend.errors), f"{backend.share:.1%}")
    return table


def _faults(summary: Summary, style: box.Box) -> Table:
    numbers = ("lasted", "calls\nto it", "last one\nafter", "lost", "back\nafter")
    table = _table("Faults", style, ("at", "fault", "backend"), numbers)
    for fault in summary.faults:
        table.add_row(
            f"{fault.at:.1f} s",
            FAULT_NAMES[fault.kind],
            fault.address,
            spelled(fault.lasted),
            str(fault.calls_while_bad),
            spelled(fault.last_call_after),
            _alarming(fault.excused),
            spelled(fault.back_after),
        )
    return table


def _alarming(count: int) -> str:
    return f"[yellow]{count:,}[/]" if count else "0"


def _totals(summary: Summary) -> str:
    end = " (interrupted)" if summary.is_interrupted else ""
    return (
        f"{summary.calls:,} call{'s' * (summary.calls != 1)} in {summary.elapsed:.1f} s{end}, "
        f"p50 {spelled(summary.p50)}, p99 {spelled(summary.p99)}\n"
        f"{summary.errors:,} failed, {summary.excused:,} of them because a backend died or froze with the call on it"
    )


def _verdict(summary: Summary, is_plain: bool) -> str:
    if summary.is_fine:
        return f"[bold green]{'OK' if is_plain else '✔'}[/] no call was lost that should not have been"
    return f"[bold red]{'FAILED' if is_plain else '✖ failed'}[/]: see above"
