"""Each row of the table of service configs' fields is what becomes of the field."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from healthlb.config.service_config import parse_service_config
from healthlb.core.pickers import make_factory, service_config_picker

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
SECTION = re.compile(r"^## Service configs, field by field$(.*?)^## ", re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| `([\w.]+)` \| ([\w ]+) \|", SECTION.findall(PAGE.read_text())[0], re.MULTILINE)

NAME = {"name": [{}]}
RETRY = {"maxAttempts": 2, "initialBackoff": "1s", "maxBackoff": "1s", "backoffMultiplier": 1}
SAMPLES: dict[str, dict[str, Any]] = {
    "loadBalancingConfig": {"loadBalancingConfig": [{"random": {}}]},
    "loadBalancingPolicy": {"loadBalancingPolicy": "random"},
    "healthCheckConfig.serviceName": {"healthCheckConfig": {"serviceName": "x"}},
    "methodConfig.name": {"methodConfig": [NAME]},
    "methodConfig.timeout": {"methodConfig": [{**NAME, "timeout": "1s"}]},
    "methodConfig.waitForReady": {"methodConfig": [{**NAME, "waitForReady": True}]},
    "methodConfig.maxRequestMessageBytes": {"methodConfig": [{**NAME, "maxRequestMessageBytes": 1}]},
    "methodConfig.maxResponseMessageBytes": {"methodConfig": [{**NAME, "maxResponseMessageBytes": 1}]},
    "methodConfig.retryPolicy": {"methodConfig": [{**NAME, "retryPolicy": {**RETRY, "retryableStatusCodes": [14]}}]},
    "methodConfig.hedgingPolicy": {"methodConfig": [{**NAME, "hedgingPolicy": {"maxAttempts": 2}}]},
    "retryPolicy.perAttemptRecvTimeout": {
        "methodConfig": [{**NAME, "retryPolicy": {**RETRY, "perAttemptRecvTimeout": "1s"}}]
    },
    "retryThrottling": {"retryThrottling": {"maxTokens": 1, "tokenRatio": 1}},
    "connectionScaling.maxConnectionsPerSubchannel": {"connectionScaling": {"maxConnectionsPerSubchannel": 2}},
    **{
        name: {"loadBalancingConfig": [{name.partition(".")[0]: {name.partition(".")[2]: value}}]}
        for name, value in {
            "outlier_detection_experimental.childPolicy": [{"random": {}}],
            "outlier_detection_experimental.interval": "1s",
            "weighted_round_robin.enableOobLoadReport": True,
        }.items()
    },
}


def test_every_field_has_a_sample() -> None:
    assert {name for name, _ in ROWS} == set(SAMPLES)


@pytest.mark.parametrize(("name", "fate"), ROWS)
def test_it_is_what_becomes_of_the_field(name: str, fate: str) -> None:
    config = parse_service_config(SAMPLES[name])
    ignored = list(config.ignored)
    if config.policies:
        make_factory(service_config_picker(config.policies, ignored), random.Random(1))
    found = "left out" if ignored else "passed down" if config.passed_down else "honoured"

    assert found == fate
    assert bool(ignored) == any(name.rpartition(".")[2] in place for place in ignored)
