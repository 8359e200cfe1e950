"""What an operator asks of a channel: who is out, since when, and why. The same in both faces."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from healthlb.config import check_number
from healthlb.control.codes import to_grpc_state
from healthlb.core.messages import SECOND, ConnectivityState
from healthlb.core.snapshot import Snapshot, SubchannelView
from healthlb.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SubchannelStatus:
    """One subchannel, as `subchannels()` tells it.

    Attributes:
        address: where it connects to.
        state: the concluded state: READY is SERVING on a READY connection.
        serving: the last serving status as `grpc.health.v1` numbers it, None where none was heard.
        reason: why it is in this state.
        since: seconds in this state.
        in_flight: calls under way at that address, with those that began before it left the list and came back.
        picks: calls ever given to it.
        successes: calls that ended with OK.
        failures: calls that ended otherwise, cancelled ones excepted.
        ejected: whether passive health has taken it out.
        weight: the endpoint's, or a part of it during slow start.
        damped: whether its flaps keep it out.
        shares_connection: whether calls use the connection over which its health is followed, so that they go where
            that was asked; False with TLS in the sync face, where they have one of their own.
    """

    address: str
    state: grpc.ChannelConnectivity
    serving: int | None
    reason: str
    since: float
    in_flight: int
    picks: int
    successes: int
    failures: int
    ejected: bool
    weight: float
    damped: bool
    shares_connection: bool


def statuses(snapshot: Snapshot, now: int, *, shares_connection: bool) -> tuple[SubchannelStatus, ...]:
    """Return the status of every subchannel, in the resolver's order."""
    return tuple(_status(view, now, shares_connection) for view in snapshot.views)


def _status(view: SubchannelView, now: int, shares_connection: bool) -> SubchannelStatus:
    picks, successes, failures = view.past
    return SubchannelStatus(
        address=view.endpoint.address,
        state=to_grpc_state(view.state),
        serving=view.serving,
        reason=view.reason,
        since=(now - view.since) / SECOND,
        in_flight=sum(load.in_flight for load in (*view.loads, *view.earlier)),
        picks=picks + sum(load.picks for load in view.loads),
        successes=successes + sum(load.successes for load in view.loads),
        failures=failures + sum(load.failures for load in view.loads),
        ejected=view.is_ejected,
        weight=view.weight,
        damped=view.is_damped,
        shares_connection=shares_connection,
    )


def check_wait(timeout: float | None, min_ready: int) -> None:
    """Check the arguments of `wait_until_ready`.

    Raises:
        ConfigError: one is out of its bounds.
    """
    if timeout is not None:
        check_number("timeout", timeout, low=0)
    if isinstance(min_ready, bool) or not isinstance(min_ready, int) or min_ready < 1:
        raise ConfigError(f"min_ready must be a whole number of at least 1, not {min_ready!r}")


def has_ready(snapshot: Snapshot, min_ready: int) -> bool:
    """Whether enough subchannels are READY."""
    # In a panic picks go to others as well.
    return _ready(snapshot) >= min_ready if snapshot.is_panicking else len(snapshot.ready) >= min_ready


def lacking(snapshot: Snapshot, timeout: float | None, min_ready: int) -> str:
    """Return the error text of a `wait_until_ready` that timed out."""
    return f"{_ready(snapshot)} of {min_ready} subchannels READY after {timeout} s: {snapshot.describe()}"


def _ready(snapshot: Snapshot) -> int:
    return sum(view.state is ConnectivityState.READY for view in snapshot.views)
