"""What the simulator takes for granted of new connections, cached answers and user requests, looked up in reality.

What a connection costs is processor time of the server's process, and user requests are simulated with the times that
their calls had in their slots; so neither depends much on what else the machine does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import grpc
import pytest

from healthlb.resolvers.dns import DnsResolver
from healthlb.simulation.calibration.judgement import MOST_LAG, quantile
from healthlb.simulation.calibration.plan import Plan, make_plan, make_scenario
from healthlb.simulation.calibration.real import Called, observe
from healthlb.simulation.scenario.scenario import SECOND, Load
from healthlb.simulation.world import world
from tests.backends import Backend
from tests.backends.certs import Certificates, make_certificates
from tests.dns_server import ScriptedServer
from tests.resolvers.following import follow

pytestmark = pytest.mark.calibrate

CONNECTIONS = 400
FANOUT = 10
TTL = 3

Connect = Callable[[], grpc.Channel]


# --- `accept` and `tls` ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def connect_to(backend: Backend, certificates: Certificates | None) -> Connect:
    options = [("grpc.use_local_subchannel_pool", 1)]
    if certificates is None:
        return lambda: grpc.insecure_channel(backend.address, options)
    return lambda: grpc.secure_channel(backend.address, certificates.channel_credentials(), options)


@pytest.fixture(params=["plain", "tls"])
def connect(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[tuple[Backend, Connect]]:
    kept = certificates if request.param == "tls" else None
    with Backend(options={} if kept is None else {"tls": kept.server_options()}) as backend:
        yield backend, connect_to(backend, kept)


def cost(backend: Backend, connect: Connect, *, at_once: int) -> float:
    """Seconds of its processor time that a server spends on each of many connections, so many of which come together."""
    began_with = spent(backend.pid)
    for _ in range(CONNECTIONS // at_once):
        channels = [connect() for _ in range(at_once)]
        for ready in [grpc.channel_ready_future(channel) for channel in channels]:
            ready.result(timeout=30)
        for channel in channels:
            channel.close()
    return (spent(backend.pid) - began_with) / CONNECTIONS


def spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_connection_costs_as_much_in_a_herd_as_alone(connect: tuple[Backend, Connect]) -> None:
    """So the time of a herd's handshakes is their number times `accept` and `tls`, as the simulator has it."""
    cost(*connect, at_once=100)  # The first ones load libraries and tables.
    few, many = cost(*connect, at_once=4), cost(*connect, at_once=100)
    print(f"{1000 * few:.2f} ms four at a time, {1000 * many:.2f} ms a hundred at a time")

    assert many == pytest.approx(few, rel=0.4)


def test_a_handshake_costs_more_than_the_connection_alone(certificates: Certificates) -> None:
    with Backend() as plain, Backend(options={"tls": certificates.server_options()}) as secure:
        accept = cost(plain, connect_to(plain, None), at_once=20)
        both = cost(secure, connect_to(secure, certificates), at_once=20)
    print(f"accept {1000 * accept:.2f} ms, tls {1000 * (both - accept):.2f} ms")

    assert both > 1.3 * accept


# --- `fanout` ----------------------------------------------------------------------------------------------------------


def test_user_requests_take_as_long_as_the_simulator_says() -> None:
    calls = make_plan(20, 1)
    starts = calls.times[::FANOUT]
    plan = replace(calls, times=tuple(at for at in starts for _ in range(FANOUT))[: len(calls.works)])
    observed = observe(plan)
    if quantile([call.lag for call in observed.calls], 0.99) > MOST_LAG:
        pytest.skip("the machine is too busy: calls were made late")
    requests: dict[int, list[Called]] = defaultdict(list)
    for call in observed.calls:
        requests[call.made_at - call.lag].append(call)
    real = [max(call.ended_at for call in each) - began_at for began_at, each in requests.items()]
    way = quantile([call.on_the_way for call in observed.calls if call.is_ok], 0.5)
    metrics = simulated(plan, {call.work: call.in_slot for call in observed.calls if call.is_ok}, starts)

    errors = [(metrics[f"user_p{part}"] * SECOND + way) / quantile(real, part / 100) - 1 for part in (50, 99)]
    print(f"{len(real)} user requests of {FANOUT} calls: p50 {errors[0]:+.1%}, p99 {errors[1]:+.1%}")

    assert abs(errors[0]) < 0.1
    assert abs(errors[1]) < 0.15


def simulated(plan: Plan, in_slot: dict[int, int], starts: tuple[int, ...]) -> dict[str, float]:
    scenario = make_scenario(plan, [in_slot.get(work, work) for work in plan.works])
    (client,) = scenario.clients
    load = Load(kind="trace", times=starts[: len(plan.works) // FANOUT], fanout=FANOUT)
    return dict(world.run(replace(scenario, clients=(replace(client, load=load),)), "real").metrics)


# --- `dns_cache` -------------------------------------------------------------------------------------------------------


async def test_each_channel_hears_of_a_new_list_when_its_own_ttl_is_over() -> None:
    """Each looks again a TTL after it looked last; so who began at another time hears at another time."""
    server = ScriptedServer({"svc.test": ["10.0.0.1"]}, ttl=TTL)
    began_at, heard_at = [], []

    async def hear(delay: float) -> None:
        await asyncio.sleep(delay)
        resolver = DnsResolver("svc.test", 50051, interval=60, min_interval=0.05, nameserver=server.address)
        async with follow(resolver) as following:
            await following.updated(1)
            began_at.append(time.monotonic())
            await following.updated(2)
            heard_at.append(time.monotonic())

    delays = [Random(number).random() * TTL for number in range(8)]
    hearing = asyncio.gather(*map(hear, delays))
    await asyncio.sleep(TTL + 1)
    changed_at = time.monotonic()
    server.publish({"svc.test": ["10.0.0.2"]})
    await hearing
    server.close()

    lags = [at - changed_at for at in sorted(heard_at)]
    expected = sorted((at - changed_at) % TTL for at in began_at)
    assert lags == pytest.approx(expected, abs=1.0)
    assert lags[-1] - lags[0] > TTL / 3
