"""The two kinds of Watch of the sync health client: one that is iterated over, and one that calls back.

The one rule: the second kind has no thread of its own. grpcio's thread of the channel reads what is said, and the
client's worker calls back with the newest of it.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import grpc

from healthlb.config import Backoff, check_callable
from healthlb.control.codes import to_code
from healthlb.control.health_messages import WATCH
from healthlb.control.user_code import run_guarded
from healthlb.core.messages import SECOND
from healthlb.core.states import ServingStatus
from healthlb.core.subchannel.watch_restart import FLOOD_PAUSE, TELL_PAUSE, Following
from healthlb.errors import ChannelUnusable, InvalidResponse
from healthlb.health_client.answer import HealthAnswer, answered, ended, failed_with
from healthlb.health_client.target import FORKED, is_final
from healthlb.sync import grpcio
from healthlb.sync.health_streams import Stream

if TYPE_CHECKING:
    from healthlb.health_client.answer import HealthAdviser
    from healthlb.health_client.target import Metadata
    from healthlb.sync.worker import Worker

DEFAULT_BACKOFF = Backoff(initial=0.2, maximum=2.0)
Callback = Callable[[ServingStatus], object]


class WatchOwner(Protocol):
    """What a Watch needs of its client.

    Attributes:
        channel: what was given, or opened.
        pid: of the process that it was opened in.
        metadata: goes with every call.
        backoff: between Watches.
        adviser: says what to do about first mistakes.
        subscriptions: the Watches that call back.
        iterators: weak references to those that are iterated over.
    """

    channel: Any
    pid: int
    metadata: Metadata
    backoff: Backoff | None
    adviser: HealthAdviser
    subscriptions: set[WatchSubscription]
    iterators: set[weakref.ref[WatchIterator]]

    @property
    def worker(self) -> Worker:
        """Runs the callbacks."""


class HealthWatch:
    """What both kinds of Watch have.

    Attributes:
        answer: what was said last, None before; where nothing is known, how the last Watch failed.
        is_closed: whether it was closed, or has ended.
    """

    def __init__(self, link: WatchOwner, service: str, request: bytes, *, follow: bool) -> None:
        self.answer: HealthAnswer | None = None
        self.is_closed = False
        self._link = link
        self._service = service
        self._request = request
        self._follows = follow
        self._following = Following(link.backoff or DEFAULT_BACKOFF, random.Random())

    def close(self) -> None:
        """End the Watch; a second time does nothing. From any thread, and from its own callback."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        said = "closed" if self.is_closed else self.answer or "nothing said yet"
        return f"<{type(self).__name__} {self._service!r} {said}>"

    def _begin(self, deserializer: Callable[[bytes], bytes] | None) -> Any:
        """Begin a call."""
        self._following.started(time.monotonic_ns())
        method = self._link.channel.unary_stream(WATCH, response_deserializer=deserializer)
        return method(self._request, metadata=self._link.metadata)

    def _failed(self, answer: HealthAnswer) -> tuple[float, bool]:
        """Take in how a call ended; return the seconds until the next, and whether that is to be told."""
        delay, is_reported = self._following.ended(to_code(answer.code), time.monotonic_ns())
        self._warn(answer)
        if self.answer is not None and self.answer.number is None:
            self.answer = answer  # the newest reason, also where nobody is told of it
        return delay / SECOND, is_reported

    def _is_news(self, answer: HealthAnswer) -> bool:
        """Take in an answer; return whether the caller is to hear of it."""
        assert answer.number is not None
        self._warn(answer)
        return self._following.is_news(answer.number)

    def _warn(self, answer: HealthAnswer) -> None:
        """Log what to do about a first mistake: a status does not say it."""
        if not self._following.has_spoken:
            self._link.adviser.warn(answer)


