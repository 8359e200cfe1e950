"""The server's metrics, scraped from a real HTTP endpoint."""

from __future__ import annotations

import sys
import urllib.request
from typing import Any

import pytest

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError
from healthlb.server import Check, CheckResult, HealthManager, HealthServicer
from healthlb.telemetry.server_metrics import OpenTelemetryServerMetrics, PrometheusServerMetrics

PATIENCE = 15.0


def fail() -> None:
    raise ConnectionError("no route")


CHECKS = {"db": Check(probe=lambda: None, interval=60), "queue": Check(probe=fail, interval=60, critical=False)}
SERVICES = {"cart": ["db"], "mail": ["db", "queue"]}


def managed(*listeners: Any) -> None:
    with HealthManager(HealthServicer(), CHECKS, SERVICES, listeners=listeners) as manager:
        assert manager.wait_until_known(PATIENCE)


def test_a_scrape_shows_statuses_and_durations() -> None:
    prometheus = pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    registry = prometheus.CollectorRegistry()
    managed(PrometheusServerMetrics(registry))
    server, thread = prometheus.start_http_server(0, "127.0.0.1", registry)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    server.shutdown()
    server.server_close()
    thread.join()
    lines = text.splitlines()

    for line in (
        'grpc_health_check_status{service=""} 1.0',
        'grpc_health_check_status{service="cart"} 1.0',
        'grpc_health_check_status{service="mail"} 0.0',
        'grpc_health_check_duration_seconds_count{service="cart",status="SERVING"} 1.0',
        'grpc_health_check_duration_seconds_count{service="mail",status="NOT_SERVING"} 1.0',
        "# TYPE grpc_health_check_duration_seconds histogram",
        "# TYPE grpc_health_check_status gauge",
    ):
        assert line in lines


def test_opentelemetry_has_the_same() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    managed(OpenTelemetryServerMetrics(MeterProvider([reader], shutdown_on_exit=False)))
    found: dict[str, Any] = {
        metric.name: {tuple(point.attributes.items()): point for point in metric.data.data_points}
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    statuses = {key: point.value for key, point in found["grpc_health_check_status"].items()}
    durations = found["grpc_health_check_duration_seconds"]

    assert statuses == {(("service", ""),): 1, (("service", "cart"),): 1, (("service", "mail"),): 0}
    assert durations[(("service", "cart"), ("status", "SERVING"))].count == 1


@pytest.mark.parametrize(
    ("made", "module"),
    [(PrometheusServerMetrics, "prometheus_client"), (OpenTelemetryServerMetrics, "opentelemetry.metrics")],
)
def test_without_the_library_it_says_what_to_install(made: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"install \"healthlb\["):
        made()


def test_a_status_that_changes_shows() -> None:
    prometheus = pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    registry = prometheus.CollectorRegistry()
    metrics = PrometheusServerMetrics(registry)
    result = CheckResult(
        name="db", status=ServingStatus.SERVING, error="", duration=0.1, age=0.0, runs=1, critical=True
    )
    metrics(result, {"a": ServingStatus.SERVING})
    metrics(result, {"a": ServingStatus.UNKNOWN})

    assert registry.get_sample_value("grpc_health_check_status", {"service": "a"}) == 0
