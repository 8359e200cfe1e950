from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from healthlb.demo.demo import DemoChannel, Settings, run_demo
from healthlb.demo.frame import Frame, Note, Source
from healthlb.demo.schedule import FaultKind
from tests.demo.demo_stand_in import StandIn

SETTINGS = Settings(duration=5.0, backends=3, rate=100.0, seed=1)


class Recorder:
    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.frames: list[Frame] = []

    def note(self, note: Note) -> None:
        self.notes.append(note)

    def refresh(self, frame: Frame) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        raise AssertionError("closing is the command's business")


def blind(addresses: Sequence[str]) -> DemoChannel:
    return StandIn(addresses, is_blind=True)


def test_a_channel_that_follows_health_loses_nothing() -> None:
    view = Recorder()
    summary = run_demo(SETTINGS, view, threading.Event(), StandIn)

    assert summary.problems == ()
    assert 400 <= summary.calls <= 1100
    assert [fault.kind for fault in summary.faults] == [FaultKind.KILL, FaultKind.NOT_SERVING]
    assert all(fault.back_after is not None for fault in summary.faults)
    assert view.frames[-1].calls == summary.calls
    assert view.frames[-1].ready == 3
    assert [note.source for note in view.notes].count(Source.FAULT) == 4
    assert any("-> TRANSIENT_FAILURE" in note.text and "after the fault" in note.text for note in view.notes)


def test_a_channel_that_ignores_health_is_found_out() -> None:
    summary = run_demo(Settings(duration=10.0, rate=100.0), Recorder(), threading.Event(), blind)

    assert any("lost with UNAVAILABLE" in problem for problem in summary.problems)
    assert any("more than 1 s after NOT_SERVING" in problem for problem in summary.problems)


def test_a_run_that_is_stopped_sums_up_so_far() -> None:
    stop = threading.Event()
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    summary = run_demo(SETTINGS, Recorder(), stop, StandIn)
    timer.join()

    assert summary.is_interrupted
    assert summary.is_fine
    assert summary.calls > 0
    assert summary.elapsed < 5.0


def test_a_channel_that_never_gets_ready_is_an_error() -> None:
    class NeverReady(StandIn):
        def wait_until_ready(self, timeout: float | None = None, min_ready: int = 1) -> None:
            super().wait_until_ready(timeout, min_ready)
            raise TimeoutError("no backend is READY")

    with pytest.raises(TimeoutError, match="no backend is READY"):
        run_demo(SETTINGS, Recorder(), threading.Event(), NeverReady)
