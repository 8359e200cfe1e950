"""The protocols between the driver and a transport: connect, watch, check, close.

The one rule: no decision is made behind it. gRPC implements it over real connections, the tests and
the simulator in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, Protocol

from healthlb.core.messages import Code, ConnectivityState, Endpoint


class WatchEnded(Exception):
    """How a Watch stream ended.

    Attributes:
        code: the status.
        details: its text.
    """

    def __init__(self, code: Code, details: str = "") -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class CheckAnswer(NamedTuple):
    """How a Check ended.

    Attributes:
        code: the status of the call; DEADLINE_EXCEEDED where nothing answered.
        details: its text.
        status: the serving status of one that ended with OK, None of any other.
        is_unsent: whether it could not be sent, since there was no metadata for it.
    """

    code: Code
    details: str = ""
    status: int | None = None
    is_unsent: bool = False


class Connection(Protocol):
    """A control connection to one endpoint."""

    def state(self) -> ConnectivityState:
        """Return the present state."""

    def connect(self) -> None:
        """Connect where it is IDLE; by itself it does so only after a failed attempt."""

    async def left(self, state: ConnectivityState) -> None:
        """Return once the state has been another than `state`, even if only for a moment."""

    def watch(self, service: str) -> AsyncIterator[int]:
        """Yield serving statuses; raise `WatchEnded` at the end of the stream."""

    async def check(self, service: str, timeout: float) -> CheckAnswer:
        """Send one Check and return how it ended; `timeout` in seconds."""

    async def ping(self, timeout: float) -> Code:
        """Call a method that nobody has registered, and return how that ended; `timeout` in seconds."""

    def release(self) -> None:
        """Give up the control role; the connection closes unless calls still use it."""


class DataPlane(Protocol):
    """The connections for calls."""

    def prepare(self, sub: int, endpoint: Endpoint, control: Connection, done: DataDone) -> None:
        """Make a connection ready, a fresh one unless the present one is READY, and call `done` on the loop."""

    def forget(self, sub: int) -> None:
        """Use the present one of this subchannel for no further `prepare`."""

    def close(self, sub: int, generation: int) -> None:
        """Close one."""


DataDone = Callable[[int | None, str], None]
"""Called with the generation, or with None and the reason why there is none."""


class Transport(Protocol):
    """Opens control connections, on the running loop."""

    def connect(self, endpoint: Endpoint) -> Connection:
        """Open one; it does not wait."""
