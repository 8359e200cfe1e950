"""An event loop on a thread of its own that nothing it runs can end.

The one rule: whatever a callback raises is logged, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import threading

from healthlb.server.failures import log_failure

_ENDING = 1.0  # Seconds for cancelled tasks to end.


class LoopThread:
    """Runs an event loop on a daemon thread, from `start` to `close`.

    Args:
        name: of the thread.

    Attributes:
        loop: the loop.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._is_closing = False
        self._thread = threading.Thread(target=self._host, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Cancel all tasks and end the thread, or leave it to itself where that takes more than `timeout` seconds."""
        self._is_closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _host(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._is_closing:
            self._run()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            # A check may take a moment to end when it is cancelled, or refuse to.
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=_ENDING))
        self.loop.close()

    def _run(self) -> None:
        # SystemExit in a task or a callback ends `run_forever`, and would end every check with it.
        try:
            self.loop.run_forever()
        except BaseException as error:
            log_failure("a check raised outside of its run", error)
