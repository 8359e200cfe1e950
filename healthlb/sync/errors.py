"""The errors of calls: grpcio's own classes, with what was tried, and such that they can be copied and sent."""

from __future__ import annotations

from typing import Any

import grpc

from healthlb.calls.attempts import Attempt, add_notes, with_remedy
from healthlb.control.codes import to_grpc_code
from healthlb.core.messages import Fail
from healthlb.sync import grpcio


class _InactiveRpcError(grpcio.InactiveRpcError):  # type: ignore[misc]
    """What a failed call raises that blocks; see `grpc.RpcError`, `grpc.Call` and `grpc.Future`.

    Args:
        state: grpcio's, of a call that is over.
        attempts: those that failed.
        kind: what its text calls it, None for its own name: a copy has that of what it is a copy of.

    Attributes:
        attempts: those that failed.
    """

    def __init__(self, state: Any, attempts: tuple[Attempt, ...] = (), kind: str | None = None) -> None:
        state.details = with_remedy(state.code, state.details)
        super().__init__(state)
        # BaseException keeps what it is made of: nothing of a call is to be found there.
        self.args = ()
        self.attempts = attempts
        self._kind = kind or type(self).__name__
        add_notes(self, attempts)

    def _repr(self) -> str:
        # grpcio's text begins with "<" and the name of the class.
        text: str = super()._repr()
        return f"<{self._kind}{text.removeprefix(f'<{type(self).__name__}')}"

    def __reduce__(self) -> Any:
        return snapshot(self._state, self.attempts, self._kind)


# Under grpcio's own name: texts, logs and error trackers go by it.
InactiveRpcError = _InactiveRpcError


def failed(fail: Fail, attempts: tuple[Attempt, ...] = ()) -> InactiveRpcError:
    """Return the error of a call that ended without an answer."""
    return InactiveRpcError(grpcio.ended_state(to_grpc_code(fail.code), fail.details, ""), attempts)


def not_serialized() -> InactiveRpcError:
    """Return the error of a call whose request has no bytes."""
    return InactiveRpcError(grpcio.ended_state(grpc.StatusCode.INTERNAL, "Exception serializing request!"))


def snapshot(state: Any, attempts: tuple[Attempt, ...], kind: str) -> Any:
    """Return how the error of a call is copied and pickled: what it says, and nothing that is alive.

    Args:
        state: grpcio's.
        attempts: those that failed.
        kind: what its text calls it.
    """
    with state.condition:
        said = (
            state.code,
            state.details,
            state.debug_error_string,
            _pairs(state.initial_metadata),
            _pairs(state.trailing_metadata),
        )
    if said[0] is None:
        raise TypeError("cannot pickle or copy a call that is under way")
    return _restore, (*said, attempts, kind)


def _pairs(metadata: Any) -> Any:
    return None if metadata is None else tuple((key, value) for key, value in metadata)


def _restore(
    code: grpc.StatusCode,
    details: str,
    debug_error_string: str | None,
    initial_metadata: Any,
    trailing_metadata: Any,
    attempts: tuple[Attempt, ...],
    kind: str | None = None,
) -> InactiveRpcError:
    state = grpcio.ended_state(code, details, debug_error_string)
    state.initial_metadata, state.trailing_metadata = _metadata(initial_metadata), _metadata(trailing_metadata)
    return InactiveRpcError(state, attempts, kind)


def _metadata(pairs: Any) -> Any:
    # grpcio's own class of pairs cannot be pickled (1.85.3).
    return None if pairs is None else tuple(grpcio.Metadatum(key, value) for key, value in pairs)
