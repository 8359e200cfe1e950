"""Options of a channel for tests of the core: what a test does not name is off."""

from __future__ import annotations

from typing import Any

from healthlb.config import ChannelConfig, HealthCheck


def config_of(health: HealthCheck | None = None, **options: Any) -> ChannelConfig:
    """Return options of a channel with neither failover, ejection nor caps but for those given here."""
    off: dict[str, Any] = {"failover": None, "outliers": None, "overload": None}
    return ChannelConfig(health=health or HealthCheck(), **(off | options))
