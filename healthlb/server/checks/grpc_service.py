"""Whether another gRPC service is SERVING."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio

from healthlb.config import check_number
from healthlb.core.states import ServingStatus
from healthlb.errors import ConfigError
from healthlb.health_client.answer import failed_with
from healthlb.health_client.target import request_for
from healthlb.server.checks.unhealthy import Unhealthy
from healthlb.sync.health_client import HealthClient
from healthlb.text import add_remedy, printable

_LONGEST = 250  # Characters of details and remedy: a reason has 300 in all.
_FEW = 30


def grpc_service(
    target: str | grpc.Channel,
    service: str = "",
    timeout: float = 3.0,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    metadata: Sequence[tuple[str, str | bytes]] = (),
) -> Callable[[], None]:
    """Return a check that calls Health/Check.

    Args:
        target: an address, to which one connection is kept; or a channel, a HealthAwareChannel for instance.
        service: the name asked for; `""` is the whole server.
        timeout: seconds; above 0.
        credentials: None is plaintext.
        options: channel arguments; the reconnect backoff is 0.2 to 1 second unless they say otherwise.
        metadata: pairs that go with every call, for servers that want a token.

    Raises:
        ConfigError: a value is out of its bounds, or of a wrong type.
    """
    check_number("timeout", timeout, above=0)
    if isinstance(target, grpc.aio.Channel):
        raise ConfigError(f"target must be a grpc.Channel: a check runs on a thread, not on the loop of {target!r}")
    request_for(service)
    client = HealthClient(target, credentials=credentials, options=options, metadata=metadata)

    def check() -> None:
        try:
            answer = client.ask(service, timeout)
        except grpc.RpcError as error:
            failed = failed_with(service, error)
            # A reason is cut where it is too long, and what to do stands at its end.
            shorter = replace(failed, details=printable(failed.details, max(_FEW, _LONGEST - len(failed.remedy))))
            raise Unhealthy(str(shorter)) from error
        if answer.status is not ServingStatus.SERVING:
            raise Unhealthy(add_remedy(f"{service or 'the server'} is {answer}", answer.remedy))

    return check
