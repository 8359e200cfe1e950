"""The connections that aio calls use: the control connections themselves, as gRFC A17 wants.

The one rule: a channel with calls in flight is never closed.
"""

from __future__ import annotations

from typing import cast
from weakref import WeakSet

import grpc.aio

from healthlb.control.attempts import Method
from healthlb.control.grpc_transport import GrpcConnection
from healthlb.control.port import Connection, DataDone
from healthlb.core.load import Subchannel
from healthlb.core.messages import Endpoint


class AioData:
    """The control connections that calls use, by what was picked.

    Attributes:
        methods: what calls are made of; each keeps what it has opened on the connections.
    """

    def __init__(self) -> None:
        self.methods: WeakSet[Method] = WeakSet()
        self._connections: dict[tuple[int, int], GrpcConnection] = {}
        self._last_generation = 0

    def channel(self, sub: Subchannel) -> grpc.aio.Channel | None:
        """Return the channel of what was picked, None where it is closed already."""
        connection = self._connections.get((sub.id, sub.generation))
        return None if connection is None else connection.channel

    def is_ready(self, sub: Subchannel) -> bool:
        """Whether the channel of what was picked is connected now."""
        channel = self.channel(sub)
        return channel is not None and channel.get_state() is grpc.ChannelConnectivity.READY

    def prepare(self, sub: int, endpoint: Endpoint, control: Connection, done: DataDone) -> None:
        """Have calls use the control connection."""
        connection = cast(GrpcConnection, control)
        if connection.generation is None:
            self._last_generation += 1
            connection.generation = self._last_generation
            connection.hold()
            self._connections[sub, self._last_generation] = connection
        done(connection.generation, "")

    def forget(self, sub: int) -> None:
        """Nothing to forget: the next control connection is a fresh one."""

    def close(self, sub: int, generation: int) -> None:
        """Use this connection for calls no more."""
        connection = self._connections.pop((sub, generation), None)
        if connection is not None:
            # What holds on to a closed channel keeps C-core from telling who waits for its end.
            for method in self.methods:
                method.forget(sub, generation)
            connection.release()
