"""A WASI program that is talked to while it runs: it thinks of a number, and this one guesses it.

Run it with `python examples/interactive.py`. The program is `guests/guess.wasm`, whose text is
beside it. What it answers decides what it is asked next, so nothing can be sent in advance.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from wasmedge_async import VM

GUESS = Path(__file__).with_name("guests") / "guess.wasm"


async def play(vm: VM) -> int:
    """Play one game by halving; returns how many guesses it took."""
    # Leaving the block ends the program, whatever has happened.
    async with await vm.spawn(GUESS) as process:
        assert process.stdin is not None  # all streams are pipes unless you say otherwise
        assert process.stdout is not None
        answers = process.stdout.lines()
        print(await anext(answers))
        least, most, count = 1, 100, 0
        answer = ""
        while answer != "right":
            guess = (least + most) // 2
            await process.stdin.send(f"{guess}\n".encode())
            answer = await asyncio.wait_for(anext(answers), timeout=10)
            print(f"{guess}: {answer}")
            least, most = (guess + 1, most) if answer == "higher" else (least, guess - 1)
            count += 1
        print(f"exit code {await process.wait()}")
    return count


async def main() -> None:
    async with VM() as vm:
        print(f"found in {await play(vm)} guesses")


if __name__ == "__main__":
    asyncio.run(main())
