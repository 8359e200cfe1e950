"""One test server in a process of its own: `python -m tests.backends.server SETTINGS`, a JSON object.

Commands come as JSON lines on stdin and are answered on stdout, by id, each from a thread of its own: so they work
while the gRPC server hangs. One rule: when stdin ends, the process ends, whatever it was doing.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from tests.backends.counters import Counters
from tests.backends.hosts import AioHost, Host, Settings, SyncHost
from tests.backends.steering import Steering


class Control:
    """Runs the commands of the test process."""

    def __init__(self, host: Host, steering: Steering, counters: Counters, replies: TextIO) -> None:
        """Answer on `replies`."""
        self._host = host
        self._replies = replies
        self._lock = threading.Lock()
        self._has_answered = threading.Event()
        self._commands: dict[str, Callable[..., Any]] = {
            "set": host.set,
            "behave": steering.behave,
            "stats": counters.snapshot,
            "stop": self._begin_stop,
        }

    def serve(self, commands: TextIO) -> None:
        """Run commands until there are no more."""
        for line in commands:
            threading.Thread(target=self._run, args=(json.loads(line),), daemon=True).start()

    def reply(self, **answer: Any) -> None:
        """Write one line."""
        with self._lock:
            self._replies.write(json.dumps(answer) + "\n")
            self._replies.flush()

    def _run(self, command: dict[str, Any]) -> None:
        try:
            result = self._commands[command["name"]](**command["arguments"])
        except Exception as error:  # Whatever it is, the test process is who must hear of it.
            self.reply(id=command["id"], error=f"{type(error).__name__}: {error}")
        else:
            self.reply(id=command["id"], result=result)
            self._has_answered.set()

    def _begin_stop(self, grace: float | None) -> None:
        self._has_answered.clear()
        threading.Thread(target=self._stop_and_exit, args=(grace,), daemon=True).start()

    def _stop_and_exit(self, grace: float | None) -> None:
        self._host.stop(grace)
        self._has_answered.wait(5.0)  # a process that ends at once would take its answer along
        os._exit(0)  # Handlers that still run must not hold the process back.


def _private_stdout() -> TextIO:
    """Return the real stdout and point descriptor 1 to stderr: a stray print must not pass for an answer."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def main() -> None:
    """Start the server, say so, and serve commands until stdin ends."""
    settings = Settings(**json.loads(sys.argv[1]))
    replies = _private_stdout()
    counters = Counters(settings.journal)
    steering = Steering(settings.name)
    host = (AioHost if settings.kind == "aio" else SyncHost)(settings, steering, counters)
    control = Control(host, steering, counters, replies)
    host.start()
    control.reply(ready=True)
    control.serve(sys.stdin)
    os._exit(0)


if __name__ == "__main__":
    main()
