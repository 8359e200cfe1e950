"""The vocabulary between the core and whoever drives it: events in, effects and facts out.

The one rule: everything here is an immutable value. Events are in the past tense, effects
are imperative, facts are nouns. Times are integers of nanoseconds on one monotonic clock.
"""

from __future__ import annotations

from healthlb.core.effects import CloseConnection as CloseConnection
from healthlb.core.effects import CloseSubchannel as CloseSubchannel
from healthlb.core.effects import Connect as Connect
from healthlb.core.effects import Disconnect as Disconnect
from healthlb.core.effects import Drain as Drain
from healthlb.core.effects import Effect as Effect
from healthlb.core.effects import EndCalls as EndCalls
from healthlb.core.effects import OpenSubchannel as OpenSubchannel
from healthlb.core.effects import PrepareData as PrepareData
from healthlb.core.effects import Probe as Probe
from healthlb.core.effects import RaceConnection as RaceConnection
from healthlb.core.effects import RefreshData as RefreshData
from healthlb.core.effects import Replace as Replace
from healthlb.core.effects import Report as Report
from healthlb.core.effects import RescueCalls as RescueCalls
from healthlb.core.effects import ResolveNow as ResolveNow
from healthlb.core.effects import SendCheck as SendCheck
from healthlb.core.effects import SendPing as SendPing
from healthlb.core.effects import StartWatch as StartWatch
from healthlb.core.effects import StopWatch as StopWatch
from healthlb.core.endpoint import Endpoint as Endpoint
from healthlb.core.facts import Addition as Addition
from healthlb.core.facts import Advice as Advice
from healthlb.core.facts import BusyBackend as BusyBackend
from healthlb.core.facts import ChannelStateChange as ChannelStateChange
from healthlb.core.facts import DroppedFacts as DroppedFacts
from healthlb.core.facts import Ejection as Ejection
from healthlb.core.facts import Fact as Fact
from healthlb.core.facts import HealthCheckingUnavailable as HealthCheckingUnavailable
from healthlb.core.facts import HeartbeatLoss as HeartbeatLoss
from healthlb.core.facts import LoadShedding as LoadShedding
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
from healthlb.core.facts import TooManyAddresses as TooManyAddresses
from healthlb.core.facts import WatchUnavailable as WatchUnavailable
from healthlb.core.states import Code as Code
from healthlb.core.states import ConnectivityState as ConnectivityState
from healthlb.core.states import ServingStatus as ServingStatus
from healthlb.core.values import value

SECOND = 1_000_000_000


@value
class Fail:
    """How a call ends that no subchannel can take: a status as a value."""

    code: Code
    details: str


# --- Events: what the world says ---------------------------------------------------------


@value
class Resolved:
    """The resolver's current list, whole."""

    endpoints: tuple[Endpoint, ...]


@value
class ResolveFailed:
    """The resolver could not say; the last good list stands."""

    error: str


@value
class ConnectivityChanged:
    """The control connection of a subchannel is in a new state."""

    sub: int
    state: ConnectivityState
    reason: str = ""


@value
class HealthReported:
    """A Watch stream delivered a status."""

    sub: int
    watch: int
    status: int


@value
class WatchClosed:
    """A Watch stream ended, with this status."""

    sub: int
    watch: int
    code: Code
    details: str = ""


@value
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


@value
class PingEnded:
    """A call of a method that nobody has registered ended; DEADLINE_EXCEEDED means that nothing answered."""

    sub: int
    ping: int
    code: Code


@value
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


@value
class DataReady:
    """A connection for calls is up and warm."""

    sub: int
    generation: int


@value
class DataFailed:
    """The connection for calls could not be made, though the control connection stands."""

    sub: int
    reason: str


@value
class Drained:
    """The last call on a retired connection ended."""

    sub: int
    generation: int


@value
class ProbeEnded:
    """A call has ended on a subchannel that is on probe; its counters say how."""

    sub: int
    generation: int


@value
class CallsRefused:
    """A cap has kept calls out (coalesced).

    Attributes:
        cap: the option's name.
        calls: how many.
    """

    cap: str
    calls: int


@value
class CallsRescued:
    """Calls that were in flight on a hung backend have been sent elsewhere."""

    sub: int
    calls: int


@value
class Tick:
    """Time has passed; the driver sends it when `deadline` is due."""


@value
class Closing:
    """The channel is being closed."""


# Of a subchannel that the channel has; of one that was removed they are passed over.
SubchannelEvent = (
    ConnectivityChanged
    | HealthReported
    | WatchClosed
    | CheckEnded
    | PingEnded
    | CallFailed
    | DataFailed
    | ProbeEnded
    | CallsRescued
)
Event = SubchannelEvent | DataReady | Drained | Resolved | ResolveFailed | CallsRefused | Tick | Closing
