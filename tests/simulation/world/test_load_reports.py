"""What servers say of their load: means of a second or more, from which weights learn what each can do."""

from __future__ import annotations

from healthlb.core.pickers import service_config_picker
from healthlb.simulation.scenario.laws import Exponential
from healthlb.simulation.scenario.scenario import SECOND, BackendGroup, ClientGroup, Load, Policy, Scenario
from healthlb.simulation.world import world


def test_weights_follow_what_each_backend_can_do() -> None:
    service = Exponential(20_000_000)
    weighted = service_config_picker([{"weighted_round_robin": {"blackoutPeriod": "1s", "weightUpdatePeriod": "1s"}}])
    scenario = Scenario(
        name="mixed",
        duration=40 * SECOND,
        warmup=10 * SECOND,
        backends=(
            BackendGroup(name="fast", count=2, slots=2, service=service),
            BackendGroup(name="slow", count=2, slots=2, service=service, speed=0.25),
        ),
        clients=(ClientGroup(load=Load(rho=0.7)),),
        policies={"weighted": Policy(picker=weighted)},
    )
    picks = world.run(scenario, "weighted").bins.picks
    fast, slow = (sum(sum(picks[f"{name}{n}"][100:]) for n in range(2)) for name in ("fast", "slow"))

    # In proportion to the speeds, as utilization per query tells them, to within the noise of one second's sample.
    assert 0.16 < slow / (fast + slow) < 0.25
