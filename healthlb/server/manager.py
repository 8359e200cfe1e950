"""HealthManager: the statuses of services from the state of what they depend on.

The one rule: nothing is SERVING before its checks have passed, and no check can stop the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from healthlb.config import check_callable, check_number
from healthlb.control.monkey_patching import check_server_half
from healthlb.core.messages import ServingStatus
from healthlb.core.user_code import words
from healthlb.errors import ConfigError
from healthlb.server.check import Check, CheckResult, Record
from healthlb.server.failures import log_failure
from healthlb.server.registry import Registry
from healthlb.server.runs import CheckRunner, is_async
from healthlb.text import printable

_ENDING = 1.0  # Seconds for cancelled tasks to end.


class LoopThread:
    """Runs an event loop on a daemon thread, from `start` to `close`. Nothing that it runs can end it.

    Whatever a callback raises is logged, and the loop goes on.

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


Services = Mapping[str, Collection[str]]


def resolve(checks: Mapping[str, Check], services: Services) -> dict[str, tuple[str, ...]]:
    """Return the checks of every service, those of the services it names included; `""` has all critical ones.

    Raises:
        ConfigError: a name that is neither, or both, check and service; a service on nothing; a circle.
    """
    for name, check in checks.items():
        if not isinstance(name, str) or not isinstance(check, Check):
            raise ConfigError(f"checks must map names to Check objects, not {name!r} to {check!r}")
    for service in services:
        if not isinstance(service, str):
            raise ConfigError(f"services must map names to collections of names, not {service!r}")
    both = sorted(set(checks) & set(services))
    if both:
        raise ConfigError(f"{both[0]!r} is a check and a service")
    resolved = {service: _checks_of(service, checks, services, ()) for service in services}
    resolved.setdefault("", tuple(name for name, check in checks.items() if check.critical))
    return resolved


def derive(names: Collection[str], statuses: Mapping[str, ServingStatus]) -> ServingStatus:
    """Return the status of a service that stands on these checks.

    One failed check makes it NOT_SERVING, one that has not run UNKNOWN, and SERVING needs all of them.
    """
    seen = {statuses[name] for name in names}
    for status in (ServingStatus.NOT_SERVING, ServingStatus.UNKNOWN):
        if status in seen:
            return status
    return ServingStatus.SERVING


def _checks_of(
    service: str, checks: Mapping[str, Check], services: Services, above: tuple[str, ...]
) -> tuple[str, ...]:
    if service in above:
        raise ConfigError(f"services in a circle: {' -> '.join(map(repr, (*above, service)))}")
    named = services[service]
    if isinstance(named, str) or not named:
        raise ConfigError(f"service {service!r} must depend on a collection of one or more names, not {named!r}")
    found: dict[str, None] = {}
    for name in named:
        if not isinstance(name, str):
            raise ConfigError(f"service {service!r} must depend on names, not {name!r}")
        if name in checks:
            found[name] = None
        elif name in services:
            found.update(dict.fromkeys(_checks_of(name, checks, services, (*above, service))))
        else:
            raise ConfigError(f"service {service!r} depends on {name!r}, which is neither a check nor a service")
    return tuple(found)


_log = logging.getLogger("healthlb.server")

_CLOSING = 5.0  # Seconds for each of the threads to end.

CheckListener = Callable[[CheckResult, Mapping[str, ServingStatus]], None]


def _registry_of(servicer: object) -> Registry:
    registry = getattr(servicer, "registry", None)
    if not isinstance(registry, Registry):
        raise ConfigError(
            "servicer must be a healthlb.server.HealthServicer or a healthlb.aio.HealthServicer, "
            f"not a {type(servicer).__module__}.{type(servicer).__qualname__}"
        )
    return registry


def _check_types(checks: object, services: object, loop: object, listeners: object) -> None:
    for option, value in (("checks", checks), ("services", services)):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{option} must be a mapping, not {value!r}")
    if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
        raise ConfigError(f"loop must be an event loop, not {loop!r}")
    if not isinstance(listeners, Sequence) or not all(map(callable, listeners)):
        raise ConfigError(f"listeners must be a sequence of functions, not {listeners!r}")
    for listener in listeners:
        check_callable("listeners", listener)


class HasRegistry(Protocol):
    """Either HealthServicer."""

    @property
    def registry(self) -> Registry:
        """Where statuses are set."""


