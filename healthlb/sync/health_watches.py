"""The two kinds of Watch of the sync health client: one that is iterated over, and one that calls back.

The one rule: the second kind has no thread of its own. grpcio's thread of the channel hands each message to the
client's worker, which calls back and then asks for the next one.
"""

from __future__ import annotations

import inspect
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc

from healthlb.config import Backoff
from healthlb.control.grpc_transport import to_code
from healthlb.control.health_answer import HealthAnswer, answered, ended, failed_with
from healthlb.control.health_messages import WATCH
from healthlb.control.health_target import FORKED, is_final
from healthlb.control.user_code import run_guarded
from healthlb.core.following import READ_PAUSE, Following
from healthlb.core.messages import SECOND
from healthlb.core.states import ServingStatus
from healthlb.errors import ChannelUnusable, ConfigError, InvalidResponse
from healthlb.sync import grpcio

if TYPE_CHECKING:
    from healthlb.sync.health_client import Link

DEFAULT_BACKOFF = Backoff(initial=0.2, maximum=2.0)
Callback = Callable[[ServingStatus], object]

_LOOK = 1.0  # Seconds after which a thread looks whether it is still wanted.


class HealthWatch:
    """What both kinds of Watch have.

    Attributes:
        answer: what was said last, None before; where nothing is known, how the last Watch failed.
        is_closed: whether it was closed, or has ended.
    """

    def __init__(self, link: Link, service: str, request: bytes, *, follow: bool) -> None:
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
        delay, is_told = self._following.ended(to_code(answer.code), time.monotonic_ns())
        return delay / SECOND, is_told


class WatchIterator(HealthWatch, Iterator[ServingStatus]):
    """Iterates over the statuses of a service; blocks until there is another one.

    It ends when it is closed. Where it was not asked to follow, it ends with its Watch, too: without an error where the
    server has ended that with OK, else with the `grpc.RpcError`.
    """

    def __init__(self, link: Link, service: str, request: bytes, *, follow: bool) -> None:
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
            answer = answered(self._service, next(self._call), self._call)
        except StopIteration:
            return self._ended(ended(self._service), None)
        except (grpc.RpcError, InvalidResponse) as error:
            return self._ended(failed_with(self._service, error), error)
        except Exception:
            if self.is_closed:  # and so there is no call
                return None
            # The channel is closed, or what stands before it has raised.
            self.close()
            raise
        assert answer.number is not None
        if self._following.is_news(answer.number):
            return answer
        self._closed.wait(READ_PAUSE)
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
            delay, is_told = self._failed(answer)
            self._begin_at = time.monotonic() + delay
            return answer if is_told else None
        self.answer = answer
        self.close()
        if error is None:
            return None
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


class _Stream:
    """One call of a `WatchSubscription`, and the deserializer that its messages pass through.

    Attributes:
        call: None before it is begun.
        is_pushed: whether its messages are taken from the deserializer, rather than read by a thread.
    """

    # A HealthAwareChannel keeps what it makes for a deserializer, if that can be looked up: this one is used once.
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, subscription: WatchSubscription) -> None:
        self.call: Any = None
        self.is_pushed = False
        self._subscription = subscription

    def __call__(self, message: bytes) -> bytes:
        """Hand a message on; it is called on grpcio's thread."""
        if self.is_pushed:
            subscription = self._subscription
            subscription.worker.submit(partial(subscription.heard, self, message))
        return message

    def over(self, call: Any) -> None:
        """The call is over."""
        subscription = self._subscription
        subscription.worker.submit(partial(subscription.ended, self, failed_with(subscription.service, call)))


