"""The vocabulary between the core and whoever drives it: events in, effects and facts out.

The one rule: everything here is an immutable value. Events are in the past tense, effects
are imperative, facts are nouns. Times are integers of nanoseconds on one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from healthlb.core.facts import Addition as Addition
from healthlb.core.facts import Advice as Advice
from healthlb.core.facts import BusyBackend as BusyBackend
from healthlb.core.facts import ChannelStateChange as ChannelStateChange
from healthlb.core.facts import DroppedFacts as DroppedFacts
from healthlb.core.facts import Ejection as Ejection
from healthlb.core.facts import Fact as Fact
from healthlb.core.facts import HealthCheckingUnavailable as HealthCheckingUnavailable
from healthlb.core.facts import HeartbeatLoss as HeartbeatLoss
from healthlb.core.facts import Overflow as Overflow
from healthlb.core.facts import Panic as Panic
from healthlb.core.facts import Release as Release
from healthlb.core.facts import Removal as Removal
from healthlb.core.facts import Rescue as Rescue
from healthlb.core.facts import ResolutionFailure as ResolutionFailure
from healthlb.core.facts import Return as Return
from healthlb.core.facts import StateChange as StateChange
from healthlb.core.facts import StatusFlood as StatusFlood
from healthlb.core.facts import Suppression as Suppression
from healthlb.core.facts import WatchUnavailable as WatchUnavailable
from healthlb.core.states import Code as Code
from healthlb.core.states import ConnectivityState as ConnectivityState
from healthlb.core.states import ServingStatus as ServingStatus

if TYPE_CHECKING:
    from healthlb.core.load import Subchannel

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that gets a subchannel of its own.

    Attributes:
        address: what grpcio can connect to: `host:port`, `[::1]:port` or `unix:/path`.
        weight: its share relative to the others, for pickers that use weights; above 0.
        locality: a zone name, or None.
        attributes: anything a picker of the user's own wants to know.
    """

    address: str
    weight: float = 1.0
    locality: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Endpoint):
            return NotImplemented
        if (self.address, self.weight, self.locality) != (other.address, other.weight, other.locality):
            return False
        try:
            return self.attributes is other.attributes or bool(self.attributes == other.attributes)
        except Exception:  # The values are the user's: arrays, for one, cannot be compared as a whole.
            return False


@dataclass(frozen=True, slots=True)
class Fail:
    """How a call ends that no subchannel can take: a status as a value."""

    code: Code
    details: str


# --- Events: what the world says ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resolved:
    """The resolver's current list, whole."""

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class ResolveFailed:
    """The resolver could not say; the last good list stands."""

    error: str


@dataclass(frozen=True, slots=True)
class ConnectivityChanged:
    """The control connection of a subchannel is in a new state."""

    sub: int
    state: ConnectivityState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HealthReported:
    """A Watch stream delivered a status."""

    sub: int
    watch: int
    status: int


@dataclass(frozen=True, slots=True)
class WatchClosed:
    """A Watch stream ended, with this status."""

    sub: int
    watch: int
    code: Code
    details: str = ""


@dataclass(frozen=True, slots=True)
class CheckEnded:
    """A Check ended; DEADLINE_EXCEEDED means that nothing answered.

    Attributes:
        code: how it ended.
        status: the serving status of one that ended with OK, None of any other.
        details: the text of its end.
        is_unsent: whether the client itself could not send it.
    """

    sub: int
    check: int
    code: Code
    status: int | None = None
    details: str = ""
    is_unsent: bool = False


@dataclass(frozen=True, slots=True)
class PingEnded:
    """A call of a method that nobody has registered ended; DEADLINE_EXCEEDED means that nothing answered."""

    sub: int
    ping: int
    code: Code


@dataclass(frozen=True, slots=True)
class CallFailed:
    """Calls on a subchannel failed with `code` (coalesced).

    Attributes:
        generation: the data connection that the calls used.
        is_refused: whether the calls never left, since the data connection was down.
    """

    sub: int
    generation: int
    code: Code
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class DataReady:
    """A connection for calls is up and warm."""

    sub: int
    generation: int