class HealthManager:
    """Runs checks, each once per interval, and sets the status of each service from the checks that it depends on.

    A service is NOT_SERVING while one of its checks fails, UNKNOWN while one has not run, SERVING otherwise; `""`
    stands on all critical checks unless `services` says otherwise. It works on a thread of its own, off the RPC path.

        with HealthManager(health, {"db": Check(probe=ping)}, {"shop.Cart": ["db"]}):
            serve_until_signal(server, health)

    Args:
        servicer: whose statuses are set, sync or aio.
        checks: by name.
        services: names of checks, or of other services, that a service depends on.
        loop: where checks that are coroutine functions run; None for one of the manager's own.
        listeners: called on the manager's thread after each run, with its result and the services that stand on the
            check with their statuses. They must not block.
        rng: the jitter's source.

    Raises:
        ConfigError: a servicer that is not healthlb's, names that do not fit together or that nobody could watch, or
            anything else of a wrong type.
    """

    def __init__(
        self,
        servicer: HasRegistry,
        checks: Mapping[str, Check],
        services: Services | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        listeners: Sequence[CheckListener] = (),
        rng: random.Random | None = None,
    ) -> None:
        check_server_half()
        _check_types(checks, {} if services is None else services, loop, listeners)
        if not checks:
            raise ConfigError("checks must not be empty: nothing would ever be SERVING")
        self._registry = _registry_of(servicer)
        self._records = {name: Record(check) for name, check in checks.items()}
        self._checks_of = resolve(checks, services or {})
        for service in self._checks_of:
            self._registry.check_name(service)
        self._loop = loop
        self._listeners = tuple(listeners)
        self._rng = rng or random.Random()
        self._changed = threading.Condition()
        self._threads: tuple[LoopThread, ...] = ()
        self._is_closed = False

    def __repr__(self) -> str:
        statuses = ", ".join(f"{name} {record.status.name}" for name, record in self._records.items())
        return f"<HealthManager {statuses}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Set every service to UNKNOWN and run every check; once.

        Raises:
            RuntimeError: it was closed.
        """
        if self._is_closed:
            raise RuntimeError("this HealthManager was closed")
        if self._threads:
            return
        self._publish(tuple(self._checks_of))
        own = LoopThread("healthlb-manager")
        self._threads = (own,)
        loop = self._loop or own.loop
        # A coroutine that blocks its loop must not stop the manager.
        if self._loop is None and any(is_async(record.check.probe) for record in self._records.values()):
            beside = LoopThread("healthlb-checks")
            self._threads = (own, beside)
            loop = beside.loop
        for name, record in self._records.items():
            own.loop.create_task(self._repeat(name, record, CheckRunner(record.check, loop)))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop checking. Every service becomes UNKNOWN: nobody looks any more. Any number of times."""
        if self._is_closed:
            return
        self._is_closed = True
        for thread in self._threads:
            thread.close(_CLOSING)
        if self._threads:
            for service in self._checks_of:
                self._registry.set(service, ServingStatus.UNKNOWN)

    def results(self) -> dict[str, CheckResult]:
        """Return what is known of every check."""
        with self._changed:
            now = time.monotonic()
            return {name: record.result(name, now) for name, record in self._records.items()}

    def statuses(self) -> dict[str, ServingStatus]:
        """Return the status of every service that stands on checks."""
        with self._changed:
            return self._derived(tuple(self._checks_of))

    def wait_until_known(self, timeout: float) -> bool:
        """Wait until every check has run once; False where that took longer than `timeout` seconds.

        Raises:
            ConfigError: `timeout` is below 0.
        """
        check_number("timeout", timeout, low=0)
        with self._changed:
            return self._changed.wait_for(lambda: all(record.runs for record in self._records.values()), timeout)

    async def _repeat(self, name: str, record: Record, runner: CheckRunner) -> None:
        check = record.check
        while True:
            begun = time.monotonic()
            try:
                error = await runner.run()
            except Exception as failure:  # A loop that was closed, no thread to be had: it is the check that fails.
                error = f"it could not be run: {words(failure)}"
            self._add(name, record, error, begun)
            interval = check.interval * (1 + check.jitter * self._rng.uniform(-1, 1))
            await asyncio.sleep(max(0.0, begun + interval - time.monotonic()))

    def _add(self, name: str, record: Record, error: str, begun: float) -> None:
        old = record.status
        now = time.monotonic()
        with self._changed:
            record.add(error, now - begun, now)
            self._changed.notify_all()
        if record.status is not old:
            level = logging.WARNING if error else logging.INFO
            change = f"{old.name} -> {record.status.name}"
            _log.log(level, "check %s: %s %s", printable(name), change, error and f"({error})")
        services = self._publish(tuple(service for service, names in self._checks_of.items() if name in names))
        for listener in self._listeners:
            try:
                listener(record.result(name, now), services)
            except BaseException as error:  # SystemExit would end the manager's thread.
                log_failure("a listener failed", error)

    def _publish(self, services: tuple[str, ...]) -> dict[str, ServingStatus]:
        with self._changed:
            derived = self._derived(services)
        for service, status in derived.items():
            # Equal statuses are told to nobody, and while shut down nothing is shown.
            if self._registry.wanted(service) != status:
                self._registry.set(service, status)
        return derived

    def _derived(self, services: tuple[str, ...]) -> dict[str, ServingStatus]:
        statuses = {name: record.status for name, record in self._records.items()}
        return {service: derive(self._checks_of[service], statuses) for service in services}
