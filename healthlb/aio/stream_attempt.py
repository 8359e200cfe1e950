"""One attempt of a call with a stream: how far its requests are sent, and responses that were read ahead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from healthlb.aio.grpcio import EOF, CoreCall

# Seconds at the most; it takes microseconds where the machine is idle, and nothing calls back when it has come.
_ON_ITS_WAY = 0.1
_PAUSE = 0.001


class StreamAttempt:
    """One attempt of a call with a stream.

    Args:
        number: the attempt's.
        real: C-core's call.

    Attributes:
        is_open: whether its metadata were sent, so that messages can be.
        position: how many requests were sent on it, or are being sent.
        is_half_closed: whether it was told that no request follows.
        is_asked: whether it was asked for a response that nobody wants yet.
        is_left: whether the call has ended for its caller, who may still read what was answered.
    """

    def __init__(self, number: int, real: CoreCall) -> None:
        self.number = number
        self.real = real
        self.is_open = False
        self.position = 0
        self.is_half_closed = False
        self.sending = asyncio.Lock()
        self.is_asked = False
        self.is_left = False
        self._server_status: Any = None  # the server's status, where it came before the call ended for its caller
        self._made_up: Any = None
        self._receiving = asyncio.Lock()
        self._ahead: list[Any] = []

    async def receive(self) -> Any:
        """Return the next response, or EOF."""
        async with self._receiving:
            return self._ahead.pop() if self._ahead else await self.real.receive_serialized_message()

    async def has_response(self) -> bool:
        """Whether a response is there, or comes before the end; it stays the next one."""
        self.is_asked = True
        async with self._receiving:
            if not self._ahead:
                self._ahead.append(await self.real.receive_serialized_message())
            return self._ahead[0] is not EOF

    def leave(self, text: str) -> None:
        """End it with INTERNAL for its caller, who may still read its responses, or be reading the first of them."""
        self.is_left = True
        self._server_status = self.real._status  # it may have come with the last response
        self.real.set_internal_error(text)  # and so it is not cancelled
        self._made_up = self.real._status

    async def last_status(self) -> Any:
        """Return the server's status once its responses are read: C-core's word of it is there, or on its way."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _ON_ITS_WAY
        while self._server_status is None and self.real._status is self._made_up and loop.time() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE)
        return self._server_status or self.real._status

    @property
    def reads(self) -> Callable[[], Awaitable[Any]]:
        """The function that reads responses from now on, with nothing in between where nothing was read ahead."""
        return self.receive if self._ahead else self.real.receive_serialized_message

    def is_ready_for(self, index: int) -> bool:
        """Whether request number `index` is the next one to be sent, and can be at once."""
        return self.is_open and self.position == index and not self.sending.locked()
