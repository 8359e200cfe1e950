"""What the core asks of whoever drives it; `healthlb.core.messages` has the events, and these too.

Effects are immutable values, named in the imperative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from healthlb.core.values import value

if TYPE_CHECKING:
    from healthlb.core.endpoint import Endpoint
    from healthlb.core.facts import Fact
    from healthlb.core.load import Subchannel


@value
class OpenSubchannel:
    """Open a control connection and keep it connected."""

    sub: int
    endpoint: Endpoint


@value
class PrepareData:
    """Have a connection for calls ready, fresh unless the present one is READY."""

    sub: int


@value
class RefreshData:
    """Have a fresh connection for calls ready, though the present one is READY; that one serves on until then."""

    sub: int


@value
class RaceConnection:
    """Race a fresh control connection against the one that is still connecting."""

    sub: int


@value
class Connect:
    """Connect a control connection that was lost; until then it stays IDLE."""

    sub: int


@value
class Disconnect:
    """Give up the control connection; there is none until `Replace`."""

    sub: int


@value
class Replace:
    """Leave this subchannel's connections (calls in flight go on) and open fresh ones."""

    sub: int


@value
class Probe:
    """Let one call go to this subchannel, and say `ProbeEnded` at each end of a call there."""

    subchannel: Subchannel


@value
class Drain:
    """Say `Drained` once no call is in flight on this retired connection."""

    subchannel: Subchannel


@value
class RescueCalls:
    """Send the calls elsewhere that are in flight on this retired connection and may be; say `CallsRescued`."""

    subchannel: Subchannel


@value
class EndCalls:
    """End what is in flight on this retired connection, with UNAVAILABLE and this text."""

    subchannel: Subchannel
    details: str


@value
class CloseConnection:
    """Close one retired connection for calls."""

    sub: int
    generation: int


@value
class CloseSubchannel:
    """Close the control connection; retired connections for calls stay until drained."""

    sub: int


@value
class StartWatch:
    """Open `Health/Watch` for this service on the control connection."""

    sub: int
    watch: int
    service: str


@value
class StopWatch:
    """Cancel a Watch; what it still says is ignored."""

    sub: int
    watch: int


@value
class SendCheck:
    """Send a `Health/Check` over the control connection.

    Attributes:
        timeout: nanoseconds.
    """

    sub: int
    check: int
    timeout: int


@value
class SendPing:
    """Call a method that nobody has registered, over the control connection: a server that runs says UNIMPLEMENTED.

    Attributes:
        timeout: nanoseconds.
    """

    sub: int
    ping: int
    timeout: int


@value
class ResolveNow:
    """Ask the resolver to look again soon."""


@value
class Report:
    """Tell the listeners."""

    fact: Fact


Effect = (
    OpenSubchannel
    | PrepareData
    | RefreshData
    | RaceConnection
    | Connect
    | Disconnect
    | Replace
    | Probe
    | Drain
    | RescueCalls
    | EndCalls
    | CloseConnection
    | CloseSubchannel
    | StartWatch
    | StopWatch
    | SendCheck
    | SendPing
    | ResolveNow
    | Report
)