class WatchSubscription(HealthWatch):
    """Calls back with each status of a service, on the thread that all callbacks of a client share.

    It goes on until it is closed, or its client or channel is: also where nobody keeps it. Where it was not asked to
    follow, it ends with its Watch. Its last word is UNKNOWN then, and `answer` says why.

    Args:
        link: the client's channel.
        service: the name asked for.
        request: the same as a message.
        callback: takes each status; the next message is read when it has returned.
        follow: whether a Watch that ends is begun again.
    """

    def __init__(self, link: Link, service: str, request: bytes, callback: Callback, *, follow: bool) -> None:
        super().__init__(link, service, request, follow=follow)
        self.service = service
        self.worker = link.worker
        self._callback = callback
        self._stream: _Stream | None = None
        self._stop_waiting: Callable[[], object] = _do_nothing

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
        stream = self._stream = _Stream(self)
        try:
            call = stream.call = self._begin(stream)
        except Exception as error:
            self.ended(stream, failed_with(self.service, error), is_last=is_final(error))
            return
        if isinstance(call, grpcio.MultiThreadedRendezvous):
            stream.is_pushed = True
            call.add_done_callback(stream.over)
            grpcio.read_one(call)
        else:
            # Whatever an interceptor or another kind of channel returns can only be waited for.
            threading.Thread(target=self._read, args=(stream,), name="healthlb-watch", daemon=True).start()
        if self.is_closed:  # another thread was quicker
            self._drop(stream)

    def heard(self, stream: _Stream, message: bytes) -> None:
        """Take in a message, and ask for the next one."""
        if not self._is_present(stream):
            return
        self._take(stream, message)
        if self._is_present(stream):
            self._stop_waiting = self.worker.call_later(READ_PAUSE, partial(self._read_on, stream))

    def _read_on(self, stream: _Stream) -> None:
        if self._is_present(stream):
            grpcio.read_one(stream.call)

    def ended(self, stream: _Stream, answer: HealthAnswer, *, is_last: bool = False) -> None:
        """Take in the end of a call; `is_last` says that no other can be begun."""
        if not self._is_present(stream):
            return
        self._drop(stream)
        if is_last or not self._follows:
            self._finish(answer)
            return
        delay, is_told = self._failed(answer)
        if is_told:
            self._tell(answer)
        if not self.is_closed:
            self._stop_waiting = self.worker.call_later(delay, self._open)

    def _is_present(self, stream: _Stream) -> bool:
        return stream is self._stream and not self.is_closed

    def _take(self, stream: _Stream, message: bytes) -> None:
        try:
            answer = answered(self.service, message, stream.call)
        except InvalidResponse as error:
            self.ended(stream, failed_with(self.service, error))
            return
        assert answer.number is not None
        if self._following.is_news(answer.number):
            self._tell(answer)

    def _tell(self, answer: HealthAnswer) -> None:
        self.answer = answer
        run_guarded("watch callback", partial(self._callback, answer.status))

    def _finish(self, answer: HealthAnswer) -> None:
        if not self.is_closed:
            self._tell(answer)
        self.close()

    def _drop(self, stream: _Stream | None) -> None:
        self._stream = None
        if stream is not None and stream.call is not None:
            call, stream.call = stream.call, None
            _cancel(call)

    # --- where a call can only be waited for -----------------------------------------------------------

    def _read(self, stream: _Stream) -> None:
        answer, is_last = ended(self.service), False
        taken = threading.Event()
        try:
            for message in stream.call or ():
                taken.clear()
                self.worker.submit(partial(self._take_and_set, stream, message, taken))
                while self._is_present(stream) and not taken.wait(_LOOK):
                    pass
                if not self._is_present(stream):
                    return
        except Exception as error:
            answer, is_last = failed_with(self.service, error), is_final(error)
        self.worker.submit(partial(self.ended, stream, answer, is_last=is_last))

    def _take_and_set(self, stream: _Stream, message: bytes, taken: threading.Event) -> None:
        if self._is_present(stream):
            self._take(stream, message)
        taken.set()


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
    if not callable(callback):
        raise ConfigError(f"callback must be callable, not {callback!r}")
    if inspect.iscoroutinefunction(callback):
        raise ConfigError(f"callback must be no coroutine function, as {callback!r} is: use healthlb.aio.HealthClient")
    return callback