class WatchIterator(HealthWatch, Iterator[ServingStatus]):
    """Iterates over the statuses of a service; blocks until there is another one.

    It ends when it is closed. Where it was not asked to follow, it ends with its Watch, too: without an error where the
    server has ended that with OK, else with the `grpc.RpcError`.
    """

    answer: HealthAnswer | None

    def __init__(self, link: WatchOwner, service: str, request: bytes, *, follow: bool) -> None:
        super().__init__(link, service, request, follow=follow)
        self._closed = threading.Event()
        self._call: Any = None
        self._begin_at = 0.0  # in seconds on the monotonic clock
        link.iterators.add(weakref.ref(self, link.iterators.discard))

    def __next__(self) -> ServingStatus:
        """Return the next status.

        Raises:
            StopIteration: it was closed, or the server has ended the Watch.
            grpc.RpcError: the Watch has failed, and is not followed.
            InvalidResponse: the server's answer is no HealthCheckResponse, and the Watch is not followed.
            ChannelUnusable: it was begun before the process forked.
        """
        if self._link.pid != os.getpid():
            raise ChannelUnusable(FORKED)
        self._link.adviser.about_to_block()
        while not self.is_closed:
            answer = self._next()
            if answer is not None:
                self.answer = answer
                return answer.status
        raise StopIteration

    def _next(self) -> HealthAnswer | None:
        """Return what is news, None where there is none yet."""
        try:
            if self._call is None and not self._open():
                return None
            answer = answered(self._service, next(self._call), self._call, self._link.adviser)
        except StopIteration:
            return self._ended(ended(self._service), None)
        except (grpc.RpcError, InvalidResponse) as error:
            return self._ended(failed_with(self._service, error, "Watch", self._link.adviser), error)
        except Exception:
            if self.is_closed:  # and so there is no call
                return None
            # The channel is closed, or what stands before it has raised.
            self.close()
            raise
        if self._is_news(answer):
            return answer
        self._closed.wait(TELL_PAUSE)
        return None

    def _open(self) -> bool:
        """Begin a call when it is time; False where the iterator is closed."""
        if self._closed.wait(max(0.0, self._begin_at - time.monotonic())):
            return False
        self._call = self._begin(None)
        if self.is_closed:  # another thread was quicker
            self._cancel()
        return not self.is_closed

    def _ended(self, answer: HealthAnswer, error: Exception | None) -> HealthAnswer | None:
        self._cancel()
        if self.is_closed:
            return None
        if self._follows:
            delay, is_reported = self._failed(answer)
            self._begin_at = time.monotonic() + delay
            return answer if is_reported else None
        self.answer = answer
        self.close()
        if error is None:
            return None
        grpcio.retell(error, self._link.adviser, "Watch", self._service)
        try:
            # The frames beneath hold the call, which is its own error in grpcio, and would be a reference cycle.
            raise error.with_traceback(None) from None
        finally:
            del error

    def _cancel(self) -> None:
        call, self._call = self._call, None
        _cancel(call)

    def close(self) -> None:
        """End the iteration; a second time does nothing. From any thread."""
        self.is_closed = True
        self._closed.set()
        self._cancel()


