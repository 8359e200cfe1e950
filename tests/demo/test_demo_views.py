from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from healthlb.demo import live, report
from healthlb.demo.activity import Cell
from healthlb.demo.frame import Frame, Lane, Mark, Note, Source, spelled
from healthlb.demo.ledger import BackendFigures, FaultFigures, Summary
from healthlb.demo.live import Strip
from healthlb.demo.plain import PlainView
from healthlb.demo.schedule import FaultKind

BUSY = Cell(50, 0)
LANES = (
    Lane("127.0.0.1:40001", "READY", "", (BUSY,) * 8, 100, 400, 0),
    Lane("127.0.0.1:40002", "TRANSIENT_FAILURE", "NOT_SERVING", (BUSY,) * 4 + (Cell(),) * 4, 0, 200, 1),
)
FRAME = Frame(
    elapsed=4.2,
    duration=20.0,
    asked_rate=100.0,
    seed=1,
    lanes=LANES,
    marks=(Mark(1, 4, "NOT_SERVING", is_repair=False),),
    current_cell=8,
    calls=600,
    errors=1,
    p50=0.0012,
    upcoming="127.0.0.1:40002 SERVING again in 1.0 s",
    notes=(Note(2.0, Source.FAULT, "127.0.0.1:40002 NOT_SERVING"),),
)
SUMMARY = Summary(
    elapsed=20.0,
    is_interrupted=False,
    calls=4000,
    errors=1,
    excused=1,
    p50=0.0012,
    p99=0.004,
    backends=(BackendFigures("127.0.0.1:40001", 2200, 0, 0.55), BackendFigures("127.0.0.1:40002", 1800, 1, 0.45)),
    faults=(FaultFigures(FaultKind.KILL, "127.0.0.1:40002", 2.0, 1.26, 1, 0.004, 0.2321, 1),),
    is_overloaded=False,
    problems=(),
)


def printed(frame: Frame, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(live.drawn(frame, width, height))
    return console.export_text().splitlines()


def shown(summary: Summary, is_plain: bool) -> str:
    width = 100 if is_plain else 80
    console = Console(file=io.StringIO(), width=width, record=True, color_system=None, highlight=False)
    report.show(summary, console, is_plain)
    return console.export_text()


def strip(cells: Sequence[Cell], *marks: Mark, merged: int = 1, width: int = 8, current: int | None = None) -> Strip:
    return Strip(cells, len(cells) if current is None else current, marks, merged, width, full=50)


def test_bars_grow_with_the_calls_and_keep_their_width() -> None:
    assert strip([Cell(), Cell(1), Cell(25), Cell(50), Cell(99)]).bars().plain == "·▁▅██   "


def test_an_error_takes_the_place_of_the_bar() -> None:
    assert strip([BUSY, Cell(49, 1), BUSY]).bars().plain == "█✗█     "


def test_faults_and_repairs_have_signs_and_names() -> None:
    marked = strip([BUSY] * 30, Mark(0, 4, "kill -9", False), Mark(0, 12, "restart", True), width=30)

    assert marked.bars().plain == "████▼███████▲" + "█" * 17
    assert marked.labels().plain == "    kill -9 restart"


def test_a_name_without_room_is_left_out() -> None:
    marked = strip([BUSY] * 30, Mark(0, 4, "kill -9", False), Mark(0, 7, "restart", True), width=30)

    assert marked.bars().plain[4:8] == "▼██▲"
    assert marked.labels().plain == "    kill -9"


def test_a_name_at_the_right_edge_is_moved_in() -> None:
    assert strip([BUSY] * 8, Mark(0, 7, "kill", False)).labels().plain == "    kill"


def test_an_old_mark_leaves_with_its_column() -> None:
    marked = strip([BUSY] * 8, Mark(0, 3, "kill", False), current=20)

    assert marked.bars().plain == "█" * 8
    assert marked.labels().plain == ""


@pytest.mark.parametrize("current", [20, 21])
def test_merged_columns_stand_for_the_same_time_as_the_strip_moves(current: int) -> None:
    numbered = [Cell(50 if number % 4 == 0 else 0) for number in range(current)]

    assert strip(numbered, merged=2, width=4, current=current).bars().plain == "█·█·"


def test_the_live_view_says_everything_in_words() -> None:
    text = printed(FRAME, 120, 30)

    assert any("127.0.0.1:40001  ● READY" in line and "100/s" in line for line in text)
    assert any("127.0.0.1:40002  ✖ TRANSIENT_FAILURE" in line and "1 error" in line for line in text)
    assert any(line.startswith("│ NOT_SERVING ") and line.count("NOT_SERVING") == 2 for line in text)
    assert any("next 127.0.0.1:40002 SERVING again in 1.0 s" in line for line in text)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 30), (80, 14), (200, 60)])
@pytest.mark.parametrize("lanes", [2, 7])
def test_the_live_view_fits_its_terminal(width: int, height: int, lanes: int) -> None:
    notes = tuple(Note(at, Source.HEALTHLB, "a long story " * 20) for at in range(10))
    text = printed(replace(FRAME, lanes=(LANES * 10)[:lanes], notes=notes), width, height)

    assert len(text) <= height
    assert {len(line) for line in text} == {width}


def test_plain_lines_come_once_a_second_and_at_each_note() -> None:
    lines: list[str] = []
    view = PlainView(lines.append)
    for elapsed in (0.9, 1.0, 1.1, 1.9, 4.2):
        view.refresh(replace(FRAME, elapsed=elapsed))
    view.note(FRAME.notes[0])
    view.close()

    assert lines == [
        "   1.0 s  calls 600  errors 1  100/s [100 0]  p50 1.2 ms  READY 1/2",
        "   4.2 s  calls 600  errors 1  100/s [100 0]  p50 1.2 ms  READY 1/2",
        "   2.0 s  fault:    127.0.0.1:40002 NOT_SERVING",
    ]


def test_the_summary_fits_eighty_columns() -> None:
    text = shown(SUMMARY, is_plain=False)

    assert "…" not in text
    assert "2.0 s  kill -9  127.0.0.1:40002  1.26 s      1    4.0 ms     1  0.23 s" in text
    assert "no call was lost that should not have been" in text


def test_the_plain_summary_is_ascii() -> None:
    assert shown(replace(SUMMARY, problems=("[1] lost",)), is_plain=True).isascii()


def test_the_summary_names_the_problems() -> None:
    text = shown(replace(SUMMARY, problems=("1 call lost [x]", "not back")), is_plain=True)

    assert text.splitlines()[-3:] == ["X 1 call lost [x]", "X not back", "FAILED: see above"]


def test_durations_read_well() -> None:
    assert [spelled(seconds) for seconds in (None, 0.0, 0.0042, 0.25, 2.418)] == [
        "-",
        "0.0 ms",
        "4.2 ms",
        "0.25 s",
        "2.42 s",
    ]
