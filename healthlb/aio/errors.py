"""The errors of calls that no subchannel took, as `grpc.aio`'s own look to the caller."""

from __future__ import annotations

import grpc.aio

from healthlb.control.attempts import Attempt
from healthlb.control.grpc_transport import to_grpc_code
from healthlb.core.messages import Fail
from healthlb.errors import ChannelClosed


class AioChannelClosed(ChannelClosed, grpc.aio.UsageError):
    """A call on a closed channel: a ValueError as in the sync face, and what `grpc.aio` raises."""


class AioCallError(grpc.aio.AioRpcError):
    """A call that ended before it reached a backend.

    Args:
        fail: the status.
        attempts: what was tried before.
    """

    def __init__(self, fail: Fail, attempts: tuple[Attempt, ...] = ()) -> None:
        nothing = grpc.aio.Metadata()
        super().__init__(to_grpc_code(fail.code), nothing, nothing, fail.details, fail.details)
        self.attempts = attempts