class WatchSubscription(HealthWatch):
    """Calls back with each status of a service, on the thread that all callbacks of a client share.

    It goes on until it is closed, or its client or channel is: also where nobody keeps it. Where it was not asked to
    follow, it ends with its Watch. Its last word is UNKNOWN then, and `answer` says why.

    Args:
        link: the client's channel.
        service: the name asked for.
        request: the same as a message.
        callback: takes the newest status, at most 100 a second, the others are passed over.
        follow: whether a Watch that ends is begun again.
    """

    answer: HealthAnswer | None

    def __init__(self, link: WatchOwner, service: str, request: bytes, *, callback: Callback, follow: bool) -> None:
        super().__init__(link, service, request, follow=follow)
        self.service = service
        self.worker: Worker = link.worker
        self._callback = callback
        self._stream: Stream | None = None
        self._stop_waiting: Callable[[], object] = _do_nothing
        self._tell_at = 0.0  # in seconds on the monotonic clock

    def start(self) -> None:
        """Begin, on the worker."""
        self.worker.hold()
        self._link.subscriptions.add(self)
        self.worker.submit(self._open)

    def close(self) -> None:
        """Call back no more; a second time does nothing. From any thread, and from the callback.

        A callback that runs meanwhile on another thread runs to its end.
        """
        self.is_closed = True
        try:
            self._link.subscriptions.remove(self)
        except KeyError:
            return
        self._stop_waiting()
        self._drop(self._stream)
        self.worker.release()

    # --- on the worker ---------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.is_closed:
            return
        stream = self._stream = Stream(self, self._following.is_too_much)
        try:
            call = self._begin(stream)
        except Exception as error:
            self.ended(stream, self.failed_with(error), is_last=is_final(error))
            return
        stream.read(call)
        if self.is_closed:  # another thread was quicker
            self._drop(stream)

    def heard(self, stream: Stream) -> None:
        """Tell the newest of what was said, when it is time."""
        if not self._is_present(stream):
            return
        if (wait := self._tell_at - time.monotonic()) > 0.0:
            self._stop_waiting = self.worker.call_later(wait, partial(self.heard, stream))
            return
        self._take_newest(stream)
        if stream.is_flooded and self._is_present(stream):
            # What is still said is not read: a Watch that begins says it.
            self._drop(stream)
            self._begin_later(FLOOD_PAUSE)

    def failed_with(self, error: BaseException) -> HealthAnswer:
        """Return that a call ended with an exception."""
        return failed_with(self.service, error, "Watch", self._link.adviser)

    def ended(self, stream: Stream, answer: HealthAnswer, *, is_last: bool = False) -> None:
        """Take in the end of a call; `is_last` says that no other can be begun."""
        if self._is_present(stream):
            self._take_newest(stream)
        if not self._is_present(stream):
            return
        self._drop(stream)
        if is_last or not self._follows:
            self._finish(answer)
            return
        delay, is_reported = self._failed(answer)
        if is_reported:
            self._deliver(answer)
        self._begin_later(delay)

    def _begin_later(self, delay: float) -> None:
        if not self.is_closed:
            self._stop_waiting = self.worker.call_later(delay, self._open)

    def _is_present(self, stream: Stream) -> bool:
        return stream is self._stream and not self.is_closed

    def _take_newest(self, stream: Stream) -> None:
        for message in stream.take():
            if self._is_present(stream):
                self._take(stream, message)

    def _take(self, stream: Stream, message: bytes) -> None:
        try:
            answer = answered(self.service, message, stream.call, self._link.adviser)
        except InvalidResponse as error:
            self.ended(stream, self.failed_with(error))
            return
        if self._is_news(answer):
            self._deliver(answer)

    def _deliver(self, answer: HealthAnswer) -> None:
        self.answer = answer
        run_guarded("watch callback", partial(self._callback, answer.status))
        self._tell_at = time.monotonic() + TELL_PAUSE

    def _finish(self, answer: HealthAnswer) -> None:
        if not self.is_closed:
            self._warn(answer)
            self._deliver(answer)
        self.close()

    def _drop(self, stream: Stream | None) -> None:
        self._stream = None
        if stream is not None and stream.call is not None:
            call, stream.call = stream.call, None
            _cancel(call)


def _cancel(call: Any) -> None:
    """End a call, or what an interceptor has returned for one: a generator, say.

    One that another thread waits in cannot be ended: it ends with its next message.
    """
    end = getattr(call, "cancel", None) or getattr(call, "close", None)
    if end is not None:
        with suppress(Exception):
            end()


def _do_nothing() -> None:
    pass


def check_callback(callback: object) -> Callback:
    """Return a callback.

    Raises:
        ConfigError: it cannot be called, or is a coroutine function, which nobody would await.
    """
    return check_callable("callback", callback, hint="; use healthlb.aio.HealthClient")
