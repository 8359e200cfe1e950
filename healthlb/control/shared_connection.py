"""One connection for health and for calls, where the calls are those of a sync channel.

C-core shares a connection between channels whose arguments and credentials are equal. A sync and an asyncio channel of
grpcio differ in two arguments, the user agent and `grpc.fork_epoch`; here the asyncio one gets those of the other.
Credentials of TLS are compared by their place in memory, and each channel makes its own: those connections stay apart.

What is private in grpcio for that stands here; `tests/parity/test_one_connection.py` holds it to all versions.
"""

from __future__ import annotations

import itertools
import weakref
from importlib import import_module
from typing import Any

import grpc
import grpc.aio

from healthlb.control.options import ChannelOptions, dial_target

_AIO: Any = import_module("grpc.aio._channel")
_CYGRPC: Any = import_module("grpc._cython.cygrpc")
_SYNC: Any = import_module("grpc._channel")
# Keeps other channels of this process apart, and the connections that came before.
_PRIVATE = "healthlb.connection"
_numbers = itertools.count(1)


def shared_options(options: ChannelOptions) -> ChannelOptions:
    """Return the arguments by which the channels of one new connection know each other."""
    # Newer sync channels (not those of 1.76) add this one themselves; twice the same is as good as once.
    return (*options, ("grpc.fork_epoch", _CYGRPC.get_fork_epoch()), (_PRIVATE, str(next(_numbers))))


class SharedAioChannel(_AIO.Channel):  # type: ignore[misc]
    """An asyncio channel that shares its connection with sync channels of the same arguments, in plaintext.

    Args:
        address: where to.
        options: channel arguments, complete.
        compression: the default of calls.
    """

    def __init__(self, address: str, options: ChannelOptions, compression: grpc.Compression | None) -> None:
        # As grpcio's own, whose user agent would be another.
        for arity in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            setattr(self, f"_{arity}_interceptors", [])
        self._loop = _CYGRPC.get_working_loop()
        arguments = _SYNC._augment_options(options, compression)
        self._channel = _CYGRPC.AioChannel(dial_target(address).encode(), arguments, None, self._loop)
        self._active_calls: weakref.WeakSet[Any] = weakref.WeakSet()
