"""Many calls at once through a pool: calls per second, processors, and clean instances."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor

from benchmarks import build
from benchmarks.measure import AwaitedRun, interleave_awaited, repeat_awaited
from benchmarks.peers import ThreadedWasmtime, executor, identity
from benchmarks.report import duration
from benchmarks.rows import Figures, Row
from tests.wat import wat
from wasmedge_async import CompilationMode, Configure, VMPool

TASKS = 1_000
CALLS = 20  # by each task, in each run
SLOW_CALLS = 3  # the same where a call takes a multiple of that
ROUNDS = 7
MANY = 100_000  # in one `execute_many`
CHUNK = 1_000  # calls in one message, for an executor
FIBONACCI, COMPUTATIONS = 27, 300  # a millisecond each

IDENTITY = '(module (func (export "identity") (param i32) (result i32) (local.get 0)))'
# 1 MiB of memory, of which one page is written, and an export that finds it clean.
TOUCH = """(module (memory (export "memory") 16)
  (func (export "touch") (param i32) (result i32)
    (if (i32.load (i32.const 500000)) (then unreachable))
    (i32.store (i32.const 500000) (i32.const 1))
    (local.get 0)))"""

CALLS_AIM = 120_000  # per second
MANY_AIM = 1_000_000
SPEED_UP_AIM = 1.85


def pool(module: bytes, workers: int) -> VMPool:
    """A pool whose first call waits until all code is optimised: none is compiled meanwhile."""
    configuration = Configure()
    configuration.compilation_mode = CompilationMode.OPTIMIZED
    return VMPool(module, workers, configuration)


async def full(opened: VMPool, workers: int) -> None:
    """Wait until all workers take calls."""
    while len(opened.stats().workers) < workers:
        await asyncio.sleep(0.01)


def rate(seconds: float, aim: int) -> str:
    """Calls per second, as text."""
    return f"{round(1 / seconds, -3):,.0f} calls/s (aim ≥ {aim:,}/s)"


async def calls(loop: str) -> Figures:
    """A call of a thousand that are in flight, beside the same with others; times are per call."""
    module = wat(IDENTITY)
    threaded = ThreadedWasmtime(module)
    running = asyncio.get_running_loop()
    with executor(2) as processes:
        async with pool(module, 2) as ours:
            await full(ours, 2)
            quick: dict[str, AwaitedRun] = {
                "ours": lambda: ours.execute("identity", 1),
                "deadlines": lambda: ours.execute("identity", 1, timeout=1.0),
            }
            slow: dict[str, AwaitedRun] = {
                "wasmtime in threads": lambda: asyncio.to_thread(threaded.call, "identity", 1),
                "an executor": lambda: running.run_in_executor(processes, identity, 1),
            }
            runs = {name: repeat_awaited(call, CALLS, TASKS) for name, call in quick.items()}
            runs |= {name: repeat_awaited(call, SLOW_CALLS, TASKS) for name, call in slow.items()}
            for run in runs.values():
                await run()
            times = await interleave_awaited(runs, ROUNDS)
    each = {name: times[name] / TASKS / CALLS for name in quick}
    each |= {name: times[name] / TASKS / SLOW_CALLS for name in slow}
    rows = [Row(f"{loop}: 1,000 in flight, beside {p}", each["ours"], each[p], p) for p in slow]
    name = f"{loop}: 1,000 in flight, with deadlines"
    rows.append(Row(name, each["deadlines"], each["ours"], "without"))
    return Figures(
        rows,
        {
            f"{loop}: 1,000 in flight": rate(each["ours"], CALLS_AIM),
            name: rate(each["deadlines"], CALLS_AIM),
        },
    )


async def many(loop: str) -> Figures:
    """A call of `execute_many`, beside one of an executor's `map`; times are per call."""
    arguments = [(number,) for number in range(MANY)]
    with executor(2) as processes:
        async with pool(wat(IDENTITY), 2) as ours:
            await full(ours, 2)

            async def run() -> None:
                results = await ours.execute_many("identity", arguments)
                if results[-1] != [MANY - 1]:
                    raise AssertionError(f"the last result is {results[-1]}")

            runs: dict[str, AwaitedRun] = {
                "ours": run,
                "theirs": lambda: asyncio.to_thread(_map, processes),
            }
            for each in runs.values():
                await each()
            times = await interleave_awaited(runs, ROUNDS)
    name = f"{loop}: execute_many"
    row = Row(name, times["ours"] / MANY, times["theirs"] / MANY, "an executor's map")
    return Figures([row], {name: rate(row.ours, MANY_AIM)})


def _map(processes: ProcessPoolExecutor) -> None:
    results = list(processes.map(identity, range(MANY), chunksize=CHUNK))
    if results[-1] != MANY - 1:
        raise AssertionError(f"the last result is {results[-1]}")


async def speed_up() -> Figures:
    """Calls that compute, on two workers beside one."""
    module = wat((build.KERNELS / "fib.wat").read_text())

    async def run(one: VMPool) -> None:
        await asyncio.gather(*(one.execute("run", FIBONACCI) for _ in range(COMPUTATIONS)))

    async with pool(module, 1) as one, pool(module, 2) as two:
        await full(two, 2)
        runs: dict[str, AwaitedRun] = {"one": lambda: run(one), "two": lambda: run(two)}
        for each in runs.values():
            await each()
        times = await interleave_awaited(runs, ROUNDS)
    name = f"{COMPUTATIONS} times fib({FIBONACCI}), two workers"
    aim = round(1 / SPEED_UP_AIM, 3)
    row = Row(name, times["two"], times["one"], "one worker", aim)
    faster = f"{1 / row.ratio:.2f} times one worker (aim ≥ {SPEED_UP_AIM:g})"
    return Figures([row], {name: faster})


async def clean_instances() -> Figures:
    """A call that writes a page of 1 MiB, which the worker then makes clean again, beside one that
    has nothing to clean; times are per call of `execute_many`, in one worker."""
    arguments = [(number,) for number in range(MANY // 2)]

    async def run(one: VMPool, function: str) -> None:
        await one.execute_many(function, arguments)

    async with pool(wat(TOUCH), 1) as touching, pool(wat(IDENTITY), 1) as empty:
        runs: dict[str, AwaitedRun] = {
            "clean": lambda: run(touching, "touch"),
            "empty": lambda: run(empty, "identity"),
        }
        for each in runs.values():
            await each()
        times = await interleave_awaited(runs, ROUNDS)
    name = "a call that dirties a page of 1 MiB"
    clean, empty_ = (times[each] / len(arguments) for each in ("clean", "empty"))
    row = Row(name, clean, empty_, "nothing to clean")
    return Figures(
        [row], {"cleaning 1 MiB with a dirty page": f"{duration(clean - empty_)} a call"}
    )
