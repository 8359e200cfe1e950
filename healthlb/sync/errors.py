"""The error of a call that no subchannel took, as grpcio's own look to the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from healthlb.control.attempts import Attempt
from healthlb.control.grpc_transport import to_grpc_code
from healthlb.core.messages import Fail


class CallError(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A call that ended before it reached a backend.

    Args:
        fail: the status.
        attempts: what was tried before.
    """

    def __init__(self, fail: Fail, attempts: tuple[Attempt, ...] = ()) -> None:
        super().__init__(fail)
        self._code = to_grpc_code(fail.code)
        self._details = fail.details
        self.attempts = attempts

    def code(self) -> grpc.StatusCode:
        """The status code."""
        return self._code

    def details(self) -> str:
        """The status's text."""
        return self._details

    def debug_error_string(self) -> str:
        """The same text; C-core has none for this call."""
        return self._details

    def initial_metadata(self) -> tuple[Any, ...]:
        """Nothing was received."""
        return ()

    def trailing_metadata(self) -> tuple[Any, ...]:
        """Nothing was received."""
        return ()

    def is_active(self) -> bool:
        """False: it is over."""
        return False

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """None: it is over."""
        return None

    def cancel(self) -> bool:
        """False: it is over."""
        return False

    def cancelled(self) -> bool:
        """False, as for grpcio's own error objects."""
        return False

    def running(self) -> bool:
        """False: it is over."""
        return False

    def done(self) -> bool:
        """True: it is over."""
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """False: it is over, nothing will be called."""
        return False

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` at once."""
        fn(self)

    def result(self, timeout: float | None = None) -> Any:
        """Raise this error."""
        raise self

    def exception(self, timeout: float | None = None) -> CallError:
        """Return this error."""
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        """Return this error's traceback."""
        return self.__traceback__

    def __repr__(self) -> str:
        return f"<CallError {self._code.name}: {self._details!r}>"

    __str__ = __repr__
