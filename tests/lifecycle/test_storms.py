"""Many cancellations, openings and closings at random moments; nothing is left, nothing is harmed.

Seeds are fixed, the moments are not: each run tries others.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
from pathlib import Path

from tests.api import modules
from tests.loops import Run
from wasmedge_async import VM, CallTimeout, VMPool


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def resident() -> int:
    """Bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def use(module: bytes, chance: random.Random) -> None:
    async with VM() as vm:
        await vm.load_wasm_buffer(module)
        await vm.validate()
        await vm.instantiate()
        calls = [asyncio.ensure_future(vm.execute("spin")) for _ in range(2)]
        await vm.execute("add", 1, 2)
        chance.choice(calls).cancel()
        await asyncio.gather(*calls)


def test_opening_and_closing_with_cancellations_at_random_leaves_nothing(run: Run[None]) -> None:
    module = modules.calls()
    chance = random.Random(5)

    async def cycles(count: int) -> None:
        async def one() -> None:
            task = asyncio.ensure_future(use(module, chance))
            # From before the process exists until the calls run.
            await asyncio.sleep(chance.random() ** 2 * 0.25)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        for _ in range(count // 4):
            await asyncio.gather(*[one() for _ in range(4)])

    async def main() -> None:
        await cycles(20)
        before = descriptors(), resident(), children()
        await cycles(80)
        assert descriptors() == before[0]
        assert children() == before[2]
        assert resident() - before[1] < 4 * 2**20

    run(main())


def test_a_storm_of_cancellations_and_deadlines_in_a_pool(run: Run[None]) -> None:
    """500 tasks; every fourth task's guest loops for ever, until it is cancelled or out of time."""
    chance = random.Random(7)
    counts = {"result": 0, "timeout": 0, "cancelled": 0}

    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            while len(pool._pool.pids) < 2:
                await asyncio.sleep(0.005)
            pids = pool._pool.pids

            async def right(n: int) -> None:
                for k in range(3):
                    assert await pool.execute("add", n, k) == [n + k]
                    counts["result"] += 1

            async def late() -> None:
                try:
                    await pool.execute("spin", timeout=chance.random() * 0.005)
                except CallTimeout:
                    counts["timeout"] += 1

            async def cancelled() -> None:
                try:
                    await asyncio.wait_for(pool.execute("spin"), chance.random() * 0.2)
                except TimeoutError:
                    counts["cancelled"] += 1

            kinds = {6: late, 7: cancelled}
            async with asyncio.timeout(60):
                await asyncio.gather(
                    *[kinds[n % 8]() if n % 8 in kinds else right(n) for n in range(500)]
                )
            assert pool._pool.pids == pids  # no guest had to be killed
            assert counts == {"result": 376 * 3, "timeout": 62, "cancelled": 62}

    run(main())
