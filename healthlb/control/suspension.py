"""A pause of a control connection, for a fork."""

from __future__ import annotations

import asyncio

from healthlb.core.messages import ConnectivityState


class Suspension:
    """What a connection says of itself between `suspend` and the moment when it is known to be up or down again.

    Args:
        state: the state to tell until then.
    """

    def __init__(self, state: ConnectivityState) -> None:
        self.state = state
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Let those go on who wait for the connection."""
        if not self.is_over.done():
            self.is_over.set_result(None)
