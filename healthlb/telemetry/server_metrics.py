"""What HealthManager's checks find, as metrics for Prometheus or OpenTelemetry.

Both have the same two: the histogram `grpc_health_check_duration_seconds` (by `service` and `status`, one observation
for each service that stands on a check that ran) and the gauge `grpc_health_check_status` (by `service`; 1 is SERVING,
0 anything else). Pass one as a listener:

    HealthManager(health, checks, listeners=[PrometheusServerMetrics()])

The one rule: prometheus_client and opentelemetry are imported when a class here is made, not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError
from healthlb.server.check import CheckResult

DURATION = "grpc_health_check_duration_seconds"
STATUS = "grpc_health_check_status"
_DURATION_HELP = "Seconds that a run of a health check took."
_STATUS_HELP = "Whether a service is SERVING."
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def _need(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f'{module} is needed: install "healthlb[{extra}]"') from error


class PrometheusServerMetrics:
    """A listener of HealthManager that keeps prometheus_client's metrics.

    Args:
        registry: a `CollectorRegistry`; None for the global one, where two of these cannot live.

    Raises:
        ConfigError: prometheus_client is not installed.
    """

    def __init__(self, registry: Any = None) -> None:
        prometheus_client = _need("prometheus_client", "prometheus")
        given = {} if registry is None else {"registry": registry}
        self._duration: Any = prometheus_client.Histogram(
            DURATION, _DURATION_HELP, ("service", "status"), buckets=_BUCKETS, **given
        )
        self._status: Any = prometheus_client.Gauge(STATUS, _STATUS_HELP, ("service",), **given)

    def __call__(self, result: CheckResult, services: Mapping[str, ServingStatus]) -> None:
        """Record a run."""
        for service, status in services.items():
            self._duration.labels(service, result.status.name).observe(result.duration)
            self._status.labels(service).set(status is ServingStatus.SERVING)


class OpenTelemetryServerMetrics:
    """A listener of HealthManager that records through OpenTelemetry.

    Args:
        meter_provider: None for the global one.

    Raises:
        ConfigError: opentelemetry is not installed.
    """

    def __init__(self, meter_provider: Any = None) -> None:
        metrics = _need("opentelemetry.metrics", "otel")
        meter = metrics.get_meter("healthlb", meter_provider=meter_provider)
        self._duration: Any = meter.create_histogram(
            DURATION, "s", _DURATION_HELP, explicit_bucket_boundaries_advisory=_BUCKETS
        )
        self._statuses: dict[str, ServingStatus] = {}
        meter.create_observable_gauge(STATUS, [self._observe], "1", _STATUS_HELP)
        self._observation: Any = metrics.Observation

    def __call__(self, result: CheckResult, services: Mapping[str, ServingStatus]) -> None:
        """Record a run."""
        for service, status in services.items():
            self._duration.record(result.duration, {"service": service, "status": result.status.name})
            self._statuses[service] = status

    def _observe(self, options: Any) -> list[Any]:
        return [
            self._observation(int(status is ServingStatus.SERVING), {"service": service})
            for service, status in self._statuses.copy().items()
        ]
