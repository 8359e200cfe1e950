"""A server's health service: what it says to Watches and Checks, be it true or not.

It knows only what its server's process knows. A hung process says nothing, a dead one is not asked. And a busy one may
answer late: `grpc.server` hands a Check to the same pool of threads as any call, and it waits in the same line.
"""

from __future__ import annotations

from collections.abc import Callable

from healthlb.core.states import Code, ServingStatus
from healthlb.errors import ConfigError
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.engine.stations import Job
from healthlb.simulation.world.backend import Backend
from healthlb.simulation.world.link import Link, Ping, Stream

_SERVING = int(ServingStatus.SERVING)
_UNKNOWN = int(ServingStatus.SERVICE_UNKNOWN)

MODES = ("honest", "lying", "absent", "watchless", "stuck", "closing", "unknown", "ending")
"""What a health service can do."""
CHECKS = ("pool", "beside", "loop")
"""Who answers Checks and begins Watches."""


class _Question(Job):
    """A Check or the beginning of a Watch, in the line for a slot."""

    __slots__ = ("stream",)

    stream: Stream


class HealthService:
    """Answers `Health/Watch` and `Health/Check`.

    Args:
        engine: virtual time.
        backend: the process that it is a part of.
        knows: says whether the process has a link.
        mode: "honest"; "lying", SERVING whatever is; "absent", UNIMPLEMENTED; "watchless", which has Check and
            no Watch; "stuck", which says nothing; "closing", one message and then the end; "unknown", SERVICE_UNKNOWN;
            "ending", the end with `code` at once.
        lag: nanoseconds until a Watch says what has changed.
        checks: who answers Checks and begins Watches: "pool", a slot, for which they wait as calls do (`grpc.server`);
            "beside", always at once (an asyncio server, or a pool of the health service's own); "loop", the event loop
            that the handlers of calls block: each waits for the call at work and for one more. What open Watches are
            told needs no slot.

    Attributes:
        status: the serving status as it is.
        code: how Watches end that it ends.
    """

    __slots__ = ("_backend", "_checks", "_engine", "_in_line", "_knows", "_lag", "_waiting", "_watches", "code", "mode",
                 "status")  # fmt: skip

    def __init__(
        self, engine: Engine, backend: Backend, knows: Callable[[Link], bool], *, mode: str, lag: int, checks: str
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"health must be one of {', '.join(MODES)}, not {mode!r}")
        if checks not in CHECKS:
            raise ConfigError(f"checks must be one of {', '.join(CHECKS)}, not {checks!r}")
        self._checks = checks
        self._in_line: dict[Stream, None] = {}
        self._engine = engine
        self._backend = backend
        self._knows = knows
        self._lag = lag
        self._watches: dict[Stream, None] = {}
        self._waiting: list[Stream] = []
        self.mode = mode
        self.status = _SERVING
        self.code = Code.UNAVAILABLE

    @property
    def said(self) -> int:
        """The status that it says."""
        if self.mode == "lying":
            return _SERVING
        return _UNKNOWN if self.mode == "unknown" else self.status

    # --- streams ---------------------------------------------------------------------------------------

    def asked(self, stream: Stream) -> None:
        """A Watch or a Check has arrived."""
        if not self._knows(stream.link):
            return
        if self._backend.is_paused:
            self._waiting.append(stream)
        elif self._checks == "beside" or self._backend.has_room:
            self._answer(stream)
        elif self._checks == "pool" and isinstance(stream, Ping):
            # That nobody has registered a method, `grpc.server` says on its serving thread, without one of its pool.
            self._answer(stream)
        else:
            question = _Question(0, self._reached)
            question.stream = stream
            self._in_line[stream] = None
            self._backend.ask(question, is_soon=self._checks == "loop")

    def _reached(self, job: Job, code: Code) -> None:
        stream: Stream = job.stream  # type: ignore[attr-defined]
        if stream not in self._in_line:
            return
        del self._in_line[stream]
        if code is Code.OK:
            self._answer(stream)
        else:
            stream.link.path.down(stream.end, code, "the server takes no more calls")

    def _answer(self, stream: Stream) -> None:
        if isinstance(stream, Ping):
            stream.link.path.down(stream.end, Code.UNIMPLEMENTED, "Method not found!")
            return
        if self.mode == "stuck":
            if stream.on_status is not None:
                self._watches[stream] = None
            return
        is_check = stream.on_status is None
        if self.mode in ("absent", "ending") or (self.mode == "watchless" and not is_check):
            self._end(stream)
        elif is_check:
            stream.said = self.said
            stream.link.path.down(stream.end, Code.OK)
        else:
            self._watches[stream] = None
            self._say(stream)

    def _end(self, stream: Stream) -> None:
        code = self.code if self.mode == "ending" else Code.UNIMPLEMENTED
        stream.link.path.down(stream.end, code, f"health is {self.mode}")

    def _say(self, stream: Stream) -> None:
        said = self.said
        if stream.said != said:
            stream.said = said
            stream.link.path.down(stream.deliver, said)
        if self.mode == "closing":
            self._watches.pop(stream, None)
            stream.link.path.down(stream.end, self.code, "the stream is closed")

    def left(self, stream: Stream) -> None:
        """The client has cancelled a Watch."""
        self._watches.pop(stream, None)
        self._in_line.pop(stream, None)

    def forget(self) -> None:
        """The process is gone, and with it who watched."""
        self._watches.clear()
        self._waiting.clear()
        self._in_line.clear()

    def resumed(self) -> None:
        """The process goes on after a pause: it answers who has asked, and says what is new."""
        waiting, self._waiting = self._waiting, []
        for stream in waiting:
            if not stream.is_over:
                self.asked(stream)
        self._push()

    # --- changes -----------------------------------------------------------------------------------------

    def set_status(self, status: int) -> None:
        """Have another status from now on; Watches hear of it after the lag."""
        self.status = status
        self._tell()

    def set_mode(self, mode: str) -> None:
        """Do something else from now on; Watches that are open hear it."""
        self.mode = mode
        self._tell()

    def _tell(self) -> None:
        if self._lag:
            self._engine.after(self._lag, self._push)
        else:
            self._push()

    def _push(self) -> None:
        if self._backend.is_paused or self._backend.is_down or self.mode == "stuck":
            return
        for stream in tuple(self._watches):
            if self.mode in ("absent", "watchless", "ending"):
                del self._watches[stream]
                self._end(stream)
            else:
                self._say(stream)
