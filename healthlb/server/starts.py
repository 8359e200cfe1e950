"""Where Watches of a `grpc.server` begin: not in the server's pool.

grpcio takes a thread for a call when its headers have come, and has it wait for the request. A client that sends
headers and no more would hold threads of the server's pool for ever; of these it holds a few, for a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from typing import Any

from healthlb.server.contexts import client_of
from healthlb.server.senders import Senders


class WatchStarts(futures.ThreadPoolExecutor):
    """The senders, as grpcio wants to be given them (`experimental_thread_pool`).

    Args:
        senders: whose threads are used; those of the base class are never started.
    """

    def __init__(self, senders: Senders) -> None:
        super().__init__(1)
        self._senders = senders

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> futures.Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        # grpcio 1.85 passes the event of the call, which has its core object. Without it nobody can be cut off.
        call = next((argument.call for argument in arguments if hasattr(argument, "call")), None)
        start = _Start(call, lambda: function(*arguments, **options))
        self._senders.post(start)
        return start.future


class _Start:
    """A call that waits for its request, and then for its handler, which only registers the Watch."""

    def __init__(self, call: Any, function: Callable[[], Any]) -> None:
        self._call = call
        self._function = function
        self.client = _client(call)
        self.future: futures.Future[Any] = futures.Future()

    def run(self) -> None:
        """See `Work`."""
        self.future.set_running_or_notify_cancel()
        try:
            self.future.set_result(self._function())
        except BaseException as error:
            self.future.set_exception(error)

    def cut_off(self) -> None:
        """See `Work`."""
        if self._call is not None:
            self._call.cancel()


def _client(call: Any) -> str:
    try:
        return client_of(call.peer().decode())
    except Exception:
        return client_of("")
