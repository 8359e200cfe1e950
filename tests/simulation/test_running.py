"""A scenario under its policies: the order of the runs, what the command line changes, and a whole file in short forms."""

from __future__ import annotations

import tomllib

import pytest

from healthlb.errors import ConfigError
from healthlb.simulation.running import Progress, changed, chosen, run_all
from healthlb.simulation.scenario.scenario import SECOND, Scenario
from healthlb.simulation.scenario_files.scenario_file import parse_scenario

FLAPPING = """
schema = 1
name = "flapping-three-of-eight"
title = "One backend crash-flaps, one flaps only its health, one lies (SERVING but failing)"
seed = 42
duration = "30s"
warmup = "2s"
replications = 2

[[backend]]
name = "b"
count = 8
slots = 4
service = { dist = "exponential", mean = "10ms" }
wire = "1ms"

[[client]]
count = 5
load = { kind = "poisson", rho = 0.3 }
start = "sync"
deadline = "300ms"

[policy.plain]
picker = "rr"
[policy.tuned]
picker = "p2c"
retries = 1
budget = { max_tokens = 10, ratio = 0.1 }
panic = 0.5
outlier = { interval = "1s", base = "3s", cap = "30s", max_pct = 30, failure_pct = 50, volume = 10 }

[faults]
timeline = [
  { kind = "crash",  target = "b0", from = "5s", until = "25s", period = "2s",    duty = 0.5, phase = "0s", mode = "rst" },
  { kind = "health", target = "b1", from = "6s", until = "20s", period = "700ms", duty = 0.7, phase = "100ms" },
  { kind = "error",  target = "b2", from = "8s", until = "18s", rate = 0.8 },
]

[expect]
conservation = { check = "requests == ok + errors + in_flight", why = "every call is accounted for" }
budget = { policy = "tuned", check = "retries <= 5*clients + 0.1*ok", why = "gRFC A6" }
hidden = { policy = "tuned", check = "error_ratio < 0.005", why = "one retry elsewhere + ejection hide all three" }
liar   = { policy = "plain", check = "0.02 < error_ratio < 0.08", why = "1/8 share * 0.8 * 10 s of 30 s = 0.033" }
paired = { policy = "plain", check = "gain('error_ratio', 'tuned') > gain_ci95('error_ratio', 'tuned')" }
"""


@pytest.fixture
def scenario() -> Scenario:
    return parse_scenario(tomllib.loads(FLAPPING))


def test_three_faults_at_once_with_and_without_what_helps(scenario: Scenario) -> None:
    told: list[tuple[int, str, int]] = []

    def tell(progress: Progress) -> None:
        told.append((progress.replication, progress.policy, len(progress.done)))

    outcome = run_all(scenario, ("plain", "tuned"), tell=tell)

    assert [(check.name, check.policy, check.holds) for check in outcome.checks] == [
        ("conservation", "plain", True),
        ("conservation", "tuned", True),
        ("budget", "tuned", True),
        ("hidden", "tuned", True),
        ("liar", "plain", True),
        ("paired", "plain", True),
    ]
    assert list(dict.fromkeys(told))[::2] == [(0, "plain", 0), (0, "tuned", 1), (1, "plain", 2), (1, "tuned", 3)]
    assert outcome.is_complete
    assert outcome.is_good
    assert [(record.policy, record.replication) for record in outcome.records] == [
        *(("plain", 0), ("plain", 1), ("tuned", 0), ("tuned", 1))
    ]
    assert outcome.runs["plain"][0].metrics["requests"] == outcome.runs["tuned"][0].metrics["requests"]


def test_telling_changes_nothing(scenario: Scenario) -> None:
    short = changed(scenario, until=3 * SECOND, replications=1)

    told = run_all(short, ("tuned",), trace=2, tell=lambda progress: None).records[0]
    again = run_all(short, ("tuned",), trace=2).records[0]

    assert told.trace_hash == again.trace_hash
    assert told.events == again.events


def test_what_the_command_line_changes(scenario: Scenario) -> None:
    made = changed(scenario, seed=7, replications=3, until=90 * SECOND)

    assert (made.seed, made.replications, made.duration) == (7, 3, 30 * SECOND)
    assert changed(scenario) == scenario
    assert changed(scenario, until=10 * SECOND).duration == 10 * SECOND
    with pytest.raises(ConfigError, match="replications must be at least 1, not 0"):
        changed(scenario, replications=0)
    with pytest.raises(ConfigError, match="until must be more than the warm-up of 2 s, not 2 s"):
        changed(scenario, until=2 * SECOND)


def test_policies_are_chosen_by_name(scenario: Scenario) -> None:
    assert chosen(scenario, ()) == ("plain", "tuned")
    assert chosen(scenario, ("tuned", "plain", "tuned")) == ("tuned", "plain")
    with pytest.raises(ConfigError, match="policy must be one of plain, tuned, not 'x'"):
        chosen(scenario, ("x",))
