from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from healthlb.demo.fleet import BackendError, Fleet
from healthlb.demo.injector import Injector
from healthlb.demo.schedule import Fault, FaultKind


class Backend:
    def __init__(self, said: list[str], is_broken: bool) -> None:
        self.address = "127.0.0.1:1"
        self._said = said
        self._is_broken = is_broken

    def __getattr__(self, name: str) -> Callable[..., None]:
        def command(*arguments: str) -> None:
            self._said.append(" ".join((name, *arguments)))
            if self._is_broken:
                raise BackendError("it would not")

        return command


def carried_out(*faults: Fault, is_all_ready: bool = True, is_broken: bool = False) -> tuple[Injector, list[str]]:
    said: list[str] = []
    fleet = SimpleNamespace(backends=[Backend(said, is_broken)])
    injector = Injector(
        cast(Fleet, fleet), faults, lambda: is_all_ready, tell=lambda at, text: said.append(f"* {text}")
    )
    injector.start(time.monotonic_ns())
    while not injector.is_done:
        time.sleep(0.01)
    return injector, said


def times(injector: Injector) -> list[Any]:
    one = injector.injections[0]
    return [one.began_at, one.effective_at, one.repairing_at, one.repaired_at]


def test_each_fault_is_begun_and_repaired() -> None:
    kinds = (FaultKind.NOT_SERVING, FaultKind.KILL, FaultKind.HANG)
    faults = [Fault(kind, 0, 0.1 * index, 0.1 * index + 0.05) for index, kind in enumerate(kinds)]
    injector, said = carried_out(*faults)

    assert said == [
        "* 127.0.0.1:1 NOT_SERVING",
        "set_status NOT_SERVING",
        "* 127.0.0.1:1 SERVING again",
        "set_status SERVING",
        "* 127.0.0.1:1 kill -9",
        "kill",
        "* 127.0.0.1:1 restart",
        "launch",
        "await_ready",
        "* 127.0.0.1:1 SIGSTOP",
        "freeze",
        "* 127.0.0.1:1 SIGCONT",
        "thaw",
    ]
    assert times(injector) == sorted(times(injector))
    assert injector.upcoming is None
    assert injector.error is None


def test_a_fault_is_left_out_while_another_backend_is_not_back() -> None:
    injector, said = carried_out(Fault(FaultKind.KILL, 0, 0.0, 0.1), is_all_ready=False)

    assert said == ["* 127.0.0.1:1 kill -9 left out: not all backends are READY"]
    assert injector.injections == ()


def test_a_backend_that_will_not_ends_the_schedule() -> None:
    fault = Fault(FaultKind.KILL, 0, 0.0, 0.1)
    injector, said = carried_out(fault, fault, is_broken=True)

    assert said == ["* 127.0.0.1:1 kill -9", "kill"]
    assert str(injector.error) == "it would not"
