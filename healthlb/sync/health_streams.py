"""One call of a Watch with a callback: messages are read as they arrive, and only the newest waits to be taken."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from healthlb.control.health_messages import decode_response
from healthlb.health_client.answer import ended
from healthlb.health_client.target import is_final
from healthlb.sync import grpcio

if TYPE_CHECKING:
    from healthlb.health_client.answer import HealthAnswer
    from healthlb.sync.worker import Worker


class StreamListener(Protocol):
    """A Watch that calls back, as one of its calls knows it.

    Attributes:
        service: the name asked for.
        worker: runs what is to be done.
    """

    service: str
    worker: Worker

    def heard(self, stream: Stream) -> None:
        """`stream` has a message that has not been taken."""

    def failed_with(self, error: BaseException) -> HealthAnswer:
        """Return that a call ended with an exception."""

    def ended(self, stream: Stream, answer: HealthAnswer, *, is_last: bool = False) -> None:
        """The call has ended; `is_last` says that no other can be begun."""


class Stream:
    """One call of a `WatchSubscription`, and the deserializer that its messages pass through.

    Args:
        subscription: whom the messages are for.
        is_too_much: counts a message that was read at a time in nanoseconds, and says whether to read no more.

    Attributes:
        call: None before it is begun.
        is_flooded: whether no more is read, for it said too much.
    """

    if not TYPE_CHECKING:
        # A HealthAwareChannel keeps what it makes for a deserializer, if that can be looked up: this one is used once.
        __hash__ = None  # type: ignore[assignment]

    def __init__(self, subscription: StreamListener, is_too_much: Callable[[int], bool]) -> None:
        self.call: Any = None
        self.is_flooded: bool = False
        self._newest: deque[bytes] = deque(maxlen=1)
        self._foreign: deque[bytes] = deque(maxlen=1)  # what is no message, and the end: nothing is read after it
        self._subscription = subscription
        self._is_too_much = is_too_much
        self._is_pushed = False  # to the deserializer, rather than read by a thread
        self._is_submitted = False

    def read(self, call: Any) -> None:
        """Begin to read."""
        self.call = call
        if isinstance(call, grpcio.MultiThreadedRendezvous):
            self._is_pushed = True
            call.add_done_callback(self.over)
            grpcio.read_one(call)
        else:
            # Whatever an interceptor or another kind of channel returns can only be waited for.
            threading.Thread(target=self._read, args=(call,), name="healthlb-watch", daemon=True).start()

    def __call__(self, message: bytes) -> bytes:
        """Keep a message and ask for the next one; it is called on grpcio's thread, which holds the call's lock."""
        call = self.call
        if self._is_pushed and call is not None and self._keep(message):
            grpcio.read_one(call)
        return message

    def over(self, call: Any) -> None:
        """The call is over."""
        subscription = self._subscription
        subscription.worker.submit(partial(subscription.ended, self, subscription.failed_with(call)))

    def take(self) -> Iterator[bytes]:
        """Return what has not been taken: the newest message, and the bytes after it that are none."""
        self._is_submitted = False  # before: what comes meanwhile is submitted, or taken here
        for kept in (self._newest, self._foreign):
            if kept:
                yield kept.pop()

    def _keep(self, message: bytes) -> bool:
        """Keep a message in the place of an older one; return whether to read on."""
        is_message = _is_message(message)
        self.is_flooded = self._is_too_much(time.monotonic_ns())
        (self._newest if is_message else self._foreign).append(message)
        if not self._is_submitted:
            self._is_submitted = True
            subscription = self._subscription
            subscription.worker.submit(partial(subscription.heard, self))
        return is_message and not self.is_flooded

    def _read(self, call: Any) -> None:
        """Read where a call can only be waited for, on a thread of its own."""
        subscription = self._subscription
        answer, is_last = ended(subscription.service), False
        try:
            for message in call or ():
                if self.call is None or not self._keep(message):
                    return
        except Exception as error:
            answer, is_last = subscription.failed_with(error), is_final(error)
        subscription.worker.submit(partial(subscription.ended, self, answer, is_last=is_last))


def _is_message(message: object) -> bool:
    try:
        decode_response(message)
    except ValueError:
        return False
    return True
