"""healthlb in both faces and grpcio in both of its own, under the same load on the same backends.

One rule: the same backends, the same moment, the same rate. What is compared with what grpcio does is never compared
with a number that was measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import healthlb
from tests.backends.clients import eventually
from tests.parity.face import Client, Face
from tests.parity.load import Load

FACES = ("sync", "aio")


class Contest:
    """Clients, each under a load of its own.

    Attributes:
        clients: by name: "sync" and "aio" (ours), "native sync" and "native aio", and where they take part
            "idempotent sync" and "idempotent aio", ours with the word that every call may be made again.
        loads: likewise.
    """

    def __init__(self, clients: dict[str, Client], loads: dict[str, Load]) -> None:
        """Hold them."""
        self.clients = clients
        self.loads = loads

    @property
    def ours(self) -> list[Client]:
        """The two clients of healthlb."""
        return [self.clients[name] for name in FACES]

    def wait_for(self, count: int) -> None:
        """Return once each has made `count` more calls, all at the same time."""
        for is_over in [load.after(count) for load in self.loads.values()]:
            eventually(is_over)

    def wait_for_answers_of(self, backend: str) -> None:
        """Return once each has had a call answered by it from now on."""
        for load in self.loads.values():
            load.wait_until(lambda outcome: outcome.backend == backend)

    def failed(self, since: float = 0.0) -> dict[str, int]:
        """Count the failed calls that began after `since`."""
        return {name: sum(outcome.began_at >= since for outcome in load.failed()) for name, load in self.loads.items()}

    def texts(self) -> dict[str, dict[str, int]]:
        """What the failed calls were told, and how often."""
        return {name: dict(load.failures()) for name, load in self.loads.items()}


@contextmanager
def contest(
    faces: Sequence[Face],
    addresses: Sequence[str],
    rate: float,
    timeout: float = 10.0,
    has_idempotent: bool = False,
    **arguments: Any,
) -> Iterator[Contest]:
    """Run all of them until the end of the block; `arguments` are those of healthlb's channels."""
    clients: dict[str, Client] = {}
    for face in faces:
        clients[face.name] = face.ready(addresses, **arguments)
        clients[f"native {face.name}"] = face.native(addresses)
        if has_idempotent:
            failover = healthlb.Failover(idempotent=True)
            clients[f"idempotent {face.name}"] = face.ready(addresses, failover=failover, **arguments)
    with ExitStack() as stack:
        loads = {name: Load(client, rate, timeout) for name, client in clients.items()}
        for load in loads.values():
            stack.enter_context(load)
        found = Contest(clients, loads)
        for index in range(len(addresses)):
            found.wait_for_answers_of(f"b{index}")
        yield found
    for client in clients.values():
        client.close()
