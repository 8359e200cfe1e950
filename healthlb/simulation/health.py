"""A server's health service: what it says to Watches and Checks, be it true or not.

The one rule: it knows only what its server's process knows. A hung process says nothing, a dead one is not asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from healthlb.core.states import Code, ServingStatus
from healthlb.errors import ConfigError

if TYPE_CHECKING:
    from healthlb.simulation.server import Server
    from healthlb.simulation.wire import Stream

_SERVING = int(ServingStatus.SERVING)
_UNKNOWN = int(ServingStatus.SERVICE_UNKNOWN)

MODES = ("honest", "lying", "absent", "stuck", "closing", "unknown", "ending")
"""What a health service can do."""


class HealthService:
    """Answers `Health/Watch` and `Health/Check`.

    Args:
        server: whose it is.
        mode: "honest"; "lying", SERVING whatever is; "absent", UNIMPLEMENTED; "stuck", which says nothing; "closing",
            one message and then the end; "unknown", SERVICE_UNKNOWN; "ending", the end with `code` at once.
        lag: nanoseconds until a Watch says what has changed.

    Attributes:
        status: the serving status as it is.
        code: how Watches end that it ends.
    """

    __slots__ = ("_lag", "_server", "_waiting", "_watches", "code", "mode", "status")

    def __init__(self, server: Server, mode: str, lag: int) -> None:
        if mode not in MODES:
            raise ConfigError(f"health must be one of {', '.join(MODES)}, not {mode!r}")
        self._server = server
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
        server = self._server
        if not server.knows(stream.link):
            return
        if server.backend.is_paused:
            self._waiting.append(stream)
            return
        if self.mode == "stuck":
            if stream.on_status is not None:
                self._watches[stream] = None
            return
        if self.mode in ("absent", "ending"):
            code = Code.UNIMPLEMENTED if self.mode == "absent" else self.code
            stream.link.path.down(stream.end, code, f"health is {self.mode}")
        elif stream.on_status is None:
            stream.link.path.down(stream.end, Code.OK)
        else:
            self._watches[stream] = None
            self._say(stream)

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

    def forget(self) -> None:
        """The process is gone, and with it who watched."""
        self._watches.clear()
        self._waiting.clear()

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
            self._server.engine.after(self._lag, self._push)
        else:
            self._push()

    def _push(self) -> None:
        if self._server.backend.is_paused or self._server.backend.is_down or self.mode == "stuck":
            return
        for stream in tuple(self._watches):
            if self.mode in ("absent", "ending"):
                del self._watches[stream]
                code = Code.UNIMPLEMENTED if self.mode == "absent" else self.code
                stream.link.path.down(stream.end, code, f"health is {self.mode}")
            else:
                self._say(stream)
