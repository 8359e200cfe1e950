"""What the scale figures look at: one channel with many subchannels, of either face, ours or native.

The one rule: a look costs next to nothing and goes through what a user has: listeners here, the channel's state there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import grpc

from healthlb.core.messages import ConnectivityState, Fact, StateChange
from tests.benchmarks.contestants import HEALTHLB, open_aio, open_sync

_READY = grpc.ChannelConnectivity.READY
_FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class Subject(Protocol):
    """A channel that is watched."""

    def are_all_in(self) -> bool:
        """Whether all subchannels are READY; of native: whether one is, since it tells no more."""

    def are_all_out(self) -> bool:
        """Whether no subchannel is READY."""

    def pause(self, seconds: float) -> None:
        """Let time pass, and the channel work."""

    def wait(self, condition: Callable[[], bool], interval: float) -> None:
        """Let the channel work until the condition holds; look every so many seconds."""


class _Tally:
    """A listener that knows who is READY."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ready: set[int] = set()

    def __call__(self, fact: Fact) -> None:
        match fact:
            case StateChange(sub=sub, new=ConnectivityState.READY):
                self._ready.add(sub)
            case StateChange(sub=sub):
                self._ready.discard(sub)

    def are_all_in(self) -> bool:
        return len(self._ready) == self._size

    def are_all_out(self) -> bool:
        return not self._ready


class _SyncSubject:
    """A sync channel; healthlb's or native."""

    def __init__(self, contestant: str, addresses: Sequence[str]) -> None:
        self.channel: Any = open_sync(contestant, addresses)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, condition: Callable[[], bool], interval: float) -> None:
        while not condition():
            time.sleep(interval)

    def close(self) -> None:
        self.channel.close()

    def state(self) -> grpc.ChannelConnectivity:
        # What grpcio has for this, `subscribe`, is a thread that polls.
        number = self.channel._channel.check_connectivity_state(True)
        return next(state for state in grpc.ChannelConnectivity if state.value[0] == number)

    def connect(self) -> None:
        self.channel.subscribe(_ignore, try_to_connect=True)


class _AioSubject:
    """An aio channel; healthlb's or native."""

    def __init__(self, contestant: str, addresses: Sequence[str]) -> None:
        self._runner = asyncio.Runner()
        self.channel: Any = self._runner.run(_call(open_aio, contestant, addresses))

    def pause(self, seconds: float) -> None:
        self._runner.run(asyncio.sleep(seconds))

    def wait(self, condition: Callable[[], bool], interval: float) -> None:
        # In one go: a loop that stops and starts again at each look would slow down what is measured.
        self._runner.run(_wait(condition, interval))

    def close(self) -> None:
        self._runner.run(self.channel.close())
        self._runner.close()

    def state(self) -> grpc.ChannelConnectivity:
        return self.channel.get_state(try_to_connect=True)  # type: ignore[no-any-return]

    def connect(self) -> None:
        self._runner.run(_call(self.channel.get_state, True))


class _Ours:
    """A healthlb channel: its facts tell of every subchannel."""

    def __init__(self, subject: _SyncSubject | _AioSubject, size: int) -> None:
        tally = _Tally(size)
        self.pause, self.wait = subject.pause, subject.wait
        self.are_all_in = tally.are_all_in
        self.are_all_out = tally.are_all_out
        subject.channel.add_listener(tally)
        subject.connect()


class _Native:
    """A native channel: only its own state tells anything."""

    def __init__(self, subject: _SyncSubject | _AioSubject) -> None:
        self.pause, self.wait = subject.pause, subject.wait
        self._subject = subject
        subject.state()

    def are_all_in(self) -> bool:
        return self._subject.state() is _READY

    def are_all_out(self) -> bool:
        return self._subject.state() is _FAILURE


@contextlib.contextmanager
def open_subject(face: str, contestant: str, addresses: Sequence[str]) -> Iterator[Subject]:
    """Open a channel to all addresses and begin to connect."""
    subject = (_SyncSubject if face == "sync" else _AioSubject)(contestant, addresses)
    with contextlib.closing(subject):
        yield _Ours(subject, len(addresses)) if contestant == HEALTHLB else _Native(subject)


async def _wait(condition: Callable[[], bool], interval: float) -> None:
    while not condition():
        await asyncio.sleep(interval)


async def _call(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def _ignore(state: grpc.ChannelConnectivity) -> None:
    """Take a state; only the connecting is wanted."""
