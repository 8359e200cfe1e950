"""The asyncio face: the names of `healthlb`, with a channel that is a `grpc.aio.Channel`."""

from typing import TYPE_CHECKING

# Now, and not at its first use: that is on a running loop, which would stand still for as long as the import takes.
from healthlb.aio.channel import HealthAwareChannel

if TYPE_CHECKING:
    from healthlb.aio.connectivity import follow_state
    from healthlb.aio.health_client import HealthClient
    from healthlb.calls.attempts import Attempt, attempts_of
    from healthlb.config import Backoff, Failover, HealthCheck, Heartbeat, RetryBudget, RetryThrottle, Subset
    from healthlb.config.outliers import FailurePercentage, Outliers, SuccessRate
    from healthlb.config.overload import Overload
    from healthlb.config.stability import FlapDamping, SlowStart
    from healthlb.control.status import SubchannelStatus
    from healthlb.core.load import Subchannel
    from healthlb.core.messages import Endpoint
    from healthlb.core.pickers import CallInfo, Picker, PickerFactory, register_picker
    from healthlb.core.states import ServingStatus
    from healthlb.errors import (
        ChannelClosed,
        ChannelUnusable,
        ConfigError,
        HealthLBError,
        InvalidResponse,
        NotServing,
    )
    from healthlb.health_client.answer import HealthAnswer
    from healthlb.health_client.connectivity import ConnectivityChange
    from healthlb.resolvers import Resolver, register_resolver
    from healthlb.server.aio import HealthServicer, serve_until_signal
else:
    from healthlb._lazy import COMMON, lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            **COMMON,
            "healthlb.aio.connectivity": "follow_state",
            "healthlb.aio.health_client": "HealthClient",
            "healthlb.server.aio": "HealthServicer serve_until_signal",
        },
    )

__all__ = [
    "Attempt",
    "Backoff",
    "CallInfo",
    "ChannelClosed",
    "ChannelUnusable",
    "ConfigError",
    "ConnectivityChange",
    "Endpoint",
    "Failover",
    "FailurePercentage",
    "FlapDamping",
    "HealthAnswer",
    "HealthAwareChannel",
    "HealthCheck",
    "HealthClient",
    "HealthLBError",
    "HealthServicer",
    "Heartbeat",
    "InvalidResponse",
    "NotServing",
    "Outliers",
    "Overload",
    "Picker",
    "PickerFactory",
    "Resolver",
    "RetryBudget",
    "RetryThrottle",
    "ServingStatus",
    "SlowStart",
    "Subchannel",
    "SubchannelStatus",
    "Subset",
    "SuccessRate",
    "attempts_of",
    "follow_state",
    "register_picker",
    "register_resolver",
    "serve_until_signal",
]
