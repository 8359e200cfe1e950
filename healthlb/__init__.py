"""A health-aware gRPC channel for Python: calls flow to healthy backends only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from healthlb.config import Backoff, Failover, HealthCheck, Heartbeat, RetryBudget, RetryThrottle, Subset
    from healthlb.config_outliers import FailurePercentage, Outliers, SuccessRate
    from healthlb.config_overload import Overload
    from healthlb.config_stability import FlapDamping, SlowStart
    from healthlb.control.attempts import Attempt
    from healthlb.control.status import SubchannelStatus
    from healthlb.core.load import Subchannel
    from healthlb.core.messages import Endpoint
    from healthlb.core.pickers import CallInfo, Picker, PickerFactory, register_picker
    from healthlb.errors import ChannelClosed, ChannelUnusable, ConfigError, HealthLBError
    from healthlb.resolvers import Resolver, register_resolver
    from healthlb.sync.channel import HealthAwareChannel
else:
    from healthlb._lazy import COMMON, lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {**COMMON, "healthlb.sync.channel": "HealthAwareChannel"},
        submodules=("aio", "config", "errors", "pickers", "presets", "resolvers", "server", "testing"),
    )

__all__ = [
    "Attempt",
    "Backoff",
    "CallInfo",
    "ChannelClosed",
    "ChannelUnusable",
    "ConfigError",
    "Endpoint",
    "Failover",
    "FailurePercentage",
    "FlapDamping",
    "HealthAwareChannel",
    "HealthCheck",
    "HealthLBError",
    "Heartbeat",
    "Outliers",
    "Overload",
    "Picker",
    "PickerFactory",
    "Resolver",
    "RetryBudget",
    "RetryThrottle",
    "SlowStart",
    "Subchannel",
    "SubchannelStatus",
    "Subset",
    "SuccessRate",
    "register_picker",
    "register_resolver",
]
