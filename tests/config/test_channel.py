"""A channel's options are written once, in `ChannelConfig`; here is what must say the same."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

import healthlb
import healthlb.aio
from healthlb.config import DEFAULTS, ChannelConfig
from healthlb.simulation.scenario.scenario import Policy
from healthlb.simulation.scenario_files.policy_tables import KEYS

OPTIONS = {field.name: field for field in dataclasses.fields(ChannelConfig)}
CHANNELS = (healthlb.HealthAwareChannel, healthlb.aio.HealthAwareChannel)
# What a channel takes besides, the same in both faces.
PLUMBING = {
    *("target", "service", "credentials", "options", "compression", "interceptors", "picker"),
    *("service_config", "listeners"),
}


def told(kind: type) -> dict[str, str]:
    """Return what a class's docstring says of each argument or attribute."""
    doc = inspect.getdoc(kind) or ""
    section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n|\n)+)", doc, re.MULTILINE)
    assert section is not None
    return {
        name: " ".join(text.split())
        for name, text in re.findall(r"^    (\w+): ((?:.|\n(?!    \w))*)", section[1], re.M)
    }


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_takes_every_option_with_its_default(channel: type) -> None:
    parameters = inspect.signature(channel).parameters

    assert set(parameters) == OPTIONS.keys() | PLUMBING
    for name, field in OPTIONS.items():
        assert parameters[name].default is getattr(DEFAULTS, name)
        assert parameters[name].annotation == field.type


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_says_of_an_option_what_the_class_says(channel: type) -> None:
    says = told(channel)

    assert {name: says[name] for name in OPTIONS} == told(ChannelConfig)


def test_a_scenario_file_takes_every_option() -> None:
    assert OPTIONS.keys() <= set(KEYS)
    assert issubclass(Policy, ChannelConfig)
