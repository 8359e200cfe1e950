"""Scenario files: what they may hold, what it becomes, and how a wrong one is refused."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthlb import presets
from healthlb.config import (
    Backoff,
    Failover,
    FlapDamping,
    HealthCheck,
    Heartbeat,
    RetryBudget,
    RetryThrottle,
    SlowStart,
    Subset,
)
from healthlb.config.outliers import Outliers, SuccessRate
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.laws import Deterministic, Empirical, Exponential
from healthlb.simulation.scenario.scenario import (
    MILLISECOND,
    SECOND,
    BackendGroup,
    ClientGroup,
    Expectation,
    Fault,
    Load,
    Policy,
    Scenario,
)
from healthlb.simulation.scenario_files.scenario_file import find_scenario, load_scenario, parse_scenario
from healthlb.simulation.scenario_files.table import ScenarioError

WORLD = """
[[backend]]
name = "b"
count = 4
service = "10ms"
[[client]]
load = { rho = 0.5 }
"""


def parsed(text: str = "", world: str = WORLD) -> Scenario:
    return parse_scenario(tomllib.loads(world + text), "x.toml")


def policy(text: str) -> Policy:
    return parsed(f"[policy.p]\n{text}\n").policies["p"]


def test_a_whole_file() -> None:
    scenario = parse_scenario(
        tomllib.loads("""
            schema = 1
            name = "flap"
            title = "A backend comes and goes"
            seed = 42
            duration = "30s"
            warmup = "2s"
            drain = 5
            replications = 4
            tags = ["flapping", "health"]

            [[backend]]
            name = "b"
            count = 8
            slots = 4
            discipline = "ps"
            queue = 100
            service = { dist = "exponential", mean = "10ms" }
            wire = "1ms"
            jitter = "100us"
            zone = "a"
            weight = 2
            speed = 0.5
            max_streams = 100
            drop_cancelled = true
            health = "lying"
            max_age = "30s"
            watch_lag = "5ms"
            cold = "10s"
            cold_speed = 0.2

            [[client]]
            name = "c"
            count = 5
            load = { kind = "poisson", rho = 0.55 }
            start = "uniform(2s)"
            deadline = "300ms"
            wait_for_ready = true
            idempotent = false
            zone = "a"
            work = "1ms"

            [policy.plain]
            picker = "rr"

            [parameters]
            period = "2s"
            crashes = 10

            [faults]
            timeline = [
              { kind = "crash", target = "b0", from = "5s", until = "25s", period = "2s", duty = 0.4, mode = "half-open" },
              { kind = "health", target = "50%", from = "6s", period = "700ms", phase = "random", stagger = "1us" },
              { kind = "error", target = "zone:a", rate = 0.8, code = "internal", latency = "2ms" },
              { kind = "resolver", from = "9s", addresses = ["b7", "b[01]", "b0"] },
              { kind = "stall", from = "9s", until = "10s", clients = "c0" },
            ]

            [expect]
            conserved = { check = "requests == ok + errors + in_flight", why = "every call is accounted for" }
            few = { policy = "plain", check = "errors < crashes" }
            quick = "p99 < period"
        """)
    )

    assert scenario == Scenario(
        name="flap",
        title="A backend comes and goes",
        seed=42,
        duration=30 * SECOND,
        warmup=2 * SECOND,
        drain=5 * SECOND,
        replications=4,
        tags=("flapping", "health"),
        backends=(
            BackendGroup(
                name="b",
                count=8,
                slots=4,
                discipline="ps",
                queue=100,
                service=Exponential(10 * MILLISECOND),
                wire=MILLISECOND,
                jitter=100_000,
                zone="a",
                weight=2,
                speed=0.5,
                max_streams=100,
                drop_cancelled=True,
                health="lying",
                max_age=30 * SECOND,
                watch_lag=5 * MILLISECOND,
                cold=10 * SECOND,
                cold_speed=0.2,
            ),
        ),
        clients=(
            ClientGroup(
                count=5,
                load=Load(rho=0.55),
                start=2 * SECOND,
                deadline=300 * MILLISECOND,
                wait_for_ready=True,
                idempotent=False,
                zone="a",
                work=Deterministic(MILLISECOND),
            ),
        ),
        policies={
            "plain": Policy(
                name="plain", health=HealthCheck(heartbeat=None), failover=None, outliers=None, overload=None
            )
        },
        parameters={
            "slots": 4.0,
            "service": 0.01,
            "wire": 0.001,
            "deadline": 0.3,
            "warmup": 2.0,
            "period": 2.0,
            "crashes": 10.0,
        },
        faults=(
            Fault(
                kind="crash",
                target="b0",
                start=5 * SECOND,
                until=25 * SECOND,
                period=2 * SECOND,
                duty=0.4,
                mode="half-open",
            ),
            Fault(kind="health", target="50%", start=6 * SECOND, period=700 * MILLISECOND, phase=None, stagger=1000),
            Fault(kind="error", target="zone:a", rate=0.8, code="INTERNAL", latency=2 * MILLISECOND),
            Fault(kind="resolver", start=9 * SECOND, addresses=("b7", "b0", "b1")),
            Fault(kind="stall", start=9 * SECOND, until=10 * SECOND, clients="c0"),
        ),
        expect=(
            Expectation(
                name="conserved", check="requests == ok + errors + in_flight", why="every call is accounted for"
            ),
            Expectation(name="few", check="errors < crashes", policy="plain"),
            Expectation(name="quick", check="p99 < period"),
        ),
    )


def test_what_a_file_does_not_say() -> None:
    scenario = parsed()

    assert scenario == Scenario(
        name="scenario",
        backends=(BackendGroup(count=4, service=Deterministic(10 * MILLISECOND)),),
        clients=(ClientGroup(load=Load(rho=0.5)),),
        policies={"default": Policy(name="default")},
        parameters={"slots": 1.0, "service": 0.01, "wire": 0.001, "warmup": 0.0},
    )


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ('{ kind = "poisson", rate = "120/s" }', Load(rate=120.0)),
        ('{ rate = "3/ms" }', Load(rate=3000.0)),
        ("{ rate = 12 }", Load(rate=12.0)),
        ('{ kind = "steady", rho = 0.3 }', Load(kind="steady", rho=0.3)),
        (
            '{ closed = { users = 50, think = "10ms" } }',
            Load(kind="closed", users=50, think=Deterministic(10 * MILLISECOND)),
        ),
        ('{ kind = "closed", users = 50 }', Load(kind="closed", users=50)),
        ('{ burst = { size = 9, period = "1m" } }', Load(kind="burst", size=9, period=60 * SECOND)),
        ('{ trace = [0, "1ms", 0.5] }', Load(kind="trace", times=(0, MILLISECOND, SECOND // 2))),
    ],
)
def test_loads(text: str, load: Load) -> None:
    world = f'[[backend]]\nservice = "1ms"\n[[client]]\nload = {text}\n'

    assert parsed(world=world).clients[0].load == load


# --- policies --------------------------------------------------------------------------------------

BARE = HealthCheck(heartbeat=None)


def test_what_a_policy_does_not_name_is_off() -> None:
    assert policy("") == Policy(name="p", health=BARE, failover=None, outliers=None, overload=None)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ('picker = "p2c"', 'picker = "least_request"'),
        ("retries = 0", "failover = false"),
        ("retries = 2", "failover = { max_attempts = 3, budget = false }"),
        (
            "retries = 1\nbudget = { max_tokens = 10, ratio = 0.1 }",
            "failover = { max_attempts = 2, budget = { max_tokens = 10, token_ratio = 0.1 } }",
        ),
        (
            'retries = 1\nbudget = { ratio = 0.1, ttl = "5s" }',
            "failover = { max_attempts = 2, budget = { ratio = 0.1, ttl = 5 } }",
        ),
        (
            'retries = 1\nattempt_timeout = "200ms"\ncodes = ["INTERNAL"]',
            'failover = { max_attempts = 2, budget = false, attempt_timeout = 0.2, codes = ["INTERNAL"] }',
        ),
        (
            "damping = { half_life = 5, max_suppress = 20 }",
            "health = { heartbeat = false, damping = { half_life = 5, max_suppress = 20 } }",
        ),
        ("subset = 5", "subset = { size = 5 }"),
        ('picker = "wrr"\nslow_start = "10s"', 'picker = "weighted_round_robin"\nslow_start = { window = 10 }'),
        (
            "outlier = { stdev_factor = 0 }",
            "outliers = { base_ejection_time = 30, ejection_growth = false, consecutive_failures = false, consecutive_connection_failures = false, success_rate = { stdev_factor = 0 }, failure_percentage = false }",
        ),
        ("panic = 0.5", "panic_threshold = 0.5"),
        ("panic = 0", ""),
        ("outlier = false", "outliers = false"),
        ('heartbeat = { interval = "1s" }', 'health = { heartbeat = { interval = "1s" } }'),
        (
            'outlier = { interval = "1s", base = "3s", cap = "30s", max_pct = 30, failure_pct = 50 }',
            "outliers = { interval = 1, base_ejection_time = 3, ejection_growth = false, max_ejection_time = 30, max_ejection_percent = 30, "
            "consecutive_failures = false, consecutive_connection_failures = false, success_rate = false, "
            "failure_percentage = { threshold = 50 } }",
        ),
        (
            "outlier = { stdev_factor = 1500, volume = 20, hosts = 3 }",
            "outliers = { base_ejection_time = 30, ejection_growth = false, consecutive_failures = false, consecutive_connection_failures = false, "
            "success_rate = { stdev_factor = 1500, minimum_hosts = 3, request_volume = 20 }, "
            "failure_percentage = false }",
        ),
        (
            "outlier = {}",
            "outliers = { base_ejection_time = 30, ejection_growth = false, consecutive_failures = false, consecutive_connection_failures = false }",
        ),
    ],
)
def test_short_forms(short: str, long: str) -> None:
    assert policy(short) == policy(long)


def test_a_policy_in_the_library_s_own_names() -> None:
    made = policy("""
        picker = "least_request"
        service = "shop"
        panic_threshold = 0.4
        health = { rise = 2, fall = 3, backoff = { initial = "100ms" }, heartbeat = { interval = "1s", timeout = 0.5 }, damping = { half_life = "5s", max_suppress = "20s" } }
        failover = { max_attempts = 2, codes = ["UNAVAILABLE"], idempotent = ["/a.B/*"], hedging_delay = "50ms", attempt_timeout = 1, backoff = { jitter = 0 } }
        outliers = { success_rate = { request_volume = 10 }, failure_percentage = false, latency_factor = 3, consecutive_failures = 4 }
        subset = { size = 3, seed = 7 }
        slow_start = { window = "10s", aggression = 2 }
    """)

    assert made == Policy(
        name="p",
        picker="least_request",
        service="shop",
        health=HealthCheck(
            rise=2,
            fall=3,
            backoff=Backoff(initial=0.1),
            heartbeat=Heartbeat(interval=1, timeout=0.5),
            damping=FlapDamping(half_life=5, max_suppress=20),
        ),
        failover=Failover(
            max_attempts=2,
            codes=["UNAVAILABLE"],
            idempotent=["/a.B/*"],
            hedging_delay=0.05,
            attempt_timeout=1,
            backoff=Backoff(jitter=0),
        ),
        outliers=Outliers(
            success_rate=SuccessRate(request_volume=10),
            failure_percentage=None,
            latency_factor=3,
            consecutive_failures=4,
        ),
        subset=Subset(size=3, seed=7),
        overload=None,
        panic_threshold=0.4,
        slow_start=SlowStart(window=10, aggression=2),
    )


def test_named_tables_have_the_class_s_defaults() -> None:
    made = policy("health = {}\nfailover = {}\noutliers = {}")

    assert (made.health, made.failover, made.outliers) == (HealthCheck(), Failover(), Outliers())


def test_presets_and_what_changes_them() -> None:
    assert policy('preset = "default"') == Policy(name="p")
    resilient = presets.resilient()
    assert policy('preset = "resilient"') == Policy(name="p", **resilient)
    assert policy('preset = { name = "resilient", hedging_delay = false, attempt_timeout = "1s" }') == Policy(
        name="p", **presets.resilient(hedging_delay=None, attempt_timeout=1.0)
    )
    changed = policy('preset = "resilient"\nfailover = { max_attempts = 2 }\noutliers = false')
    assert changed.failover is not None
    assert changed.failover.hedging_delay == resilient["failover"].hedging_delay
    assert (changed.failover.max_attempts, changed.outliers) == (2, None)


@pytest.mark.parametrize("preset", ["default", "resilient"])
@pytest.mark.parametrize(
    ("keys", "value", "path"),
    [
        ("failover = { max_attempts = 2 }", 2, "failover.max_attempts"),
        ("failover = { budget = { ratio = 0.4 } }", 0.4, "failover.budget.ratio"),
        ("outliers = { interval = '3s' }", 3, "outliers.interval"),
        ("outliers = { success_rate = { enforcement = 40 } }", 40, "outliers.success_rate.enforcement"),
        ("outliers = { failure_percentage = { threshold = 40 } }", 40, "outliers.failure_percentage.threshold"),
        ("health = { rise = 2 }", 2, "health.rise"),
        ("health = { backoff = { maximum = '7s' } }", 7, "health.backoff.maximum"),
        ("health = { reconnect = { maximum = '7s' } }", 7, "health.reconnect.maximum"),
        ("health = { heartbeat = { ping = false } }", False, "health.heartbeat.ping"),
        ("heartbeat = { ping = false }", False, "health.heartbeat.ping"),
        (
            "heartbeat = { ping = false }\nhealth = { heartbeat = { timeout = '400ms' } }",
            False,
            "health.heartbeat.ping",
        ),
        ("overload = { max_waiting = 5 }", 5, "overload.max_waiting"),
    ],
)
def test_u10_after_a_preset_a_table_changes_what_it_names(preset: str, keys: str, value: object, path: str) -> None:
    # `ping` has another value in neither, so the rest of the table shows whose it is.
    made, base = policy(f"preset = '{preset}'\n{keys}"), policy(f"preset = '{preset}'")
    if "timeout" in keys:
        base = replace_in(base, "health.heartbeat.timeout", 0.4)

    assert made == replace_in(base, path, value) != base


def replace_in(of: Any, path: str, value: object) -> Any:
    name, _, rest = path.partition(".")
    return replace(of, **{name: replace_in(getattr(of, name), rest, value) if rest else value})


def test_budgets() -> None:
    with_budget = "failover = { budget = %s }"
    assert policy(with_budget % "{ ratio = 0.5 }").failover == Failover(budget=RetryBudget(ratio=0.5))
    assert policy(with_budget % "{ max_tokens = 8, token_ratio = 0.2 }").failover == Failover(
        budget=RetryThrottle(max_tokens=8, token_ratio=0.2)
    )


def test_pickers_with_arguments() -> None:
    made = policy('picker = { name = "p2c", choice_count = 3 }').picker

    assert callable(made)
    assert getattr(made(), "_choice_count") == 3  # noqa: B009


# --- other files -----------------------------------------------------------------------------------


def test_files_that_a_file_names(tmp_path: Path) -> None:
    (tmp_path / "prod.toml").write_text('picker = "least_request"\n[failover]\nmax_attempts = 5\n')
    (tmp_path / "times.txt").write_text("1ms\n# a comment\n2ms  # another\n\n0.004\n")
    (tmp_path / "arrivals.csv").write_text("0\n0.5\n1.25\n")
    (tmp_path / "mine.toml").write_text("""
        [[backend]]
        service = { dist = "empirical", file = "times.txt" }
        [[client]]
        load = { trace = "arrivals.csv" }
        [policy.prod]
        file = "prod.toml"
        panic = 0.5
    """)

    scenario = load_scenario(tmp_path / "mine.toml")

    assert scenario.name == "mine"
    assert scenario.backends[0].service == Empirical((MILLISECOND, 2 * MILLISECOND, 4 * MILLISECOND))
    assert scenario.clients[0].load.times == (0, SECOND // 2, SECOND * 5 // 4)
    assert scenario.policies["prod"] == Policy(
        name="prod",
        picker="least_request",
        health=BARE,
        failover=Failover(max_attempts=5),
        outliers=None,
        overload=None,
        panic_threshold=0.5,
    )


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"name = ", "mine.toml: Invalid value (at end of document)"),
        (b"a = 1\na = 2", "Cannot overwrite a value"),
        (b"\xff\xfe", "must be text in UTF-8"),
        (b"a = " + b"[" * 9000, "mine.toml: "),
        (b"# " + b"x" * 4_000_001, "must have at most 4,000,000 bytes"),
    ],
)
def test_what_is_no_toml(tmp_path: Path, content: bytes, wanted: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)

    with pytest.raises(ScenarioError) as refusal:
        load_scenario(path)

    assert wanted in str(refusal.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"cannot be read: .*No such file"):
        load_scenario(tmp_path / "none.toml")
    with pytest.raises(ScenarioError, match="there is no scenario 'none': neither a file nor one of"):
        find_scenario("none")
    for path in ("/dev/zero", "/", str(tmp_path)):
        with pytest.raises(ScenarioError, match=f"scenario '{path}' must be a regular file, not a folder or a device"):
            find_scenario(path)
    (tmp_path / "x.toml").write_text(WORLD + '[policy.p]\nfile = "none.toml"')
    with pytest.raises(ScenarioError, match=r"x\.toml: .*none\.toml cannot be read"):
        load_scenario(tmp_path / "x.toml")


# --- what is refused -------------------------------------------------------------------------------

REFUSED = {
    "schema = 2\n": "x.toml: schema must be 1, not 2",
    "seeds = 1\n": "x.toml: seeds is unknown (did you mean seed?); there may be schema, duration,",
    "seed = 1.5\n": "x.toml: seed must be a whole number, not 1.5",
    'duration = "10 parsecs"\n': "x.toml: duration must be a duration like '10ms'",
    "duration = 0\n": "x.toml: duration must be at least 1000000 ns and at most a year, not 0",
    'duration = "25h"\n': "x.toml: duration must be at most 24h, not '25h'",
    'warmup = "10s"\n': "x.toml: warmup must be less than the duration of 10 s, not '10s'",
    "replications = 0\n": "x.toml: replications must be a number at least 1 and at most 100000, not 0",
    "replications = true\n": "x.toml: replications must be a whole number, not True",
    "tags = 'a'\n": "x.toml: tags must be a list of texts, not 'a'",
    "title = 5\n": "x.toml: title must be text, not 5",
    "backend = []\n": "x.toml: there must be at least one [[backend]]",
    "backend = [5]\n": "x.toml: backend[0] must be a table, not 5",
    "backend = 5\n": "x.toml: backend must be a list of tables, not 5",
    "policy = 5\n": "x.toml: policy must be a table, not 5",
}


@pytest.mark.parametrize("text", REFUSED, ids=str.strip)
def test_wrong_files_are_refused(text: str) -> None:
    world = WORLD if not text.startswith("backend") else "[[client]]\nload = { rho = 0.5 }\n"

    with pytest.raises(ScenarioError) as refusal:
        parsed(world=text + world)

    assert str(refusal.value).startswith(REFUSED[text])
    assert isinstance(refusal.value, ConfigError)


BACKENDS = {
    "service = '1ms'\ncount = 0": "backend[0].count must be a number at least 1 and at most 10000, not 0",
    "count = 1": "backend[0].service is missing",
    "service = '0s'": "backend[0].service must be a law whose mean is above 0, not '0s'",
    "service = { dist = 'normal' }": "backend[0].service.dist must be one of exponential,",
    "service = '1ms'\nslot = 4": "backend[0].slot is unknown (did you mean slots?)",
    "service = '1ms'\ndiscipline = 'FIFO'": "backend[0].discipline must be one of fifo, ps, lifo, inf",
    "service = '1ms'\nhealth = 'ill'": "backend[0].health must be one of honest, lying,",
    "service = '1ms'\nname = '-'": "backend[0].name must be up to 64 letters",
    "service = '1ms'\ndrop_cancelled = 1": "backend[0].drop_cancelled must be true or false, not 1",
    "service = '1ms'\nspeed = 0": "backend[0].speed must be a number above 0",
    "service = '1ms'\n[[backend]]\nservice = '1ms'": "backend[1].name must be another: there is a b0 already, not None",
    "service = '1ms'\ncount = 9999\n[[backend]]\nname = 'x'\ncount = 2\nservice = '1ms'": "there must be at most 10000 backends, not 10001",
}


@pytest.mark.parametrize("text", BACKENDS)
def test_wrong_backends_are_refused(text: str) -> None:
    with pytest.raises(ScenarioError) as refusal:
        parsed(world=f"[[backend]]\n{text}\n[[client]]\nload = {{ rho = 0.5 }}\n")

    assert str(refusal.value).startswith(f"x.toml: {BACKENDS[text]}")


CLIENTS = {
    "load = {}": "client[0].load.rate or client[0].load.rho must be given, and not both",
    "load = { rho = 1, rate = 1 }": "client[0].load.rate or client[0].load.rho must be given",
    "load = { rate = 'fast' }": "client[0].load.rate must be a number of calls per second, or text like '120/s'",
    "load = { rate = 1e9 }": "client[0].load.rate must be above 0 and at most 10000000 per second, not 1000000000.0",
    "load = { rate = '0/s' }": "client[0].load.rate must be above 0",
    "load = { kind = 'posson', rho = 1 }": "client[0].load.kind must be one of poisson, steady, closed, burst, trace (did you mean poisson?)",
    "load = { closed = { think = '1s' } }": "client[0].load.closed.users is missing",
    "load = { burst = { size = 0, period = '1s' } }": "client[0].load.burst.size must be",
    "load = { trace = [2, 1] }": "client[0].load.trace must be in order of time",
    "load = { trace = [] }": "client[0].load.trace must be a list of at least one time",
    "load = { rho = 0.5 }\nstart = 'soon'": "client[0].start must be a duration",
    "load = { rho = 0.5 }\ndeadline = 0": "client[0].deadline must be",
    "load = { rho = 0.5 }\nfailover = {}": "client[0].failover is unknown",
}


@pytest.mark.parametrize("text", CLIENTS)
def test_wrong_clients_are_refused(text: str) -> None:
    with pytest.raises(ScenarioError) as refusal:
        parsed(world=f"[[backend]]\nservice = '1ms'\n[[client]]\n{text}\n")

    assert str(refusal.value).startswith(f"x.toml: {CLIENTS[text]}")


POLICIES = {
    "picker = 'best'": "policy.p.picker must be one of",
    "picker = { name = 'p2c', choices = 3 }": "loadBalancingConfig.least_request takes",
    "picker = { name = 'p2c', choice_count = 1 }": "loadBalancingConfig.least_request: LeastRequest.choice_count",
    "retries = 20": "policy.p.retries must be a number at least 0 and at most 19, not 20",
    "retries = 1\nfailover = {}": "policy.p.retries and policy.p.failover say the same; give one of them",
    "codes = ['INTERNAL']": "policy.p.codes needs policy.p.retries",
    "subset = 0": "policy.p.subset must be a number at least 1, not 0",
    "slow_start = 'soon'": "policy.p.slow_start must be a duration",
    "retries = 1\ncodes = ['FINE']": "Failover.codes must hold names",
    "budget = { ratio = 1 }": "policy.p.budget needs policy.p.retries",
    "retries = 1\nbudget = { ratio = 0.1, max_token = 1 }": "policy.p.budget.max_token is unknown",
    "retries = 1\nbudget = { max_tokens = 10, ratio = 0 }": "policy.p.budget.ratio must be a number at least 0.001, not 0",
    "outlier = {}\noutliers = {}": "policy.p.outlier and policy.p.outliers say the same",
    "outlier = { interval = '1s', base = '9s', cap = '1s' }": "Outliers.max_ejection_time must be a number at least 9, not 1.0",
    "outlier = { pct = 1 }": "policy.p.outlier.pct is unknown (did you mean max_pct?)",
    "overload = { max_wait = 0 }": "Overload.max_wait must be",
    "panic = 1.5": "policy.p.panic must be a number at least 0 and at most 1, not 1.5",
    "panic = 1\npanic_threshold = 1": "policy.p.panic and policy.p.panic_threshold say the same",
    "health = { rise = 0 }": "HealthCheck.rise must be",
    "health = { raise = 1 }": "policy.p.health.raise is unknown (did you mean rise?)",
    "health = { heartbeat = { interval = 'x' } }": "policy.p.health.heartbeat.interval must be a duration",
    "failover = { codes = ['UNHAPPY'] }": "Failover.codes must hold names of gRPC status codes",
    "failover = 3": "policy.p.failover must be a table, not 3",
    "slow_start = {}": "policy.p.slow_start.window is missing",
    "slow_start = { window = 1 }": "policy.p.slow_start needs a picker that reads weights",
    "subset = { size = 0 }": "Subset.size must be",
    "preset = 'best'": "policy.p.preset must be one of default, resilient",
    "preset = { name = 'default', hedging_delay = 1 }": "policy.p.preset.hedging_delay is unknown",
    "service = 5": "policy.p.service must be text, or false for no health checking, not 5",
    "interceptors = []": "policy.p.interceptors is unknown",
    "file = 5": "policy.p.file is unknown",
}


@pytest.mark.parametrize("text", POLICIES)
def test_wrong_policies_are_refused(text: str) -> None:
    with pytest.raises(ScenarioError) as refusal:
        policy(text)

    assert str(refusal.value).startswith(f"x.toml: {POLICIES[text]}")


FAULTS = {
    "{ target = 'b0' }": "faults.timeline[0].kind is missing",
    "{ kind = 'crsh' }": "faults.timeline[0].kind must be one of",
    "{ kind = 'crash', target = 'x*' }": "faults.timeline[0].target must be a glob over the names of backends (b0, b1, b2, b3), 'zone:...' or a share like '30%', not 'x*'",
    "{ kind = 'crash', target = 'zone:a' }": "faults.timeline[0].target must be",
    "{ kind = 'crash', target = '1%' }": "faults.timeline[0].target must be",
    "{ kind = 'crash', rate = 0.5 }": "faults.timeline[0].rate is unknown",
    "{ kind = 'crash', from = '11s' }": "faults.timeline[0].from must be within the run's 10 s, not '11s'",
    "{ kind = 'crash', from = '2s', until = '1s' }": "faults.timeline[0].until must be at least 2000000001 ns",
    "{ kind = 'crash', duty = 0.5 }": "faults.timeline[0].duty needs faults.timeline[0].period",
    "{ kind = 'crash', period = '1s', duty = 2 }": "faults.timeline[0].duty must be a number at least 0 and at most 1",
    "{ kind = 'crash', mode = 'fin' }": "faults.timeline[0].mode must be one of rst, blackhole, half-open",
    "{ kind = 'slow' }": "faults.timeline[0].factor is missing",
    "{ kind = 'error', code = 'OK' }": "faults.timeline[0].code must hold names of gRPC status codes",
    "{ kind = 'stall', clients = 'x' }": "faults.timeline[0].clients must be a glob over the names of clients (c0)",
    "{ kind = 'resolver' }": "faults.timeline[0].addresses or faults.timeline[0].error must be given",
    "{ kind = 'resolver', addresses = ['y'] }": "faults.timeline[0].addresses must be a list of names of backends",
}


@pytest.mark.parametrize("text", FAULTS)
def test_wrong_faults_are_refused(text: str) -> None:
    with pytest.raises(ScenarioError) as refusal:
        parsed(f"[faults]\ntimeline = [{text}]\n")

    assert str(refusal.value).startswith(f"x.toml: {FAULTS[text]}")


CHECKS = {
    "a = 5": "expect.a must be a table, not 5",
    "a = { why = 'x' }": "expect.a.check is missing",
    "a = { check = 'ok > 1', policies = 'p' }": "expect.a.policies is unknown (did you mean policy?)",
    "a = { check = 'ok > 1', policy = 'q' }": "expect.a.policy must be one of p, or a list of some, not 'q'",
    "a = 'ok >'": "expect.a.check: 'ok >' is no expression: invalid syntax",
    "a = 'okay > 1'": "expect.a.check: 'okay' is neither a metric nor a parameter (column 1)",
    "a = 'ok > eval(1)'": "expect.a.check: there is no function 'eval' (column 6)",
    "a = 'share() > 1'": "expect.a.check: share takes 1 to 3 argument(s), not 0 (column 1)",
    "a = 'share(\"x*\") > 1'": "expect.a.check: share: no backend is called 'x*' (column 1)",
    "a = 'share(5) > 1'": "expect.a.check: share: it takes a text here, the name of a backend (column 1)",
    'a = \'was("b0", "UP") > 1\'': "expect.a.check: was: a truth must be one of up,",
    'a = \'other("q", "p99") > 1\'': "expect.a.check: other: a policy must be one of p, not 'q'",
    "a = 'mean_of(\"q\") > 1'": "expect.a.check: mean_of: a metric must be one of requests,",
    "a = 'errors_by(\"FINE\") > 1'": "expect.a.check: errors_by: a code must hold names of gRPC status codes",
    "a = 'errors_in(0, \"soon\") > 1'": "expect.a.check: errors_in: a time must be a duration",
    "a = 'abs(1, 2) > 1'": "expect.a.check: abs takes 1 argument(s), not 2",
}


@pytest.mark.parametrize("text", CHECKS)
def test_wrong_checks_are_refused(text: str) -> None:
    with pytest.raises(ScenarioError) as refusal:
        parsed(f"[policy.p]\n[expect]\n{text}\n")

    assert str(refusal.value).startswith(f"x.toml: {CHECKS[text]}")


def test_parameters_have_names_of_their_own() -> None:
    for text in ("p99 = 1", "ok-ish = 1", "x = 'soon'", "x = true"):
        with pytest.raises(ScenarioError, match=r"x\.toml: .*parameters"):
            parsed(f"[parameters]\n{text}\n[expect]\na = 'ok > 1'\n")


_KEYS = (
    *("name", "count", "service", "load", "rho", "policy", "picker", "failover", "outlier", "budget", "faults", "kind"),
    *("timeline", "target", "from", "expect", "check", "health", "client", "backend", "dist", "mean", "rate", "trace"),
    *("start", "preset", "addresses", "parameters", "resolver", "schema", "duration"),
)
_VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["10ms", "b0", "rr", "crash"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(sorted({*_KEYS})),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


@given(
    path=st.lists(st.sampled_from(["backend", "client", "policy", "faults", "expect", "p", "x"]), max_size=2),
    value=_VALUES,
)
@settings(max_examples=400, deadline=None)
def test_whatever_is_in_a_file_is_taken_or_refused(path: list[str], value: Any) -> None:
    content: dict[str, Any] = tomllib.loads(WORLD + "[policy.p]\n[faults]\ntimeline=[]\n[expect]\nx = 'ok > 1'\n")
    place = content
    for name in path:
        place = place.setdefault(name, {}) if isinstance(place, dict) else place
    if isinstance(place, dict) and isinstance(value, dict):
        place.update(value)
    elif isinstance(place, list):
        place[0].update(value if isinstance(value, dict) else {"count": value})
    elif isinstance(place, dict):
        place["count"] = value

    try:
        parse_scenario(content)
    except ScenarioError as error:
        assert str(error).startswith("scenario: ")
