"""The errors of the asyncio face: `grpc.aio`'s own, with the attempts that were made."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from healthlb.calls.attempts import Attempt, add_notes, with_remedy
from healthlb.errors import ChannelClosed


class AioChannelClosed(ChannelClosed, grpc.aio.UsageError):
    """A call on a closed channel: a ValueError as in the sync face, and what `grpc.aio` raises."""


class AioRpcError(grpc.aio.AioRpcError):
    """A call that failed. It can be pickled and copied with all that it says.

    Args:
        code: its status.
        initial_metadata: what the last attempt received, None where there was none.
        trailing_metadata: likewise.
        details: the status's text.
        debug_error_string: C-core's own text.
        attempts: the attempts that failed, one after the other.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        initial_metadata: Any = None,
        trailing_metadata: Any = None,
        details: str | None = None,
        debug_error_string: str | None = None,
        attempts: tuple[Attempt, ...] = (),
    ) -> None:
        super().__init__(code, initial_metadata, trailing_metadata, details, debug_error_string)
        self.attempts = attempts
        add_notes(self, attempts)

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            type(self),
            (
                self.code(),
                self.initial_metadata(),
                self.trailing_metadata(),
                self.details(),
                self.debug_error_string(),
                self.attempts,
            ),
        )


def with_attempts(error: grpc.aio.AioRpcError, attempts: tuple[Attempt, ...]) -> AioRpcError:
    """Return grpcio's error with the attempts that were made."""
    return AioRpcError(
        error.code(),
        error.initial_metadata(),
        error.trailing_metadata(),
        with_remedy(error.code(), error.details()),
        error.debug_error_string(),
        attempts,
    )
