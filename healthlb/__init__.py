"""A health-aware gRPC channel for Python: calls flow to healthy backends only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # `healthlb.presets` and the like need no import of their own: __getattr__ below imports them at their first use.
    from healthlb import aio as aio
    from healthlb import config as config
    from healthlb import errors as errors
    from healthlb import facts as facts
    from healthlb import pickers as pickers
    from healthlb import presets as presets
    from healthlb import resolvers as resolvers
    from healthlb import server as server
    from healthlb import testing as testing
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
    from healthlb.sync.channel import HealthAwareChannel
    from healthlb.sync.connectivity import follow_state
    from healthlb.sync.health_client import HealthClient
else:
    from healthlb._lazy import COMMON, lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            **COMMON,
            "healthlb.sync.channel": "HealthAwareChannel",
            "healthlb.sync.connectivity": "follow_state",
            "healthlb.sync.health_client": "HealthClient",
        },
        submodules=("aio", "config", "errors", "facts", "pickers", "presets", "resolvers", "server", "testing"),
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
]
