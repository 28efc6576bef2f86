"""Many inputs through one function of a guest, on all processors.

Run it with `python examples/batch.py`. The guest is `guests/collatz.wasm`, whose text is beside it:
how many steps the Collatz problem takes from a number to 1. It never ends for 0, and traps below.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from wasmedge_async import VMPool

COLLATZ = Path(__file__).with_name("guests") / "collatz.wasm"


async def all_at_once(pool: VMPool) -> None:
    """Many small calls whose results are wanted together: few messages carry them."""
    numbers = range(1, 20_001)
    results = await pool.execute_many("steps", [(n,) for n in numbers])
    steps = [count for [count] in results]
    longest = max(steps)
    print(f"{len(steps)} numbers; {numbers[steps.index(longest)]} takes most steps, {longest}")


async def with_errors(pool: VMPool) -> None:
    """Inputs that nobody has checked: an error is a result like others, for its input alone."""
    numbers = [27, -1, 97, 0, 871]
    results = pool.map("steps", numbers, timeout=1.0, return_errors=True)
    for number in numbers:
        result = await anext(results)
        if isinstance(result, Exception):
            print(f"{number}: {type(result).__name__}: {result}")
        else:
            print(f"{number}: {result[0]} steps")


async def with_progress(pool: VMPool) -> None:
    """Results in the order in which they come; inputs are taken as there is room for them."""
    done = 0
    numbers = (2**k - 1 for k in range(1, 31))  # a generator: never all at once in memory
    async for _ in pool.map("steps", numbers, ordered=False):
        done += 1
        if done % 10 == 0:
            print(f"{done} done")


async def main() -> None:
    async with VMPool(COLLATZ) as pool:  # a worker for each processor
        await all_at_once(pool)
        await with_errors(pool)
        await with_progress(pool)


if __name__ == "__main__":
    asyncio.run(main())
