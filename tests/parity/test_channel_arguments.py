"""Whatever channel arguments are passed on, a backend that is not healthy gets no calls, and the healthy ones share them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.parity.face import Face
from tests.parity.fleet import Fleet, addresses, executed

# What C-core reads on a client (strings of 1.85.3), each with a value that changes something.
ARGUMENTS: dict[str, Any] = {
    "grpc.client_idle_timeout_ms": 1000,
    "grpc.default_authority": "shop.prod",
    "grpc.default_compression_algorithm": 2,
    "grpc.default_compression_level": 3,
    "grpc.dns_ares_query_timeout": 1000,
    "grpc.dns_min_time_between_resolutions_ms": 0,
    "grpc.dscp": 10,
    "grpc.enable_channelz": 1,
    "grpc.experimental.enable_hedging": 1,
    "grpc.happy_eyeballs_connection_attempt_delay_ms": 100,
    "grpc.http.max_concurrent_streams_reject_on_client": 1,
    "grpc.http2.bdp_probe": 0,
    "grpc.http2.lookahead_bytes": 0,
    "grpc.http2.max_frame_size": 16384,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.http2_scheme": "https",
    "grpc.inhibit_health_checking": 1,
    "grpc.initial_reconnect_backoff_ms": 1,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.keepalive_timeout_ms": 1,
    "grpc.lb.ring_hash.ring_size_cap": 1,
    "grpc.max_concurrent_streams": 1,
    "grpc.max_connection_age_ms": 1,
    "grpc.max_connection_idle_ms": 1,
    "grpc.max_connections_per_subchannel_cap": 5,
    "grpc.max_reconnect_backoff_ms": 1,
    "grpc.min_reconnect_backoff_ms": 5000,
    "grpc.optimization_target": "latency",
    "grpc.per_message_compression": 0,
    "grpc.per_message_decompression": 0,
    "grpc.per_rpc_retry_buffer_size": 0,
    "grpc.primary_user_agent": "shop",
    "grpc.server_uri": "dns:///elsewhere:1",
    "grpc.service_config_disable_resolution": 1,
    "grpc.ssl_target_name_override": "elsewhere",
    "grpc.target": "dns:///elsewhere:1",
    "grpc.testing.fixed_reconnect_backoff_ms": 100,
    "SingleThreadedUnaryStream": 1,
    "shop.unique": "so that no connection is shared",
}
CALLS = 4


@pytest.mark.parametrize("spelled", [str, str.encode])
def test_none_of_them_undoes_the_channel(face: Face, fleet: Fleet, spelled: Any) -> None:
    backends = fleet.lend(3)
    backends[1].set("NOT_SERVING", "svc")
    before = executed(backends[1])
    shares = {}
    for name, value in ARGUMENTS.items():
        client = face.open(addresses(backends), service="svc", options=[(spelled(name), value)])
        client.wait_until_ready(min_ready=2)
        shares[name] = Counter(client.call() for _ in range(CALLS))
        client.close()

    assert shares == {name: {"b0": CALLS / 2, "b2": CALLS / 2} for name in ARGUMENTS}
    assert executed(backends[1]) == before
