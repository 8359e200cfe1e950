"""One Watch of a sync server, in the two ways in which grpcio drives a handler.

The one rule: a status is taken from the watcher at the moment it is sent, not before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from healthlb.core.messages import ServingStatus
from healthlb.server.contexts import set_status
from healthlb.server.registry import Watcher
from healthlb.server.senders import Lane

CLOSING = "the server is shutting down"

_RESPONSES = {int(status): health_pb2.HealthCheckResponse(status=int(status)) for status in ServingStatus}


def response(status: int) -> Any:
    """Return a HealthCheckResponse that nobody changes."""
    return _RESPONSES[status]


class Stream:
    """A Watch that holds no thread: it stands in its connection's lane while there is something to tell.

    Args:
        send_response: grpcio's; it blocks until the message has left. None ends the call.
    """

    def __init__(
        self, watcher: Watcher, context: grpc.ServicerContext, send_response: Callable[[Any], None], *, lane: Lane
    ) -> None:
        self._watcher = watcher
        self._context = context
        self._send_response = send_response
        self._lane = lane
        self._is_queued = threading.Lock()

    def offer(self) -> None:
        """Queue up, unless it stands there already; never blocks."""
        if self._is_queued.acquire(blocking=False):
            self._lane.put(self)

    def send(self) -> bool:
        """See `Sendable`."""
        try:
            status = self._watcher.take()
            if status is not None:
                self._send_response(response(status))
            elif self._watcher.is_ended:
                self._end()
        except Exception:
            self._watcher.leave()
            raise
        if self._watcher.has_news:
            return True
        self._is_queued.release()
        # News that came before the release were not queued by whoever brought them.
        return self._watcher.has_news and self._is_queued.acquire(blocking=False)

    def cut_off(self) -> None:
        """See `Sendable`."""
        with contextlib.suppress(AttributeError, NotImplementedError):
            self._context.cancel()

    def _end(self) -> None:
        # Not OK: to some clients an OK means "ask again at once".
        self._watcher.leave()
        set_status(self._context, grpc.StatusCode.UNAVAILABLE, CLOSING)
        self._send_response(None)


class BlockingStream(Iterator[Any]):
    """A Watch that holds a thread of the server: for `experimental_non_blocking=False`, and behind interceptors that
    hide from grpcio what the handler can do."""

    def __init__(self, watcher: Watcher, context: grpc.ServicerContext) -> None:
        self._watcher = watcher
        self._context = context
        self._news = threading.Event()

    def offer(self) -> None:
        """Look for news; never blocks."""
        self._news.set()

    def __next__(self) -> Any:
        while not self._watcher.is_gone:
            self._news.clear()
            status = self._watcher.take()
            if status is not None:
                return response(status)
            if self._watcher.is_ended:
                self._watcher.leave()
                set_status(self._context, grpc.StatusCode.UNAVAILABLE, CLOSING)
                break
            self._news.wait()
        raise StopIteration
