"""Carries out the schedule on the fleet.

At most one backend is bad. A fault waits until the client has all backends back,
and is left out when that takes too long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from healthlb.core.messages import SECOND
from healthlb.demo.fleet import BackendError, BackendProcess, Fleet
from healthlb.demo.frame import FAULT_NAMES, REPAIR_NAMES
from healthlb.demo.records import Injection
from healthlb.demo.schedule import Fault, FaultKind

_PATIENCE = 3.0
_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Step:
    """What the schedule does next, and when: in nanoseconds of `time.monotonic_ns`."""

    at: int
    text: str


class Injector:
    """Runs the faults in a thread of its own.

    Attributes:
        injections: what was done so far; replaced, never changed.
        upcoming: the next step, or None when there is none.
        error: why it gave up, or None.
    """

    def __init__(
        self, fleet: Fleet, plan: Sequence[Fault], is_all_ready: Callable[[], bool], *, tell: Callable[[int, str], None]
    ) -> None:
        self._fleet = fleet
        self._plan = plan
        self._is_all_ready = is_all_ready
        self._tell = tell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="healthlb-demo-faults", daemon=True)
        self._started_at = 0
        self.injections: tuple[Injection, ...] = ()
        self.upcoming: Step | None = None
        self.error: BackendError | None = None

    def start(self, started_at: int) -> None:
        """Begin; the schedule's times count from `started_at`."""
        self._started_at = started_at
        self._thread.start()

    def stop(self) -> None:
        """Do nothing more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_done(self) -> bool:
        """Whether the whole schedule is behind us."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for fault in self._plan:
                if not self._stopped.is_set():
                    self._carry_out(fault)
        except BackendError as error:
            self.error = error
        self.upcoming = None

    def _carry_out(self, fault: Fault) -> None:
        backend = self._fleet.backends[fault.backend]
        begins_at = self._started_at + round(fault.begins_at * SECOND)
        name = f"{backend.address} {FAULT_NAMES[fault.kind]}"
        if not self._await_step(begins_at, name):
            return
        if not self._await_all_ready():
            self._tell(time.monotonic_ns(), f"{name} left out: not all backends are READY")
            return
        self._begin(fault, backend)
        # From the real beginning, since that may have had to wait.
        ends_at = self.injections[-1].began_at + round((fault.ends_at - fault.begins_at) * SECOND)
        if self._await_step(ends_at, f"{backend.address} {REPAIR_NAMES[fault.kind]}"):
            self._repair(fault, backend)

    def _await_step(self, at: int, text: str) -> bool:
        self.upcoming = Step(at, text)
        return not self._stopped.wait(max(0, at - time.monotonic_ns()) / SECOND)

    def _await_all_ready(self) -> bool:
        give_up_at = time.monotonic_ns() + round(_PATIENCE * SECOND)
        while not self._is_all_ready():
            if time.monotonic_ns() > give_up_at or self._stopped.wait(_POLL):
                return False
        return True

    def _begin(self, fault: Fault, backend: BackendProcess) -> None:
        began_at = time.monotonic_ns()
        self.injections = (*self.injections, Injection(fault, began_at))
        self._tell(began_at, f"{backend.address} {FAULT_NAMES[fault.kind]}")
        match fault.kind:
            case FaultKind.NOT_SERVING:
                backend.set_status("NOT_SERVING")
            case FaultKind.KILL:
                backend.kill()
            case FaultKind.HANG:
                backend.freeze()
        self._amend(replace(self.injections[-1], effective_at=time.monotonic_ns()))

    def _repair(self, fault: Fault, backend: BackendProcess) -> None:
        repairing_at = time.monotonic_ns()
        self._amend(replace(self.injections[-1], repairing_at=repairing_at))
        self._tell(repairing_at, f"{backend.address} {REPAIR_NAMES[fault.kind]}")
        match fault.kind:
            case FaultKind.NOT_SERVING:
                backend.set_status("SERVING")
            case FaultKind.KILL:
                backend.launch()
                backend.await_ready()
            case FaultKind.HANG:
                backend.thaw()
        self._amend(replace(self.injections[-1], repaired_at=time.monotonic_ns()))

    def _amend(self, last: Injection) -> None:
        self.injections = (*self.injections[:-1], last)