@dataclass(frozen=True, slots=True)
class DataFailed:
    """The connection for calls could not be made, though the control connection stands."""

    sub: int
    reason: str


@dataclass(frozen=True, slots=True)
class Drained:
    """The last call on a retired connection ended."""

    sub: int
    generation: int


@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """A call has ended on a subchannel that is on probe; its counters say how."""

    sub: int
    generation: int


@dataclass(frozen=True, slots=True)
class CallsRefused:
    """A cap has kept calls out (coalesced).

    Attributes:
        cap: the option's name.
        calls: how many.
    """

    cap: str
    calls: int


@dataclass(frozen=True, slots=True)
class CallsRescued:
    """Calls that were in flight on a hung backend have been sent elsewhere."""

    sub: int
    calls: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; the driver sends it when `deadline` is due."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The channel is being closed."""


Event = (
    Resolved
    | ResolveFailed
    | ConnectivityChanged
    | HealthReported
    | WatchClosed
    | CheckEnded
    | PingEnded
    | CallFailed
    | DataReady
    | DataFailed
    | Drained
    | ProbeEnded
    | CallsRefused
    | CallsRescued
    | Tick
    | Closing
)


# --- Effects: what the core asks ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSubchannel:
    """Open a control connection and keep it connected."""

    sub: int
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class PrepareData:
    """Have a connection for calls ready, fresh unless the present one is READY."""

    sub: int


@dataclass(frozen=True, slots=True)
class RefreshData:
    """Have a fresh connection for calls ready, though the present one is READY; that one serves on until then."""

    sub: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """Race a fresh control connection against the one that is still connecting."""

    sub: int


@dataclass(frozen=True, slots=True)
class Replace:
    """Leave this subchannel's connections (calls in flight go on) and open fresh ones."""

    sub: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Let one call go to this subchannel, and say `ProbeEnded` at each end of a call there."""

    subchannel: Subchannel


@dataclass(frozen=True, slots=True)
class Drain:
    """Say `Drained` once no call is in flight on this retired connection."""

    subchannel: Subchannel


@dataclass(frozen=True, slots=True)
class RescueCalls:
    """Send the calls elsewhere that are in flight on this retired connection and may be; say `CallsRescued`."""

    subchannel: Subchannel


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close one retired connection for calls."""

    sub: int
    generation: int


@dataclass(frozen=True, slots=True)
class CloseSubchannel:
    """Close the control connection; retired connections for calls stay until drained."""

    sub: int


@dataclass(frozen=True, slots=True)
class StartWatch:
    """Open `Health/Watch` for this service on the control connection."""

    sub: int
    watch: int
    service: str


@dataclass(frozen=True, slots=True)
class StopWatch:
    """Cancel a Watch; what it still says is ignored."""

    sub: int
    watch: int


@dataclass(frozen=True, slots=True)
class SendCheck:
    """Send a `Health/Check` over the control connection.

    Attributes:
        timeout: nanoseconds.
    """

    sub: int
    check: int
    timeout: int


@dataclass(frozen=True, slots=True)
class SendPing:
    """Call a method that nobody has registered, over the control connection: a server that runs says UNIMPLEMENTED.

    Attributes:
        timeout: nanoseconds.
    """

    sub: int
    ping: int
    timeout: int


@dataclass(frozen=True, slots=True)
class ResolveNow:
    """Ask the resolver to look again soon."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the listeners."""

    fact: Fact


Effect = (
    OpenSubchannel
    | PrepareData
    | RefreshData
    | Challenge
    | Replace
    | Probe
    | Drain
    | RescueCalls
    | CloseConnection
    | CloseSubchannel
    | StartWatch
    | StopWatch
    | SendCheck
    | SendPing
    | ResolveNow
    | Report
)
