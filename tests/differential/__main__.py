"""Tries seeds beyond those of the tests: `python -m tests.differential [COUNT] [FIRST]`.

COUNT is how many seeds (3,000 by default), FIRST the first one (300). Seeds whose outcomes differ
are printed, with the difference; exit code 1 when there was one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

PROCESSES = 2
BATCH = 50  # seeds per process: a crash of the engine is found within one batch


def run_batch(first: int, count: int) -> bool:
    """Compare some seeds in this process; whether all agree."""
    from tests.differential import peer
    from tests.differential.compare import compare
    from tests.differential.smith import make_plan

    agreed = True
    for seed in range(first, first + count):
        print(f"seed {seed}", file=sys.stderr, flush=True)  # the last one is where it crashed
        plan = make_plan(seed)
        for difference in compare(plan, peer.run(plan)):
            agreed = False
            print(f"seed {seed}, {difference}", flush=True)
    return agreed


def run_apart(first: int, count: int) -> bool:
    """Compare some seeds in a process of their own; whether all agree."""
    command = [sys.executable, "-m", "tests.differential", "--batch", str(count), str(first)]
    with tempfile.TemporaryDirectory() as cache:  # these modules are never seen again
        environment = {**os.environ, "WASMEDGE_CACHE_DIR": cache}
        child = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
    print(child.stdout, end="", flush=True)
    if child.returncode not in (0, 1):
        print(f"exit code {child.returncode}: {child.stderr.strip()[-2000:]}", flush=True)
    return child.returncode == 0


def main(arguments: list[str]) -> int:
    """Run all batches and give the exit code."""
    if arguments[:1] == ["--batch"]:
        return 0 if run_batch(int(arguments[2]), int(arguments[1])) else 1
    count = int(arguments[0]) if arguments else 3000
    first = int(arguments[1]) if len(arguments) > 1 else 300
    starts = range(first, first + count, BATCH)
    with ThreadPoolExecutor(PROCESSES) as pool:
        agreed = list(
            pool.map(lambda start: run_apart(start, min(BATCH, first + count - start)), starts)
        )
    print(f"{count} seeds from {first}: {'all agree' if all(agreed) else 'differences, see above'}")
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
