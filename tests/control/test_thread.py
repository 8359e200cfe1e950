"""The control thread's end."""

from __future__ import annotations

import asyncio
import errno
import threading
from typing import Any

import pytest

from healthlb.control import thread as control
from tests.backends.clients import PATIENCE, eventually


def never(stall: object) -> None:
    raise AssertionError("nothing stands still")


def test_a_thread_that_is_let_go_of_before_its_loop_has_run_ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    begin = threading.Event()
    monkeypatch.setattr(control, "enter_control_thread", lambda: begin.wait(PATIENCE))
    done = threading.Event()

    thread = control.ControlThread.acquire(never)
    thread.run_soon(done.set)
    thread.release(never)
    begin.set()

    eventually(lambda: not thread.is_alive())
    assert not died
    assert done.is_set()
    assert thread.loop.is_closed()


@pytest.mark.parametrize("number", [errno.EBADF, errno.EAGAIN, errno.EPIPE])
@pytest.mark.parametrize("is_cancelled", [True, False])
def test_only_the_last_look_of_a_cancelled_callback_is_kept_silent(
    is_cancelled: bool, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """grpcio's poller cancels its callback, and one that is due already still reads what is closed or empty."""
    loop = asyncio.new_event_loop()
    handle = loop.call_soon(print)
    if is_cancelled:
        handle.cancel()

    control._handle_exception(loop, {"message": "it raised", "exception": OSError(number, ""), "handle": handle})
    loop.close()

    assert ("it raised" in caplog.text) is not (is_cancelled and number != errno.EPIPE)
