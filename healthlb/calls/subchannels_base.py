"""What a channel, its views and its multi-callables share, the same in both faces.

The one rule: nothing happens before first use. No thread, no I/O, no loop; so a channel that was made
before a fork works in the child.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import grpc

from healthlb.calls.settings import Settings
from healthlb.config import RetryBudget, RetryThrottle
from healthlb.control import forks
from healthlb.control.monkey_patching import check_threads
from healthlb.control.resolved_names import ResolvedNames
from healthlb.control.snapshot_holder import SnapshotHolder
from healthlb.core.call.budget import Budget, make_budget
from healthlb.core.call.overload import Admission
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Fail
from healthlb.core.snapshot import Snapshot
from healthlb.errors import ChannelUnusable

_FORKED = (
    "this channel was used before the process forked, and its connections belong to the parent: "
    "make another in the child, or make it before the fork and use it first in the child"
)
_GRPC_FORKED = (
    "grpc.aio was at work when this process was forked, and does not survive that: fork before the first asyncio "
    "channel or server is used or after all are closed, or start processes by the method 'spawn' or 'forkserver'"
)


class Channels(Protocol):
    """Finds the plain grpcio channel of what was picked."""

    def channel(self, sub: Subchannel) -> grpc.Channel | grpc.aio.Channel | None:
        """Return it, None where it is closed already. From any thread."""

    def is_ready(self, sub: Subchannel) -> bool:
        """Whether it is connected now. From any thread."""


class SubchannelsBase:
    """The subchannels of one channel, as calls see them.

    Args:
        settings: checked.

    Attributes:
        settings: the channel's settings.
        holder: where the driver publishes.
        names: what host names in lists stand for.
        admission: the caps on calls, and what counts against them.
        listeners: take the facts.
        is_closed: whether the channel was closed.
    """

    channels: Channels

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.holder = SnapshotHolder(Snapshot(-1, ConnectivityState.IDLE, service=settings.service))
        self.names = ResolvedNames()
        self.admission = Admission(settings.config.overload)
        self.listeners = list(settings.listeners)
        self.is_closed = False
        self._is_started = False
        self._is_forked = False
        self._budgets: dict[RetryBudget | RetryThrottle | None, Budget] = {}
        self._finalizer: Callable[[], object] = lambda: None
        forks.open_channels.add(self)

    def start(self) -> None:
        """Begin to connect, once."""
        raise NotImplementedError

    def check_caller(self) -> None:
        """Raise where a call may not be made from; the sync face's may from anywhere."""

    def call_later(self, delay: float, work: Callable[[], object]) -> Callable[[], object]:
        """Have `work` run on the control loop in `delay` seconds; return what takes that back."""
        raise NotImplementedError

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed call."""
        raise NotImplementedError

    def calls_refused(self, cap: str) -> None:
        """Tell the core that a cap has kept a call out."""
        raise NotImplementedError

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        """Return how a call ends that this cap refuses, and report the refusal to the core."""
        self.calls_refused(cap)
        return self.admission.refusal(cap, snapshot)

    def check_usable(self) -> None:
        """Raise where the channel cannot work.

        Raises:
            ChannelUnusable: it was used before a fork, or eventlet or gevent has replaced threads.
        """
        if self._is_forked:
            raise ChannelUnusable(_FORKED)
        if forks.has_lost_poller():
            raise ChannelUnusable(_GRPC_FORKED)
        check_threads("a channel")

    def forget_after_fork(self) -> None:
        """In a forked child nothing of the control plane is alive."""
        if self._is_started:
            self._is_forked = True
            self.holder = SnapshotHolder(Snapshot(-1, ConnectivityState.IDLE, service=self.settings.service))

    def budget(self, policy: RetryBudget | RetryThrottle | None) -> Budget:
        """Return what pays for attempts after the first: one budget for each policy."""
        return self._budgets.setdefault(policy, make_budget(policy))
