"""Random worlds hold what must hold; and what does not hold is found, told so that it can be seen again, and shrunk."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from healthlb.cli.app import cli
from healthlb.config import Backoff, HealthCheck
from healthlb.core.messages import SECOND
from healthlb.errors import ConfigError
from healthlb.simulation.fuzzing.campaign import examine, hunt, parse_world, verdict
from healthlb.simulation.fuzzing.shrinking import shrink
from healthlb.simulation.fuzzing.worlds import CALM, END, POLICY, random_world
from healthlb.simulation.scenario.laws import Deterministic, Exponential
from healthlb.simulation.scenario.scenario import MILLISECOND, BackendGroup, ClientGroup, Fault, Load, Policy, Scenario
from healthlb.simulation.scenario_files.scenario_file import parse_scenario
from healthlb.simulation.scenario_files.writer import to_toml
from healthlb.simulation.world.health import HealthService
from healthlb.simulation.world.resolver import _Cache
from healthlb.simulation.world.world import run
from tests.simulation.mutants import MUTANTS, mutated

WORLDS = 500
looks_at = _Cache.looks_at
# Worlds in which something once did not hold: the number, and what it was.
ONCE_WRONG = {
    72: "a status that came during a stall was forgotten for a timer that came with it",
    467: "a resolver that had failed was heard before it was asked again",
    6: "calls on a connection that was half open were in no book",
    31: "one stall that was over ended another",
}


@pytest.mark.parametrize("first", range(0, WORLDS, 100))
def test_what_must_hold_holds_in_random_worlds(first: int) -> None:
    found = examine(1, first, 100)

    assert [f"{finding.replay}  # {finding.text}" for finding in found.findings] == []
    assert found.calls > 50_000


@pytest.mark.parametrize("number", ONCE_WRONG)
def test_what_was_once_wrong_stays_right(number: int) -> None:
    assert verdict(random_world(1, number))[:2] == ("", "")


def test_a_world_is_a_function_of_seed_and_number() -> None:
    assert random_world(1, 5) == random_world(1, 5)
    assert random_world(1, 5) != random_world(1, 6)
    assert random_world(1, 5) != random_world(2, 5)


def test_to_be_watched_changes_nothing_but_the_gossip() -> None:
    scenario = random_world(1, 3)

    assert run(scenario, POLICY, trace=2).trace_hash == run(scenario, POLICY, trace=2).trace_hash


def test_some_worlds_have_costs() -> None:
    worlds = [random_world(3, number) for number in range(400)]
    backends = [group for world in worlds for group in world.backends]
    clients = [group for world in worlds for group in world.clients]

    assert all(
        0 < sum(map(bool, options)) < len(options) / 4
        for options in (
            [group.accept for group in backends],
            [group.tls for group in backends],
            [group.cpu for group in clients],
            [group.dns_cache for group in clients],
            [group.load.fanout > 1 for group in clients],
        )
    )


def test_a_client_that_keeps_lists_hears_in_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario(
        name="a list that is kept",
        duration=END,
        drain=3 * SECOND,
        backends=(BackendGroup(count=2, slots=4, service=Exponential(MILLISECOND)),),
        clients=(ClientGroup(load=Load(rate=60), dns_cache=1_500 * MILLISECOND),),
        policies={POLICY: Policy(name=POLICY)},
        faults=(Fault(kind="resolver", start=SECOND, until=CALM, addresses=("b1",)),),
    )
    assert verdict(scenario)[:2] == ("", "")
    with monkeypatch.context() as late:
        late.setattr(_Cache, "looks_at", lambda cache, now: looks_at(cache, now) + 100 * MILLISECOND)
        assert verdict(scenario)[0] == "U5"


def test_a_server_with_too_much_to_do_owes_no_watch_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slot does 100 calls a second, and gets 240: who comes late to a line that only grows is not heard in time."""
    health = HealthCheck(first_response_timeout=0.47, backoff=Backoff(initial=0.076, maximum=0.933), heartbeat=None)
    scenario = Scenario(
        name="too much to do",
        duration=END,
        drain=3 * SECOND,
        backends=(BackendGroup(service=Deterministic(10 * MILLISECOND)),),
        clients=(
            ClientGroup(load=Load(kind="steady", rate=240)),
            ClientGroup(name="d", load=Load(kind="steady", rate=60), start=2 * SECOND),
        ),
        policies={POLICY: Policy(name=POLICY, service="svc", health=health, outliers=None, failover=None)},
    )
    assert verdict(scenario)[:2] == ("", "")
    # Where a server has the time, its silence is found.
    monkeypatch.setattr(HealthService, "_answer", lambda *_: None)
    assert verdict(scenario)[0] == "U12"


def test_all_faults_are_over_before_the_calm() -> None:
    faults = [fault for number in range(200) for fault in random_world(3, number).faults]

    assert len(faults) > 400
    assert {fault.kind for fault in faults} == {
        "crash", "health", "error", "slow", "pause", "partition", "goaway", "drain", "resolver", "cold", "stall",
    }  # fmt: skip
    assert max(fault.until or END for fault in faults) == CALM


