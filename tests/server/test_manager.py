"""HealthManager with real threads and checks that behave badly."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from grpc_health.v1 import health as stock

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError
from healthlb.server import Check, CheckResult, HealthManager, HealthServicer
from tests.backends.clients import eventually

UNKNOWN, SERVING, NOT_SERVING = ServingStatus.UNKNOWN, ServingStatus.SERVING, ServingStatus.NOT_SERVING
PATIENCE = 15.0
FAST = {"interval": 0.02, "timeout": 0.1}
Manage = Callable[..., HealthManager]


@pytest.fixture
def health() -> HealthServicer:
    return HealthServicer()


@pytest.fixture
def manage(health: HealthServicer) -> Iterator[Manage]:
    made = []

    def manage(checks: dict[str, Check], services: Any = None, **options: Any) -> HealthManager:
        made.append(HealthManager(health, checks, services, **options))
        made[-1].start()
        return made[-1]

    yield manage
    for manager in made:
        manager.close()


class Switch:
    """A dependency that a test breaks and mends."""

    def __init__(self, is_up: bool = True) -> None:
        self.is_up = is_up
        self.runs = 0

    def __call__(self) -> None:
        self.runs += 1
        if not self.is_up:
            raise ConnectionError("no route")


def test_services_follow_their_checks(health: HealthServicer, manage: Manage) -> None:
    db, cache = Switch(), Switch()
    checks = {"db": Check(probe=db, **FAST), "cache": Check(probe=cache, critical=False, **FAST)}
    manage(checks, {"cart": ["db"], "page": ["cart", "cache"]})
    eventually(lambda: health.registry.statuses() == {"": 1, "cart": 1, "page": 1})
    cache.is_up = False
    eventually(lambda: health.registry.statuses() == {"": 1, "cart": 1, "page": 2})
    db.is_up = False
    eventually(lambda: health.registry.statuses() == {"": 2, "cart": 2, "page": 2})
    db.is_up = cache.is_up = True
    eventually(lambda: health.registry.statuses() == {"": 1, "cart": 1, "page": 1})


def test_nothing_is_serving_before_its_checks_ran(health: HealthServicer, manage: Manage) -> None:
    may_end = threading.Event()
    manager = manage(
        {"slow": Check(probe=lambda: may_end.wait() and None), "fast": Check(probe=Switch())}, {"a": ["fast"]}
    )
    eventually(lambda: health.get("a") == SERVING)

    assert health.get("") == UNKNOWN
    assert not manager.wait_until_known(0.05)
    may_end.set()
    assert manager.wait_until_known(PATIENCE)
    eventually(lambda: health.get("") == SERVING)
    assert manager.statuses() == {"a": SERVING, "": SERVING}


def test_results_are_visible(manage: Manage) -> None:
    manager = manage({"db": Check(probe=Switch(False)), "never": Check(probe=Switch(), critical=False)})
    assert manager.wait_until_known(PATIENCE)
    result = manager.results()["db"]

    assert (result.name, result.status, result.error) == ("db", NOT_SERVING, "ConnectionError: no route")
    assert result.age is not None
    assert 0 <= result.duration <= 5
    assert repr(manager) == "<HealthManager db NOT_SERVING, never SERVING>"


async def _hang() -> None:
    await asyncio.sleep(3600)


async def _refuse_to_end() -> None:
    while True:
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            return


def _exit() -> None:
    sys.exit("out")


async def _exit_async() -> None:
    raise SystemExit("out")


async def _keyboard_interrupt() -> None:
    raise KeyboardInterrupt


class Unspeakable(BaseException):
    """Raises when it is looked at."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


def _raise_unspeakable() -> None:
    raise Unspeakable


async def _raise_unspeakable_async() -> None:
    raise Unspeakable


async def _cancelled() -> None:
    raise asyncio.CancelledError


async def _block() -> None:
    time.sleep(1)  # As a client library that is not asynchronous does.


async def _leave_a_bomb() -> None:
    asyncio.get_running_loop().call_soon(sys.exit)
    await asyncio.sleep(3600)


