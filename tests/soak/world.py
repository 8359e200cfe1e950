"""What goes wrong in a soak: backends that are broken and mended, peers that do harm, lists that change all the time.

The one rule: most backends are left alone and in each list, so every idempotent call has a healthy one, and those who say
SERVING and lie are few enough to be kept out (`Outliers.max_ejection_percent`). The hostile peers are in each list, too:
one that comes back as a stranger would be believed again each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from healthlb import Endpoint
from tests.backends import Backend, start_backends
from tests.backends.proxy import ChaosProxy

_ROOT = Path(__file__).resolve().parents[2]
SERVICE = "svc"
STEADY = 4
# Seconds for which a fault lasts, and for which nothing is wrong with its backend after it.
FAULT, REST = (0.2, 6.0), (0.5, 4.0)
# Ports on which nothing listens.
REFUSED = tuple(f"127.0.0.1:{port}" for port in range(2, 42))


@contextlib.contextmanager
def hostile_peers() -> Iterator[dict[str, str]]:
    """Run the peers in a process of their own; give their addresses by name."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.soak.hostile"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


class Restless:
    """A resolver whose list changes at every look, and that now and then fails."""

    def __init__(self, seed: int, constant: Sequence[str], others: Sequence[str]) -> None:
        """Take the addresses that are in each list, and those that come and go."""
        self._random = random.Random(seed)
        self._constant = list(constant)
        self._others = list(others)
        self.looks = 0

    async def resolve(self, update: Callable[[Sequence[Endpoint]], object]) -> None:
        """Give lists until something is raised."""
        while True:
            self.looks += 1
            chosen = self._random.sample(self._others, self._random.randint(len(self._others) // 2, len(self._others)))
            if self._random.random() < 0.1:
                chosen += REFUSED
            update([Endpoint(address) for address in (*self._constant, *chosen)])
            await asyncio.sleep(self._random.choice((0.0, 0.01, 0.3, 2.0, 8.0)))
            if self._random.random() < 0.02:
                raise OSError("\x1b[2Jno such name")


class Trouble:
    """Breaks one backend in one way after another and mends it, in a thread, from `with` on to its end.

    Args:
        seed: of the choices.
        backend: what is broken.
        proxy: on the way to it.
    """

    def __init__(self, seed: int, backend: Backend, proxy: ChaosProxy) -> None:
        """Prepare; nothing is broken yet."""
        self._random = random.Random(seed)
        self._backend = backend
        self._proxy = proxy
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done: list[str] = []
        self._ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "kill": (backend.kill, backend.restart),
            "stop": (lambda: backend.stop(0.5), backend.restart),
            "pause": (backend.pause, backend.resume),
            "not serving": (lambda: backend.set("NOT_SERVING", SERVICE), lambda: backend.set("SERVING", SERVICE)),
            "fail": (lambda: backend.behave(fail="UNAVAILABLE"), backend.behave),
            "slow": (lambda: backend.behave(sleep=1.0), backend.behave),
            **{
                mode: (lambda mode=mode: proxy.set_mode(mode), lambda: proxy.set_mode("pass"))  # type: ignore[misc]
                for mode in ("blackhole", "half_up", "half_down", "drop_new", "reset", "close", "refuse")
            },
        }

    def __enter__(self) -> Trouble:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Mend what is broken, and end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(*REST)):
            name = self._random.choice(sorted(self._ways))
            self.done.append(name)
            begin, end = self._ways[name]
            begin()
            self._stop.wait(self._random.uniform(*FAULT))
            end()


@contextlib.contextmanager
def troubled_world(seed: int) -> Iterator[tuple[list[str], list[str], list[Trouble]]]:
    """Give the addresses that stay, those that come and go, and the troubles that are under way."""
    with contextlib.ExitStack() as stack:
        peers = stack.enter_context(hostile_peers())
        backends = start_backends(6, services=(SERVICE,))
        for backend in backends:
            stack.callback(backend.close)
        proxies = [stack.enter_context(ChaosProxy(backend.address)) for backend in backends[STEADY:]]
        troubles = [
            stack.enter_context(Trouble(seed * 10 + number, backend, proxy))
            for number, (backend, proxy) in enumerate(zip(backends[STEADY:], proxies, strict=True))
        ]
        yield (
            [*(backend.address for backend in backends[:STEADY]), *peers.values()],
            [proxy.address for proxy in proxies],
            troubles,
        )
