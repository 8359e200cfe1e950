"""The facts that a channel tells its listeners: `add_listener(print)` shows them.

Each is a frozen dataclass. `at` is when it happened, in nanoseconds of `time.monotonic_ns()`; `sub` is the subchannel's
number in its channel, and `address` the address that it connects to. Durations are in nanoseconds. `Fact` is the union
of all of them, for annotations and `match`.
"""

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
from healthlb.core.states import ConnectivityState as ConnectivityState

__all__ = [
    "Addition",
    "Advice",
    "BusyBackend",
    "ChannelStateChange",
    "ConnectivityState",
    "DroppedFacts",
    "Ejection",
    "Fact",
    "HealthCheckingUnavailable",
    "HeartbeatLoss",
    "LoadShedding",
    "Overflow",
    "Panic",
    "Release",
    "Removal",
    "Rescue",
    "ResolutionFailure",
    "Return",
    "StateChange",
    "StatusFlood",
    "Suppression",
    "TooManyAddresses",
    "WatchUnavailable",
]
