"""The page around the figures: title, verdict, checks, summary, a section for each policy, the scenario's text.

The one rule: a page is whole in itself. It loads nothing, runs nothing and says in words whatever it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from healthlb.simulation.record import RunRecord
from healthlb.simulation.report import balance, delays, palette, traffic
from healthlb.simulation.report.figure import Figure
from healthlb.simulation.report.lanes import lanes, margin_for
from healthlb.simulation.report.markup import Markup, join, tag
from healthlb.simulation.report.matrix import matrix
from healthlb.simulation.report.metrics import METRICS, TILES, metric, written
from healthlb.simulation.report.paired import estimate
from healthlb.simulation.report.scale import DASH
from healthlb.simulation.report.style import PAGE
from healthlb.simulation.report.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One check of a scenario and what became of it.

    Attributes:
        name: of the check.
        holds: whether it does.
        check: its expression.
        policy: for which policy it was checked.
        numbers: what its parts came to, in words; may be "".
        why: the law behind it.
    """

    name: str
    holds: bool
    check: str
    policy: str = ""
    numbers: str = ""
    why: str = ""


def page(title: str, *parts: Markup | None) -> str:
    """Return a whole page."""
    looks = tag("svg", palette.patterns(palette.every_look()), class_="unseen", aria_hidden="true", width=0, height=0)
    head = tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content="healthlb"), tag("title", title), tag("style", Markup(PAGE)),
        tag("link", rel="icon", href="data:,"),
    )  # fmt: skip
    body = tag("body", looks, tag("main", *parts))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def header(kicker: str, title: str, facts: Sequence[tuple[str, str]]) -> Markup:
    """Return the head of a page: what it is, what it is about, and the facts that make it repeatable."""
    items = join(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value)
    return tag("header", tag("p", kicker, class_="kicker"), tag("h1", title), tag("dl", items, class_="facts"))


def checks(verdicts: Sequence[Verdict]) -> Markup | None:
    """Return the verdict in one line, and the table of all checks behind it; None where there are none."""
    if not verdicts:
        return None
    failed = sum(not one.holds for one in verdicts)
    words = f"✓ All {len(verdicts)} checks hold" if not failed else f"✗ {failed} of {len(verdicts)} checks do not hold"
    if len(verdicts) == 1:
        words = "✗ The one check does not hold" if failed else "✓ The one check holds"
    rows = tuple(
        (
            one.name, tag("span", "✓ holds" if one.holds else "✗ fails", class_="good" if one.holds else "bad"),
            one.policy or "all", tag("code", one.check), one.numbers, one.why,
        )
        for one in sorted(verdicts, key=lambda one: one.holds)
    )  # fmt: skip
    table = Table("What had to hold", ("Check", "Verdict", "Policy", "Expression", "Numbers", "Why"), rows)
    return tag(
        "section", tag("p", words, class_="verdict bad" if failed else "verdict"), tag("h2", "Checks"),
        table.markup(class_="checks"), id="checks",
    )  # fmt: skip


def tiles(runs: Sequence[RunRecord]) -> Markup:
    """Return the few numbers that matter most, as means over the replications."""
    known = [name for name in TILES if all(name in run.metrics for run in runs)]
    items = (
        tag("div", tag("dt", metric(name).says), tag("dd", metric(name).write(_mean(runs, name)))) for name in known
    )
    return tag("dl", join(items), class_="tiles")


def _mean(runs: Sequence[RunRecord], name: str) -> float:
    return estimate([run.metrics[name] for run in runs]).mean


def figures(run: RunRecord, prefix: str) -> list[Figure]:
    """Return all figures of one run; their time axes stand below one another."""
    left = margin_for([lane.backend for lane in run.lanes])
    made = [
        lanes(run, f"{prefix}-lanes", left), traffic.goodput(run, f"{prefix}-goodput", left),
        traffic.errors(run, f"{prefix}-errors", left), delays.latency(run, f"{prefix}-latency", left),
        balance.imbalance(run, f"{prefix}-imbalance", left), balance.starts(run, f"{prefix}-starts", left),
        balance.tokens(run, f"{prefix}-tokens", left), matrix(run, f"{prefix}-matrix"),
    ]  # fmt: skip
    return [figure for figure in made if figure is not None]


def numbers(groups: dict[str, list[RunRecord]]) -> Markup:
    """Return all metrics of all policies, as means over replications with 95 % intervals."""
    names = {name: None for runs in groups.values() for run in runs for name in run.metrics}
    order = [name for name in METRICS if name in names] + [name for name in names if name not in METRICS]
    rows = tuple(
        (metric(name).says, *(_written(name, runs) for runs in groups.values()), tag("code", name)) for name in order
    )
    table = Table("Means over replications, ± half a 95 % interval", ("Metric", *groups, "Name in checks"), rows)
    return tag("section", tag("h2", "All numbers"), table.markup(), id="numbers")


def _written(name: str, runs: Sequence[RunRecord]) -> str:
    values = [run.metrics[name] for run in runs if name in run.metrics]
    return written(name, estimate(values)) if values else DASH


def source(text: str) -> Markup | None:
    """Return the scenario's text, or None where it is not known."""
    if not text:
        return None
    return tag("section", tag("h2", "Scenario"), tag("pre", tag("code", text), tabindex=0), id="scenario")
