"""A deadline ends a wait as asyncio's own timeout does, whoever else cancels."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from penstock.deadline import Deadline


@asynccontextmanager
async def ours(at: float | None) -> Any:
    with Deadline(at):
        yield


Make = Callable[[float | None], AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["ours", "asyncio's"])
def make(request: pytest.FixtureRequest) -> Make:
    """Both are held to the same."""
    return asyncio.timeout_at if request.param == "asyncio's" else ours


def run(check: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await check()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(bounded())


def now() -> float:
    return asyncio.get_running_loop().time()


def test_what_hangs_is_ended_at_its_time_and_not_before(make: Make) -> None:
    async def check() -> None:
        at = now() + 0.02
        with pytest.raises(TimeoutError):
            async with make(at):
                await asyncio.Event().wait()
        assert now() >= at
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0

    run(check)


def test_a_time_that_is_past_ends_the_first_wait(make: Make) -> None:
    async def check() -> None:
        with pytest.raises(TimeoutError):
            async with make(now() - 1):
                await asyncio.Event().wait()

    run(check)


def test_what_is_done_in_time_is_left_alone_and_so_is_what_comes_after(make: Make) -> None:
    async def check() -> None:
        async with make(now() + 0.005):
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        async with make(None):
            await asyncio.sleep(0.02)

    run(check)


def test_an_error_of_the_block_is_its_own(make: Make) -> None:
    async def check() -> None:
        with pytest.raises(KeyError):
            async with make(now() + 10):
                raise KeyError

    run(check)


def test_the_earlier_of_two_ends_the_wait_and_the_other_still_holds(make: Make) -> None:
    async def check() -> None:
        async with make(now() + 10):
            with pytest.raises(TimeoutError):
                async with make(now() + 0.01):
                    await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            async with make(now() + 0.01), make(now() + 10):
                await asyncio.Event().wait()

    run(check)


def test_a_cancellation_by_somebody_else_is_not_taken_for_the_deadline(make: Make) -> None:
    async def check() -> None:
        async def wait() -> None:
            async with make(now() + 10):
                await asyncio.Event().wait()

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(check)


def test_a_cancellation_at_the_deadline_is_a_cancellation(make: Make) -> None:
    async def check() -> None:
        async def wait() -> None:
            async with make(now() + 0.001):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    current = asyncio.current_task()
                    assert current is not None
                    current.cancel()  # somebody else's, at the same moment
                    raise

        waiting = asyncio.create_task(wait())
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(check)


def test_many_waits_end_each_at_its_own_time() -> None:
    async def check() -> None:
        ended: list[int] = []

        async def wait(n: int) -> None:
            try:
                with Deadline(begun + 0.03 * (3 - n)):
                    await asyncio.Event().wait()
            except TimeoutError:
                ended.append(n)

        begun = now()
        await asyncio.gather(*(wait(n) for n in range(3)))
        assert ended == [2, 1, 0]

    run(check)
