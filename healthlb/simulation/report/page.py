"""The page around the figures: title, verdict, checks, summary, a section for each policy, the scenario's text.

A page is whole in itself. It loads nothing, runs nothing and says in words whatever it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.report import balance, delays, palette, traffic
from healthlb.simulation.report.figure import Figure, margin_for
from healthlb.simulation.report.lanes import lanes
from healthlb.simulation.report.markup import Child, Markup, Table, join, tag
from healthlb.simulation.report.matrix import matrix
from healthlb.simulation.report.metrics import DAGGER, METRICS, TILES, is_of_survivors, lost, metric, written
from healthlb.simulation.report.scale import DASH, share
from healthlb.simulation.report.style import PAGE
from healthlb.simulation.world.record import RunRecord

# Of the calls; who loses more is marked.
_MANY = 0.01


class Checked(Protocol):
    """One check of a scenario under one policy and what became of it, as `checks.CheckResult`."""

    @property
    def name(self) -> str:
        """Of the check."""

    @property
    def policy(self) -> str:
        """Under which it was made."""

    @property
    def check(self) -> str:
        """The expression."""

    @property
    def why(self) -> str:
        """The law behind it."""

    @property
    def holds(self) -> bool | None:
        """Whether it held; None where it could not be made."""

    @property
    def found(self) -> str:
        """The numbers that went in."""

    @property
    def failed(self) -> tuple[int, ...]:
        """The replications in which it failed."""


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


def contents(sections: Sequence[tuple[str, str]]) -> Markup:
    """Return links to the sections, given by their ids and names."""
    return tag("nav", join((tag("a", name, href=f"#{id_}") for id_, name in sections), " "), aria_label="Sections")


def verdict(results: Sequence[Checked], groups: Mapping[str, Sequence[RunRecord]]) -> Markup | None:
    """Return what became of the checks in one line; None where there are none.

    Where a policy loses many calls, checks that hold are no reason to be glad: they say that it loses what is expected.
    """
    if not results:
        return None
    failed = any(one.holds is False for one in results)
    is_lossy = any(lost(runs) > _MANY for runs in groups.values())
    words = _in_one_line(results)
    if is_lossy and not failed:
        return tag("p", f"{words}: what the scenario expects, its losses included", class_="verdict quiet")
    return tag("p", words, class_="verdict bad" if failed else "verdict")


def losses(groups: Mapping[str, Sequence[RunRecord]]) -> Markup | None:
    """Return which policies lose how many calls, the worst first; None where that is not known."""
    shares = sorted(((lost(runs), policy) for policy, runs in groups.items()), key=lambda one: -one[0])
    if not all("error_ratio" in run.metrics for runs in groups.values() for run in runs):
        return None
    rows = [_loss(policy, part, len(shares) > 1) for part, policy in shares]
    return tag("dl", join(rows), class_="losses", aria_label="Calls that each policy loses")


def _loss(policy: str, part: float, is_one_of_many: bool) -> Markup:
    name = f"{policy} loses" if is_one_of_many else "lost"
    words = f"{share(part)} of its calls" if is_one_of_many else f"{share(part)} of the calls"
    bar = tag("span", tag("i", style=f"width:{100 * min(1.0, part):.2f}%"), class_="bar", aria_hidden="true")
    return tag("div", tag("dt", name), tag("dd", bar, tag("strong", words)), class_="bad" if part > _MANY else None)


def checks(results: Sequence[Checked]) -> Markup | None:
    """Return the table of all checks, first those that fail; None where there are none."""
    if not results:
        return None
    rows = tuple(_check(one) for one in sorted(results, key=lambda one: one.holds is not False))
    table = Table("What had to hold", ("Check", "Verdict", "Policy", "Expression", "Numbers", "Why"), rows)
    return tag("section", tag("h2", "Checks"), table.markup(class_="checks"), id="checks")


def _in_one_line(results: Sequence[Checked]) -> str:
    count = len(results)
    failed, unmade = (sum(one.holds is holds for one in results) for holds in (False, None))
    if failed:
        return f"✗ {failed} of {count} checks {'do' if failed > 1 else 'does'} not hold"
    if unmade:
        return f"✓ {count - unmade} of {count} checks hold, {unmade} could not be made"
    return f"✓ All {count} checks hold" if count > 1 else "✓ The one check holds"


def _check(one: Checked) -> tuple[Child, ...]:
    words, class_ = {True: ("✓ holds", "good"), False: ("✗ fails", "bad"), None: ("? not made", "open")}[one.holds]
    if one.failed:
        words += f" in replication {', '.join(map(str, one.failed[:5]))}" + (" …" if len(one.failed) > 5 else "")
    return one.name, tag("span", words, class_=class_), one.policy, tag("code", one.check), one.found, one.why


def tiles(runs: Sequence[RunRecord]) -> Markup:
    """Return the few numbers that matter most, as means over the replications."""
    known = [name for name in TILES if all(name in run.metrics for run in runs)]
    items = (
        tag("div", tag("dt", metric(name).says), tag("dd", metric(name).write(_mean(runs, name)))) for name in known
    )
    return tag("dl", join(items), class_="tiles")


def _mean(runs: Sequence[RunRecord], name: str) -> float:
    return Estimate.of([run.metrics[name] for run in runs]).mean


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
    least = min(map(lost, groups.values()))
    rows = tuple(
        (metric(name).says, *(_written(name, runs, least) for runs in groups.values()), tag("code", name))
        for name in order
    )
    table = Table("Means over replications, ± half a 95 % interval", ("Metric", *groups, "Name in checks"), rows)
    return tag("section", tag("h2", "All numbers"), table.markup(), survivors_note(groups), id="numbers")


def survivors_note(groups: Mapping[str, Sequence[RunRecord]]) -> Markup | None:
    """Return what the dagger beside a latency means, None where none has it."""
    most, least = (choose(map(lost, groups.values())) for choose in (max, min))
    if not any(is_of_survivors(name, most - least) for name in METRICS):
        return None
    words = f"{DAGGER} Of the calls that ended well, of which this policy has fewer: no better for being lower."
    return tag("p", words, class_="lead")


def marked(name: str, runs: Sequence[RunRecord], least: float) -> str:
    """Return a mean with its interval; a latency with a dagger where others lose fewer calls.

    Args:
        name: of the metric.
        runs: of one policy.
        least: the share of calls that the policy loses which loses the fewest.
    """
    text = written(name, Estimate.of([run.metrics[name] for run in runs]))
    return f"{text} {DAGGER}" if is_of_survivors(name, lost(runs) - least) else text


def _written(name: str, runs: Sequence[RunRecord], least: float) -> str:
    known = [run for run in runs if name in run.metrics]
    return marked(name, known, least) if known else DASH


def source(text: str) -> Markup | None:
    """Return the scenario's text, or None where it is not known."""
    if not text:
        return None
    return tag("section", tag("h2", "Scenario"), tag("pre", tag("code", text), tabindex=0), id="scenario")
