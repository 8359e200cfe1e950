"""Whatever is in a record, its report is a well-formed page without a number that is none."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.report import HeatMap, render_comparison, render_maps, render_run
from healthlb.simulation.report.metrics import METRICS
from healthlb.simulation.world.record import BELIEFS, BIN, TRUTHS, Bins, Lane, RunRecord
from tests.simulation.report.pages import Structure, pictures

NAMES = st.text(min_size=1, max_size=30)
NUMBERS = st.floats() | st.sampled_from([0.0, 1.0, -1.0])
COUNTS = st.lists(st.integers(0, 10**9), max_size=12).map(tuple)
LATENCIES = st.lists(st.integers(0, 10**14), max_size=5)


def steps(states: tuple[str, ...]) -> st.SearchStrategy[tuple[tuple[int, str], ...]]:
    times = st.lists(st.integers(0, 40 * BIN), max_size=30).map(sorted)
    return st.builds(
        lambda first, times, names: ((0, first), *zip(times, names, strict=False)),
        st.sampled_from(states), times, st.lists(st.sampled_from(states) | NAMES, max_size=30),
    )  # fmt: skip


def histogram(durations: list[int]) -> Histogram:
    made = Histogram()
    for duration in durations:
        made.add(duration)
    return made


HISTOGRAMS = LATENCIES.map(histogram)
BINS = st.builds(
    Bins,
    arrivals=COUNTS, ok=COUNTS, errors=st.dictionaries(NAMES, COUNTS, max_size=4), picks=st.dictionaries(NAMES, COUNTS, max_size=4),
    attempts=COUNTS, connects=COUNTS, watch_starts=COUNTS, tokens=st.lists(st.floats(0, 1), max_size=12).map(tuple),
    latency=st.lists(HISTOGRAMS, max_size=4).map(tuple),
)  # fmt: skip
RECORDS = st.builds(
    RunRecord,
    scenario=NAMES, title=st.text(max_size=60), policy=NAMES, seed=st.integers(), replication=st.integers(0, 3), duration=st.integers(0, 40 * BIN),
    warmup=st.integers(0, 10 * BIN), metrics=st.dictionaries(st.sampled_from(sorted(METRICS)) | NAMES, NUMBERS, max_size=8), bins=BINS,
    lanes=st.lists(st.builds(Lane, NAMES, steps(TRUTHS), steps(BELIEFS)), max_size=4).map(tuple), latency=HISTOGRAMS,
    confusion=st.dictionaries(st.tuples(st.sampled_from(TRUTHS) | NAMES, st.sampled_from(BELIEFS)), st.integers(0, 10**15), max_size=5),
)  # fmt: skip
USUAL = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def assert_sound(page: str) -> None:
    structure = Structure(page)
    places = [
        (name, value)
        for _, given in structure.tags
        for name, value in given.items()
        if name in ("x", "y", "width", "height", "d", "cx", "cy")
    ]

    assert len(structure.ids) == len(set(structure.ids))
    assert len(pictures(page)) == page.count('class="plot"')
    assert [value for _, value in places if re.search(r"nan|inf|None|e[+-]?\d", value)] == []
    assert [value for name, value in places if name in ("width", "height") and value.startswith("-")] == []


@USUAL
@given(RECORDS)
def test_any_run_can_be_drawn(record: RunRecord) -> None:
    assert_sound(render_run(record))


@USUAL
@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_any_runs_can_be_compared(records: list[RunRecord]) -> None:
    page = render_comparison(records)

    Structure(page)
    assert len(pictures(page)) == page.count('class="plot"')


@USUAL
@given(st.data())
def test_any_map_can_be_drawn(data: st.DataObject) -> None:
    axis = st.lists(st.floats(-1e6, 1e6), max_size=5, unique=True).map(sorted)
    xs, ys = data.draw(axis), data.draw(axis)
    values = data.draw(
        st.lists(st.lists(NUMBERS | st.none(), min_size=len(xs), max_size=len(xs)), min_size=len(ys), max_size=len(ys))
    )
    boundary = data.draw(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=4))

    assert_sound(render_maps("maps", [HeatMap("x", xs, "y", ys, values, boundary, "title")]))
