"""Whole reports: of a run, of several policies, of a sweep.

The same arguments give the same bytes. Nothing of the machine, the day or the process goes into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from healthlb.simulation.report import overlay
from healthlb.simulation.report.comparison import by_policy, compared
from healthlb.simulation.report.delays import distributions, merged
from healthlb.simulation.report.figure import LEFT
from healthlb.simulation.report.heatmap import HeatMap, heat_map
from healthlb.simulation.report.markup import Markup, Table, join, tag
from healthlb.simulation.report.metrics import TILES, lost, metric
from healthlb.simulation.report.page import (
    Checked,
    checks,
    contents,
    figures,
    header,
    losses,
    marked,
    numbers,
    page,
    source,
    survivors_note,
    tiles,
    verdict,
)
from healthlb.simulation.report.scale import DASH, SECOND, plain, seconds
from healthlb.simulation.report.shares import shares
from healthlb.simulation.world.record import RunRecord

if TYPE_CHECKING:
    from healthlb.simulation.running import Outcome


def render_run(
    record: RunRecord, *, replications: Sequence[RunRecord] = (), results: Sequence[Checked] = (), text: str = ""
) -> str:
    """Return the report of a run.

    Args:
        record: the run that is drawn.
        replications: others of the same policy, for means with confidence; `record` may be among them.
        results: of the scenario's checks.
        text: of the scenario.
    """
    others = [run for run in replications if run.replication != record.replication]
    return _report([record, *others], "Simulation", results, text)


def render_comparison(records: Sequence[RunRecord], *, results: Sequence[Checked] = (), text: str = "") -> str:
    """Return the report of one scenario under several policies; the first that comes is what others are compared with.

    Args:
        records: of all policies and replications; at least one.
        results: of the scenario's checks.
        text: of the scenario.
    """
    return _report(records, "Comparison", results, text)


def render_outcome(outcome: Outcome, *, text: str = "") -> str:
    """Return the report of all that was run of a scenario: a comparison if there were several policies.

    Args:
        outcome: with at least one record.
        text: of the scenario.
    """
    records = outcome.records
    if len(by_policy(records)) > 1:
        return render_comparison(records, results=outcome.checks, text=text)
    return render_run(records[0], replications=records, results=outcome.checks, text=text)


def render_maps(title: str, maps: Sequence[HeatMap], *, says: str = "", text: str = "") -> str:
    """Return the report of a sweep.

    Args:
        title: of the sweep.
        maps: what to draw.
        says: what the sweep was about, and how large it was.
        text: of the sweep's file.
    """
    drawn = (heat_map(shown, f"map{index}").markup() for index, shown in enumerate(maps))
    lead = tag("p", says, class_="lead") if says else None
    return page(title, header("healthlb simulate · Sweep", title, ()), lead, *drawn, source(text), _footer())


def _report(records: Sequence[RunRecord], kind: str, results: Sequence[Checked], text: str) -> str:
    groups = by_policy(records)
    first = records[0]
    title = first.title or first.scenario
    several = len(groups) > 1
    sections = [_section(policy, runs, index, several) for index, (policy, runs) in enumerate(groups.items())]
    # Checks that hold can wait; one that fails is what the reader has come for.
    table = checks(results)
    is_bad = any(one.holds is False for one in results)
    places = [
        ("comparison", "Comparison" if several else ""),
        *((f"policy{index}", _heading(policy, several)) for index, policy in enumerate(groups)),
        ("checks", "Checks" if results else ""), ("numbers", "All numbers"), ("scenario", "Scenario" if text else ""),
    ]  # fmt: skip
    return page(
        f"{title} {DASH} {first.scenario}",
        header(f"healthlb simulate · {kind} · {first.scenario}", title, _facts(records)), losses(groups),
        verdict(results, groups),
        contents([place for place in places if place[1]]), table if is_bad else None, _comparison(groups), *sections,
        None if is_bad else table, numbers(groups), source(text), _footer(),
    )  # fmt: skip


def _facts(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    first = records[0]
    groups = by_policy(records)
    return [
        ("Policies" if len(groups) > 1 else "Policy", ", ".join(groups)),
        ("Seed", str(first.seed)),
        ("Replications", str(max(map(len, groups.values())))),
        ("Duration", seconds(first.duration / SECOND)),
        ("Warm-up", seconds(first.warmup / SECOND) if first.warmup else ""),
        ("Backends", str(len(first.lanes))),
        ("Calls", plain(sum(sum(run.bins.arrivals) for run in records))),
        ("Trace", ", ".join(runs[0].trace_hash[:16] for runs in groups.values() if runs[0].trace_hash)),
    ]


def _comparison(groups: dict[str, list[RunRecord]]) -> Markup | None:
    if len(groups) < 2:
        return None
    base, *others = groups.values()
    histograms = {policy: merged(tuple(run.latency for run in runs)) for policy, runs in groups.items()}
    drawn = [compared(base, runs, f"against{index}") for index, runs in enumerate(others)]
    firsts = {policy: runs[0] for policy, runs in groups.items()}
    overlays = [
        overlay.successes(firsts, "over-successes"), overlay.slowness(firsts, "over-slowness"),
        shares(firsts, "over-shares"), distributions(histograms, "distributions", LEFT),
    ]  # fmt: skip
    least = min(map(lost, groups.values()))
    known = [name for name in TILES if all(name in run.metrics for runs in groups.values() for run in runs)]
    rows = tuple((policy, *(marked(name, runs, least) for name in known)) for policy, runs in groups.items())
    heads = ("Policy", *(metric(name).says for name in known))
    summary = Table("The policies at a glance", heads, rows)
    return tag(
        "section", tag("h2", "Comparison"), summary.markup(), survivors_note(groups),
        join(figure.markup() for figure in [*overlays, *drawn] if figure is not None), id="comparison",
    )  # fmt: skip


def _section(policy: str, runs: Sequence[RunRecord], index: int, is_one_of_many: bool) -> Markup:
    drawn = f"Drawn is replication {runs[0].replication} of {len(runs)}. " if len(runs) > 1 else ""
    lead = tag("p", f"{drawn}The numbers leave the warm-up out.", class_="lead")
    made = join(figure.markup() for figure in figures(runs[0], f"run{index}"))
    return tag("section", tag("h2", _heading(policy, is_one_of_many)), lead, tiles(runs), made, id=f"policy{index}")


def _heading(policy: str, is_one_of_many: bool) -> str:
    return f"Policy {policy}" if is_one_of_many else "What happened"


def _footer() -> Markup:
    return tag("footer", "Made by healthlb simulate. The same scenario, seed and version give the same report.")
