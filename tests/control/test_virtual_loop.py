from __future__ import annotations

import asyncio

import pytest

from tests.control.virtual_loop import Deadlock, VirtualLoop, run


def test_time_goes_straight_to_the_next_timer() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        woke: list[float] = []

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woke.append(loop.time() - 1_000.0)

        await asyncio.gather(sleep(86_400.0 * 3), sleep(2.5), sleep(0.0), sleep(2.5))
        return woke

    assert run(main()) == [0.0, 2.5, 2.5, 86_400.0 * 3]


def test_waiting_for_nothing_is_an_error() -> None:
    loop = VirtualLoop()
    with pytest.raises(Deadlock):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_a_task_that_is_left_behind_is_an_error() -> None:
    async def main() -> None:
        task = asyncio.get_running_loop().create_task(asyncio.sleep(1))
        await asyncio.sleep(0)
        assert not task.done()

    with pytest.raises(AssertionError, match="left behind"):
        run(main())


def test_an_error_nobody_took_is_an_error() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="Exception in callback"):
        run(main())
