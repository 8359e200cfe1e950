"""Calls at a fixed rate, whatever becomes of them.

It is an open loop: a call that hangs delays no other, or a bad backend would slow the
demo down and so hide what it costs.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from healthlb.core.messages import SECOND, Code
from healthlb.demo.records import CallRecord

METHOD = "/healthlb.demo.Echo/Say"
# Far above what a call takes, so that a machine under load loses none.
DEADLINE = 2.0
_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")

Say = Callable[..., Any]


class Traffic:
    """Sends `rate` calls per second from a thread of its own, each with a deadline of 2 s."""

    def __init__(self, say: Say, rate: float, backends: Mapping[str, int]) -> None:
        self._say = say
        self._gap = round(SECOND / rate)
        self._backends = backends
        self._stopped = threading.Event()
        self._dispatcher = threading.Thread(target=self._dispatch, name="healthlb-demo-traffic", daemon=True)
        # Room for the case that every call takes its whole deadline; threads start only when needed.
        at_once = int(rate * DEADLINE) + 16
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="healthlb-demo-call")
        self.records: list[CallRecord] = []

    def start(self) -> None:
        """Begin."""
        self._dispatcher.start()

    def stop(self) -> None:
        """Make no more calls, and wait for those in flight."""
        self._stopped.set()
        if self._dispatcher.is_alive():
            self._dispatcher.join()
        self._pool.shutdown(cancel_futures=True)

    def _dispatch(self) -> None:
        due_at = time.monotonic_ns()
        while not self._stopped.wait(max(0, due_at - time.monotonic_ns()) / SECOND):
            self._pool.submit(self._call)
            due_at += self._gap

    def _call(self) -> None:
        started_at = time.monotonic_ns()
        try:
            reply = self._say(b"ping", timeout=DEADLINE)
        except Exception as error:  # whatever it is, the caller has lost a call
            ended_at = time.monotonic_ns()
            self.records.append(self._failure(started_at, ended_at, error))
        else:
            backend = int(reply.partition(b" ")[0])
            self.records.append(CallRecord(started_at, time.monotonic_ns(), backend))

    def _failure(self, started_at: int, ended_at: int, error: Exception) -> CallRecord:
        code, details = Code.INTERNAL, repr(error)
        if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
            code, details = Code(error.code().value[0]), error.details() or ""
        return CallRecord(started_at, ended_at, self._address_in(error, details), code, details)

    def _address_in(self, error: Exception, details: str) -> int | None:
        attempts = getattr(error, "attempts", ())
        if attempts:
            return self._backends.get(attempts[-1].address)
        found = _ADDRESS.findall(details)
        # The text of a call that no subchannel could take names several.
        return self._backends.get(found[0]) if len(set(found)) == 1 else None
