"""The event loop stays free for others, whatever the workers do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.loops import Run
from tests.wat import wat
from wasmedge_async import VM, VMPool

# Processor time that one turn of the loop may take. Counted in the loop's own thread, so that other
# programs on the machine do not show.
TURN_SECONDS = 0.010
# Real time: what a call into the system may hold the loop up, on a machine that is busy.
WALL_SECONDS = 0.5

LARGE_FUNCTIONS = 4000
LARGE = wat(
    '(module (memory (export "memory") 512) (func (export "empty"))'
    + "".join(
        f"""
        (func (export "f{n}") (param i32 i32) (result i32)
          (local i32)
          (loop
            (local.set 2 (i32.add (local.get 2) (i32.mul (local.get 0) (i32.const {n}))))
            (i32.store offset={4 * n} (local.get 1) (local.get 2))
            (br_if 0 (i32.gt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0))))
          (local.get 2))"""
        for n in range(LARGE_FUNCTIONS)
    )
    + ")"
)


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Run a block beside a task that looks how long each turn of the loop takes."""
    longest = [0.0, 0.0]

    async def look() -> None:
        last = time.thread_time(), time.monotonic()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time(), time.monotonic()
            for position in (0, 1):
                longest[position] = max(longest[position], now[position] - last[position])
            last = now

    watcher = asyncio.create_task(look())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(0)
    finally:
        watcher.cancel()
    assert longest[0] < TURN_SECONDS
    assert longest[1] < WALL_SECONDS


def test_the_loop_stays_free_while_a_large_module_is_loaded_and_compiled(run: Run[None]) -> None:
    async def main() -> None:
        async with watched(), VM() as vm:
            await vm.load_wasm_buffer(LARGE)
            await vm.validate()
            await vm.instantiate()
            await asyncio.gather(*[vm.execute(f"f{n}", 1, 0) for n in range(0, 4000, 40)])

    run(main())


def test_the_loop_stays_free_while_a_pool_starts(run: Run[None]) -> None:
    async def main() -> None:
        async with watched(), VMPool(LARGE, workers=2) as pool:
            assert await pool.execute("f7", 1, 0) == [7]

    run(main())


def test_the_loop_stays_free_while_megabytes_travel(run: Run[None]) -> None:
    data = bytes(range(256)) * (1 << 16)

    async def main() -> None:
        async with VM() as vm:
            await vm.load_wasm_buffer(LARGE)
            await vm.validate()
            await vm.instantiate()
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            async with watched():
                await memory.set_data(data, 0)
                back = await memory.get_data(0, len(data))
            assert back == data

    run(main())
