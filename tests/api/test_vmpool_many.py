"""`execute_many` and `map`."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api import modules
from tests.loops import Run
from wasmedge_async import (
    V128,
    CallTimeout,
    Function,
    FunctionType,
    ImportObject,
    PoolClosed,
    Terminate,
    Trap,
    ValType,
    VMPool,
    WasmEdgeError,
    WorkerDied,
)
from wasmedge_pool.page import BATCH, INDEX, KINDS, RESULTS, SIZE, read_batch

# --- execute_many ---------------------------------------------------------------------------------


def test_many_calls_come_back_in_order(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            rows = [(n, 2 * n) for n in range(50_000)]
            assert await pool.execute_many("add", rows) == [[3 * n] for n in range(50_000)]
            assert await pool.execute_many("empty", [()] * 1000) == [[]] * 1000
            assert await pool.execute_many("add", []) == []
            stats = pool.stats()
            assert (stats.calls, stats.completed) == (51_000, 51_000)
            assert stats.run_time.count == 51_000
            assert sum(worker.calls for worker in stats.workers) == 51_000

    run(main())


def test_each_of_many_calls_sees_a_fresh_instance(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            assert await pool.execute_many("count", [()] * 1000) == [[1]] * 1000

    run(main())


def test_values_of_every_type_survive(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            quiet = [(0x7FF8_0000_0000_0000 + n,) for n in range(1, 5)]
            nans = await pool.execute_many("f64_from_bits", quiet)
            bits = await pool.execute_many("f64_bits", [tuple(nan) for nan in nans])
            assert bits == [list(row) for row in quiet]
            assert await pool.execute_many("i64", [(2**64 - 1,), (-(2**63),)]) == [[-1], [-(2**63)]]
            assert await pool.execute_many("swap", [(1, 2), (3, 4)]) == [[2, 1], [4, 3]]
            # These do not go in batches.
            vectors = [(V128(n, n + 1),) for n in range(3)]
            assert await pool.execute_many("v128", vectors) == [list(row) for row in vectors]
            assert await pool.execute_many("null", [()] * 3) == [[None]] * 3
            assert await pool.execute_many("is_null", [(None,), (object(),)]) == [[1], [0]]

    run(main())


def test_errors_stand_in_their_places(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            rows: list[tuple[object, ...]] = [(10, n % 3) for n in range(3000)]
            rows[7] = (1,)
            rows[8] = ("text", 1)
            rows[10] = (2**70, 1)
            rows[11] = (2**40, 1)
            results = await pool.execute_many("div", rows, return_errors=True)
            assert isinstance(results[7], WasmEdgeError)
            assert isinstance(results[8], TypeError | WasmEdgeError)
            assert isinstance(results[10], OverflowError)
            assert isinstance(results[11], OverflowError)
            for n, result in enumerate(results):
                if n in (7, 8, 10, 11):
                    continue
                if n % 3:
                    assert result == [10 // (n % 3)]
                else:
                    assert isinstance(result, Trap)
            # The one that is too large for any type was refused before it was a call.
            assert pool.stats().failed == 1000 + 3

    run(main())


def test_the_first_error_in_order_is_raised(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            rows = [(10, 1)] * 20_000
            rows[1500] = (-(2**31), -1)  # overflow
            rows[19_000] = (1, 0)
            with pytest.raises(Trap, match="integer overflow"):
                await pool.execute_many("div", rows)
            assert await pool.execute("add", 1, 2) == [3]
            stats = pool.stats()
            assert stats.running == stats.queued == 0

    run(main())


def test_an_unknown_function_and_no_tuple_are_refused(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            with pytest.raises(WasmEdgeError, match="'nothing'"):
                await pool.execute_many("nothing", [(1,)])
            with pytest.raises(TypeError, match=r"write \(value,\)"):
                await pool.execute_many("add", [1])  # type: ignore[list-item]

    run(main())


def test_the_timeout_is_for_each_call(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            rows = [(300,)] * 3000
            assert await pool.execute_many("busy", rows, timeout=0.2) == [[7]] * 3000
            results = await pool.execute_many("spin", [()] * 4, timeout=0.05, return_errors=True)
            assert [type(result) for result in results] == [CallTimeout] * 4
            assert pool.stats().timed_out == 4
            assert pool.stats().restarts == {}

    run(main())


def test_long_calls_are_spread_over_the_workers(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            while len(pool.stats().workers) < 2:
                await asyncio.sleep(0.01)
            await pool.execute_many("busy", [(20_000_000,)] * 10)
            assert min(worker.calls for worker in pool.stats().workers) >= 2

    run(main())


def test_cancelling_stops_all_of_them(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            with anyio.move_on_after(0.1) as scope:
                await pool.execute_many("spin", [()] * 1000)
            assert scope.cancelled_caught
            assert await pool.execute("add", 1, 2) == [3]
            stats = pool.stats()
            assert stats.running == stats.queued == 0

    run(main())


def test_only_the_running_call_dies_with_its_worker(run: Run[None]) -> None:
    """A host function that kills its worker at certain numbers tells which call was running."""

    async def main() -> None:
        imports = ImportObject("host")
        seen: list[int] = []

        def visit(data: object, memory: object, n: int) -> int:
            seen.append(n)
            if n in (5, 333, 999):
                for pid in pool._pool.pids:
                    os.kill(pid, signal.SIGKILL)
            return n + 1

        kind = FunctionType([ValType.I32], [ValType.I32])
        imports.add_function("visit", Function(kind, visit))
        async with VMPool(modules.visitor(), workers=1, imports=[imports]) as pool:
            rows = [(n,) for n in range(1000)]
            results = await pool.execute_many("visit", rows, return_errors=True)
            for n, result in enumerate(results):
                if n in (5, 333, 999):
                    assert isinstance(result, WorkerDied)
                else:
                    assert result == [n + 1]
            assert sorted(seen) == list(range(1000))
            assert pool.stats().restarts == {"died": 3}

    run(main())


def test_under_killing_each_call_returns_or_was_running(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            kills = 0

            async def kill() -> None:
                nonlocal kills
                while True:
                    await asyncio.sleep(0.1)
                    for pid in pool._pool.pids[:1]:
                        os.kill(pid, signal.SIGKILL)
                        kills += 1

            killing = asyncio.ensure_future(kill())
            deaths = 0
            while not deaths:  # how long the calls take depends on the machine
                results = await pool.execute_many("busy", [(100_000,)] * 5000, return_errors=True)
                died = [result for result in results if isinstance(result, WorkerDied)]
                assert len(died) + results.count([7]) == 5000
                deaths += len(died)
            killing.cancel()
            assert deaths <= kills

    run(main())


def test_a_host_function_may_end_one_of_many(run: Run[None]) -> None:
    async def main() -> None:
        imports = ImportObject("host")
        label: ContextVar[str] = ContextVar("label")
        label.set("mine")

        async def visit(data: object, memory: object, n: int) -> int:
            assert label.get() == "mine"
            await asyncio.sleep(0)
            if n == 1:
                raise Terminate
            if n == 2:
                raise ValueError("no two")
            return n

        kind = FunctionType([ValType.I32], [ValType.I32])
        imports.add_function("visit", Function(kind, visit))
        async with VMPool(modules.visitor(), workers=1, imports=[imports]) as pool:
            rows = [(n,) for n in range(4)]
            results = await pool.execute_many("visit", rows, return_errors=True)
            assert results[:2] == [[0], []]
            assert isinstance(results[2].__cause__, ValueError)
            assert results[3] == [3]

    run(main())


def test_closing_finishes_them_and_killing_does_not(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            many = asyncio.ensure_future(pool.execute_many("spin", [()] * 10))
            await asyncio.sleep(0.05)
            pool.kill()
            with pytest.raises(PoolClosed):
                await many

    run(main())


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)),
            st.just((1,)),
            st.just((1.5, 2)),
            st.just((2**64, 0)),
        ),
        max_size=300,
    )
)
def test_many_is_the_same_as_one_by_one(rows: list[tuple[object, ...]]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            results = await pool.execute_many("add", rows, return_errors=True)
            for row, result in zip(rows[:20], results, strict=False):
                one_by_one = await asyncio.gather(pool.execute("add", *row), return_exceptions=True)
                assert list(map(repr, one_by_one)) == [repr(result)]
            assert len(results) == len(rows)

    asyncio.run(main())


@given(st.binary(min_size=RESULTS, max_size=RESULTS), st.integers(0, 5000), st.booleans())
@settings(max_examples=50)
def test_whatever_a_worker_writes_into_its_page_gives_numbers_in_range(
    noise: bytes, count: int, begun: bool
) -> None:
    page = bytearray(noise) + bytes(SIZE - RESULTS)
    if begun:
        page[8 * BATCH : 8 * BATCH + 8] = (7).to_bytes(8, "little")
        page[8 * INDEX + 2 : 8 * INDEX + 8] = bytes(6)
    notes = read_batch(bytes(page), 7, count)
    if notes is not None:
        assert 0 <= notes.done <= count
        assert len(notes.data) == 8 * notes.done * len(notes.kinds)
    assert KINDS < RESULTS


# --- map ------------------------------------------------------------------------------------------


def test_map_gives_results_in_order(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            pairs = ((n, n) for n in range(300))
            assert [one async for one in pool.map("add", pairs)] == [[2 * n] for n in range(300)]
            assert [one async for one in pool.map("i64", range(3))] == [[0], [1], [2]]
            assert [one async for one in pool.map("i64", [])] == []

    run(main())


def test_map_gives_results_as_calls_end(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            while len(pool.stats().workers) < 2:
                await asyncio.sleep(0.01)
            sizes = [2_000_000_000, 1, 1, 1]
            calls = pool.map("busy", sizes, ordered=False)
            results = [await anext(calls) for _ in range(3)]
            assert results == [[7]] * 3
            assert pool.stats().running == 1
            assert [one async for one in calls] == [[7]]

    run(main())


def test_map_pulls_lazily_and_not_too_much(run: Run[None]) -> None:
    pulled = 0

    def numbers() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    async def main() -> None:
        async with VMPool(modules.calls(), workers=1, max_queue=0) as pool:
            results = pool.map("i64", numbers())
            assert pulled == 0
            async for [n] in results:
                assert pulled - n <= 16
                if n == 200:
                    break

    run(main())


def test_map_takes_an_asynchronous_source(run: Run[None]) -> None:
    pulled = 0

    async def numbers() -> AsyncIterator[int]:
        nonlocal pulled
        for n in range(100):
            # Scopes must be left in the task that entered them.
            with anyio.fail_after(5):
                await asyncio.sleep(0)
                pulled += 1
                yield n

    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            n = 0
            async for result in pool.map("i64", numbers()):
                assert result == [n]
                n += 1
                assert pulled - n <= 16
            assert n == 100

    run(main())


def test_the_first_error_ends_a_map_unless_errors_are_wanted(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            rows = [(6, 1), (6, 0), (6, 2)]
            results = pool.map("div", rows)
            assert await anext(results) == [6]
            with pytest.raises(Trap):
                await anext(results)
            with pytest.raises(StopAsyncIteration):
                await anext(results)
            everything = [one async for one in pool.map("div", rows, return_errors=True)]
            assert [type(one) for one in everything] == [list, Trap, list]

    run(main())


def test_what_the_source_raises_comes_after_the_results_before_it(run: Run[None]) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("the source is broken")

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("the source is broken")

    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            for source in (numbers(), broken()):
                results = pool.map("i64", source)
                assert await anext(results) == [1]
                with pytest.raises(ValueError, match="the source is broken"):
                    await anext(results)
            with pytest.raises(TypeError, match="needs an iterable"):
                pool.map("i64", 5)  # type: ignore[arg-type]

    run(main())


@pytest.mark.filterwarnings("error")
def test_leaving_a_map_early_stops_what_runs(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:

            async def first() -> list[int]:
                async for result in pool.map("busy", [1] + [2_000_000_000] * 100):
                    return list(result)
                raise AssertionError

            assert await first() == [7]
            gc.collect()
            while pool.stats().running or pool.stats().queued:
                await asyncio.sleep(0.005)
            results = pool.map("busy", [1] + [2_000_000_000] * 100)
            assert await anext(results) == [7]
            await results.aclose()
            assert pool.stats().running == pool.stats().queued == 0
            await results.aclose()

    run(main())


def test_cancelling_a_map_stops_what_runs(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            with anyio.move_on_after(0.1) as scope:
                async for _ in pool.map("busy", [2_000_000_000] * 10):
                    pass
            assert scope.cancelled_caught
            assert pool.stats().running == pool.stats().queued == 0

    run(main())


def test_host_functions_of_a_map_run_in_the_context_of_who_iterates(run: Run[None]) -> None:
    label: ContextVar[int] = ContextVar("label", default=0)

    async def visit(data: object, memory: object, n: int) -> int:
        return label.get() + n

    async def main() -> None:
        imports = ImportObject("host")
        kind = FunctionType([ValType.I32], [ValType.I32])
        imports.add_function("visit", Function(kind, visit))
        async with VMPool(modules.visitor(), workers=1, imports=[imports]) as pool:
            label.set(40)
            assert [one async for one in pool.map("visit", [1, 2])] == [[41], [42]]

    run(main())


def test_the_calls_of_a_map_leave_the_queue_to_others(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1, max_queue=2) as pool:
            results = pool.map("busy", [1000] * 40)
            assert await anext(results) == [7]
            assert pool.stats().queued > 2
            assert await pool.execute("add", 1, 2) == [3]
            await results.aclose()
            assert pool._pool.ledger.unbounded == 0

    run(main())