def test_jobs_find_the_same() -> None:
    with mutated("tried subchannels are not left out"):
        alone = [finding for part in hunt(1, 40) for finding in part.findings]
    together = sum(part.worlds for part in hunt(1, 40, jobs=2))

    assert alone
    assert together == 40


def test_shrinking_keeps_the_rule_and_drops_the_rest() -> None:
    mutant = MUTANTS["an ejection cap that is ignored"]
    with mutated("an ejection cap that is ignored"):
        number = next(number for number in mutant.worlds if verdict(random_world(1, number))[0] == mutant.rule)
        large = random_world(1, number)
        steps: list[str] = []
        small = shrink(large, steps.append)
        rule, text, _ = verdict(small)

    assert rule == mutant.rule
    assert text.startswith(f"{mutant.rule}: ")
    assert len(to_toml(small)) < 0.7 * len(to_toml(large))
    assert steps
    assert verdict(small)[:2] == ("", "")  # with the core as it is


def test_a_world_that_is_well_is_not_shrunk() -> None:
    scenario = random_world(1, 0)

    assert shrink(scenario) is scenario


@pytest.mark.parametrize("text", ["", "7", "a:1", "1:b", "1:-1"])
def test_a_world_is_named_by_seed_and_number(text: str) -> None:
    with pytest.raises(ConfigError, match="SEED:NUMBER"):
        parse_world(text)


def test_an_exception_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthlb.core.balancer.Balancer._follow_list", lambda *_: 1 // 0)

    rule, text, _ = verdict(random_world(1, 1))

    assert (rule, text) == ("crash", "crash: ZeroDivisionError('integer division or modulo by zero')")


def test_fuzz_tells_how_to_see_it_again_and_fails() -> None:
    with mutated("tried subchannels are not left out"):
        result = CliRunner().invoke(cli, ["simulate", "fuzz", "--worlds", "40"])

    assert result.exit_code == 1
    assert "healthlb simulate replay 1:" in result.stdout
    assert "U15: " in result.stdout
    assert "40/40 worlds" in result.stdout


def test_fuzz_is_silent_where_all_holds() -> None:
    result = CliRunner().invoke(cli, ["simulate", "fuzz", "--worlds", "5", "--first", "10", "--seed", "2"])

    assert result.exit_code == 0
    assert result.stdout.startswith("done: 5/5 worlds")
    assert ", 0 findings" in result.stdout


def test_replay_shows_lanes_and_the_trace() -> None:
    runner = CliRunner()
    first = runner.invoke(cli, ["simulate", "replay", "1:7", "--lanes"])
    second = runner.invoke(cli, ["simulate", "replay", "1:7", "--lanes"])

    assert first.exit_code == 0
    assert first.output == second.output
    assert "was 0.000 up" in first.output
    assert "all holds: " in first.output
    assert "trace " in first.output


def test_replay_shrinks_to_a_file_that_runs_and_fails(tmp_path: Path) -> None:
    runner = CliRunner()
    file = tmp_path / "small.toml"
    with mutated("tried subchannels are not left out"):
        number = next(number for number in range(100) if verdict(random_world(1, number))[0] == "U15")
        result = runner.invoke(cli, ["simulate", "replay", f"1:{number}", "--shrink"])
        file.write_text(result.stdout)
        again = runner.invoke(cli, ["simulate", "replay", str(file)])
    plain = runner.invoke(cli, ["simulate", "replay", str(file)])
    ran = runner.invoke(cli, ["simulate", "run", str(file)])

    assert result.exit_code == 1
    assert result.stdout.startswith("# U15: ")
    assert "smaller: " in result.stderr
    assert again.exit_code == 1
    assert again.stdout == result.stdout
    assert (plain.exit_code, ran.exit_code) == (0, 0)  # with the core as it is


@pytest.mark.parametrize("number", range(20))
def test_a_world_that_is_written_down_is_the_same_world(number: int) -> None:
    scenario = random_world(1, number)
    written = parse_scenario(tomllib.loads(to_toml(scenario)))

    assert to_toml(written) == to_toml(scenario)
    # A fault that strikes nobody is left out, and with it its place among the streams of chance.
    if len(written.faults) == len(scenario.faults):
        traces = [run(one, POLICY, trace=2, until=3 * SECOND).trace_hash for one in (scenario, written)]
        assert traces[0] == traces[1]


def test_what_has_no_name_cannot_be_written_down() -> None:
    class Own:
        mean = mean_square = 1.0

        def draw(self, random: object, /) -> int:
            return 1

    scenario = random_world(1, 0)
    group = replace(scenario.backends[0], service=Own())
    with pytest.raises(ConfigError, match="a law that has no name"):
        to_toml(replace(scenario, backends=(group,)))
    policy = replace(scenario.policies[POLICY], picker=lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match="a picker that has no name"):
        to_toml(replace(scenario, policies={POLICY: policy}))


def test_replay_of_nonsense_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["simulate", "replay", "x"])

    assert result.exit_code == 2
    assert "SEED:NUMBER" in result.output
