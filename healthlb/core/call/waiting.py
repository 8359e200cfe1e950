"""One call's wait for a subchannel. Pure; faces and simulator share it.

The one rule: a call that waits has a slot, and gives it back however the wait ends.
"""

from __future__ import annotations

from typing import Protocol

from healthlb.core.call.overload import MAX_WAIT, MAX_WAITING, Admission
from healthlb.core.load import Subchannel, WaitingSlot
from healthlb.core.messages import Code, Fail
from healthlb.core.snapshot import Snapshot


class SnapshotSource(Protocol):
    """Where snapshots are published.

    Attributes:
        snapshot: the present one.
    """

    snapshot: Snapshot


class CallSubchannels(Protocol):
    """The subchannels of one channel, as the core's part of a call sees them.

    Attributes:
        admission: the caps on calls, and what counts against them.
        is_closed: whether the channel was closed.
    """

    admission: Admission
    is_closed: bool

    @property
    def holder(self) -> SnapshotSource:
        """Where snapshots are published."""

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the balancer of a failed call."""

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        """Return the status of a call that this cap refuses, and report the refusal to the balancer."""


class Wait:
    """The wait of one call for a subchannel.

    Args:
        subchannels: the channel's subchannels.
        slot: the one that the call has while it waits.
        now: nanoseconds on the monotonic clock.
        deadline: the call's deadline, likewise; None for none.

    Attributes:
        ends_at: when it ends at the latest, likewise; None for never.
    """

    __slots__ = ("_is_capped", "_slot", "_subchannels", "ends_at")

    def __init__(self, subchannels: CallSubchannels, slot: WaitingSlot, now: int, *, deadline: int | None) -> None:
        longest = subchannels.admission.policy.max_wait_ns
        self._subchannels = subchannels
        self._slot = slot
        self._is_capped = longest is not None and (deadline is None or now + longest < deadline)
        self.ends_at = now + longest if longest is not None and self._is_capped else deadline

    def ran_out(self, snapshot: Snapshot) -> Fail:
        """Return the status of a call that has waited until `ends_at`."""
        if self._is_capped:
            return self._subchannels.refuse(MAX_WAIT, snapshot)
        return Fail(Code.DEADLINE_EXCEEDED, f"Deadline Exceeded: {snapshot.describe(has_waited=True)}")

    def end(self) -> None:
        """Give the slot back."""
        self._slot.leave()


def begin_wait(subchannels: CallSubchannels, now: int, deadline: int | None, snapshot: Snapshot) -> Wait | Fail:
    """Begin the wait of a call for a subchannel.

    Args:
        subchannels: the channel's subchannels.
        now: nanoseconds on the monotonic clock.
        deadline: the call's deadline, likewise; None for none.
        snapshot: the one in which it found no subchannel.

    Returns:
        The wait, or the status with which the call ends if too many wait already.
    """
    slot = subchannels.admission.limiter.wait()
    if slot is None:
        return subchannels.refuse(MAX_WAITING, snapshot)
    return Wait(subchannels, slot, now, deadline=deadline)