ODD = {
    "hangs": (lambda: time.sleep(1), "no result within 0.1 s"),
    "hangs async": (_hang, "no result within 0.1 s"),
    "refuses to end": (_refuse_to_end, "no result within 0.1 s"),
    "exits": (_exit, "SystemExit: out"),
    "exits async": (_exit_async, "SystemExit: out"),
    "is interrupted": (_keyboard_interrupt, "KeyboardInterrupt"),
    "returns garbage": (lambda: "garbage", "it returned 'garbage', not None"),
    "returns False": (lambda: False, "it returned False, not None"),
    "blocks its loop": (_block, "no result within 0.1 s"),
    "ends its loop": (_leave_a_bomb, "no result within 0.1 s"),
    "cancels itself": (_cancelled, "CancelledError"),
    "is unspeakable": (_raise_unspeakable, "Unspeakable"),
    "is unspeakable async": (_raise_unspeakable_async, "Unspeakable"),
    "returns the unspeakable": (Unspeakable, "it returned a Unspeakable, not None"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_check_that_misbehaves_is_not_serving_and_hurts_no_other(
    name: str, health: HealthServicer, manage: Manage
) -> None:
    probe, text = ODD[name]
    good = Switch()
    manager = manage(
        {"odd": Check(probe=probe, interval=60, timeout=0.1), "good": Check(probe=good, **FAST)}, {"a": ["good"]}
    )
    assert manager.wait_until_known(PATIENCE)

    assert manager.results()["odd"].error.startswith(text.replace("ODD.", ""))
    eventually(lambda: (health.get(""), health.get("a")) == (NOT_SERVING, SERVING))
    runs = good.runs
    eventually(lambda: good.runs > runs + 2)


@pytest.mark.parametrize("is_async", [False, True])
def test_runs_never_overlap(is_async: bool, manage: Manage) -> None:
    active, most, runs = [0], [0], [0]

    def begin() -> None:
        active[0] += 1
        runs[0] += 1
        most[0] = max(most[0], active[0])

    def slow() -> None:
        begin()
        time.sleep(0.15)
        active[0] -= 1

    async def slow_async() -> None:
        begin()
        try:
            await asyncio.sleep(0.15)
        except asyncio.CancelledError:
            await asyncio.sleep(0.15)
        active[0] -= 1

    manager = manage({"slow": Check(probe=slow_async if is_async else slow, interval=0.02, timeout=0.05)})
    eventually(lambda: runs[0] >= 3)

    assert most[0] == 1
    eventually(lambda: manager.results()["slow"].error == "the run before is still under way")


def test_a_check_runs_once_per_interval_with_jitter(manage: Manage) -> None:
    times: list[float] = []
    manage({"db": Check(probe=lambda: times.append(time.monotonic()), interval=0.1, jitter=0.5)})
    eventually(lambda: len(times) >= 6)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]

    assert times[5] - times[0] >= 5 * 0.05 - 0.02
    assert len({round(gap, 2) for gap in gaps}) > 1


def test_coroutines_run_on_the_loop_they_are_given(manage: Manage) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    seen = []

    async def check() -> None:
        seen.append(asyncio.get_running_loop())

    manager = manage({"db": Check(probe=check)}, loop=loop)
    assert manager.wait_until_known(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    manager.close()
    loop.close()

    assert seen[0] is loop
    assert manager.results()["db"].status is SERVING


def test_a_loop_that_was_closed_is_a_failed_check(manage: Manage, recwarn: pytest.WarningsRecorder) -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    async def check() -> None: ...

    manager = manage({"db": Check(probe=check)}, loop=loop)
    assert manager.wait_until_known(PATIENCE)

    assert "Event loop is closed" in manager.results()["db"].error


@pytest.mark.parametrize("name", ODD)
def test_a_check_that_misbehaves_is_run_again(name: str, manage: Manage) -> None:
    probe, _ = ODD[name]
    manager = manage({"odd": Check(probe=probe, **FAST)})

    eventually(lambda: manager.results()["odd"].runs > 3)
    assert manager.results()["odd"].status is NOT_SERVING


def test_a_loop_that_cancels_its_tasks_is_a_failed_check(health: HealthServicer, manage: Manage) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    hang = threading.Event()

    async def check() -> None:
        if hang.is_set():
            await asyncio.sleep(3600)

    manage({"db": Check(probe=check, interval=0.02, timeout=60)}, loop=loop)
    eventually(lambda: health.get("") == SERVING)
    hang.set()

    def cancel_all() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    eventually(lambda: bool(asyncio.all_tasks(loop)))
    loop.call_soon_threadsafe(cancel_all)
    eventually(lambda: health.get("") == NOT_SERVING)
    hang.clear()
    eventually(lambda: not asyncio.all_tasks(loop) or loop.call_soon_threadsafe(cancel_all) is None)
    eventually(lambda: health.get("") == SERVING)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


def test_listeners_hear_of_every_run_and_cannot_stop_it(manage: Manage, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[CheckResult, Any]] = []

    def fail(result: CheckResult, services: Any) -> None:
        raise RuntimeError("broken listener")

    def leave(result: CheckResult, services: Any) -> None:
        sys.exit("out")

    checks = {"db": Check(probe=Switch(), **FAST)}
    manage(checks, {"a": ["db"]}, listeners=[fail, leave, lambda result, services: heard.append((result, services))])
    eventually(lambda: len(heard) > 2)

    assert (heard[0][0].name, heard[0][0].status, heard[0][1]) == ("db", SERVING, {"a": SERVING, "": SERVING})
    assert "a listener failed" in caplog.text


def test_turns_are_logged(manage: Manage, caplog: pytest.LogCaptureFixture) -> None:
    manager = manage({"db": Check(probe=Switch(False))})
    assert manager.wait_until_known(PATIENCE)

    eventually(lambda: "check db: UNKNOWN -> NOT_SERVING (ConnectionError: no route)" in caplog.text)


def test_late_results_do_not_undo_a_shutdown(health: HealthServicer, manage: Manage) -> None:
    db = Switch()
    manage({"db": Check(probe=db, **FAST)})
    eventually(lambda: health.get("") == SERVING)
    health.enter_graceful_shutdown()
    runs = db.runs
    eventually(lambda: db.runs > runs + 3)

    assert health.get("") == NOT_SERVING


def test_close_leaves_unknown_and_no_thread(health: HealthServicer) -> None:
    db = Switch()
    with HealthManager(health, {"db": Check(probe=db, **FAST)}) as manager:
        manager.start()
        eventually(lambda: health.get("") == SERVING)
    manager.close()
    runs = db.runs
    time.sleep(0.1)

    assert (health.get(""), db.runs) == (UNKNOWN, runs)
    assert not any(thread.name == "healthlb-manager" for thread in threading.enumerate())
    with pytest.raises(RuntimeError, match="was closed"):
        manager.start()


def test_without_checks_it_would_be_a_lie(health: HealthServicer) -> None:
    with pytest.raises(ConfigError, match="checks must not be empty"):
        HealthManager(health, {})


@pytest.mark.parametrize("servicer", [stock.HealthServicer(), stock.aio.HealthServicer(), None, object()])
def test_other_servicers_are_refused(servicer: Any) -> None:
    with pytest.raises(ConfigError, match=r"servicer must be a healthlb\.server\.HealthServicer .* not a \w+"):
        HealthManager(servicer, {"it": Check(probe=Switch())})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"checks": [Check(probe=Switch())]}, "checks must be a mapping"),
        ({"services": ["it"]}, "services must be a mapping"),
        ({"loop": "asyncio"}, "loop must be an event loop"),
        ({"listeners": print}, "listeners must be a sequence of functions"),
        ({"listeners": ["print"]}, "listeners must be a sequence of functions"),
        ({"listeners": [asyncio.sleep]}, "listeners must be no coroutine function"),
        ({"services": {"x" * 1025: ["it"]}}, "a name of at most 1024 bytes"),
        ({"services": {"\udcff": ["it"]}}, "a string that UTF-8 can hold"),
    ],
)
def test_options_of_a_wrong_type_are_refused(health: HealthServicer, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        HealthManager(health, **{"checks": {"it": Check(probe=Switch())}, **options})


def test_texts_of_exceptions_are_one_short_line_everywhere(
    health: HealthServicer, manage: Manage, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = "\x1b[2Jok\n\u202eshop.Cart  SERVING\r" + "x" * 5_000_000

    def probe() -> None:
        raise ConnectionError(hostile)

    def tell(result: CheckResult, services: Any) -> None:
        raise ValueError(hostile)

    manager = manage({"it\nis": Check(probe=probe, **FAST)}, listeners=[tell])
    assert manager.wait_until_known(PATIENCE)
    eventually(lambda: "a listener failed" in caplog.text)

    error = manager.results()["it\nis"].error
    assert error.startswith("ConnectionError: \\x1b[2Jok\\n\\u202eshop.Cart  SERVING\\rxxx")
    assert error.isprintable()
    assert len(error) < 400
    assert all(text.isprintable() for text in caplog.text.splitlines())
    assert "\nshop.Cart" not in caplog.text
    assert max(map(len, caplog.text.splitlines())) < 600
