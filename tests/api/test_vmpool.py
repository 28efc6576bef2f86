"""The pool with real modules."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.api import modules
from tests.loops import Run
from wasmedge_async import (
    CallTimeout,
    Configure,
    ErrCode,
    LoadError,
    PoolClosed,
    Proposal,
    Trap,
    ValidationError,
    VMPool,
    WasmEdgeError,
    WorkerDied,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def fib(n: int) -> int:
    a, b = 1, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def test_a_thousand_concurrent_calls_come_back_right(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.fibonacci(), workers=2) as pool:
            results = await asyncio.gather(*[pool.execute("fib", n % 20) for n in range(1000)])
            assert results == [[fib(n % 20)] for n in range(1000)]

    run(main())


def test_a_pool_from_a_file_reads_it_once(run: Run[None], tmp_path: Path) -> None:
    """A worker that is started later has the same module, whatever has become of the file."""
    path = tmp_path / "calls.wasm"
    path.write_bytes(modules.calls())

    async def main() -> None:
        async with VMPool(path, workers=1) as pool:
            path.unlink()
            call = asyncio.ensure_future(pool.execute("spin"))
            await asyncio.sleep(0.05)
            os.kill(pool._pool.pids[0], signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await call
            assert await pool.execute("add", 1, 2) == [3]

    run(main())


def test_every_call_sees_a_fresh_instance(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            assert [await pool.execute("count") for _ in range(5)] == [[1]] * 5
            await pool.execute("store", 8, 77)
            assert await pool.execute("load", 8) == [0]
            with pytest.raises(CallTimeout):
                await pool.execute("spin_after_count", timeout=0.05)
            assert await pool.execute("count") == [1]

    run(main())


def test_errors_fail_their_own_call_only(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            results = await asyncio.gather(
                *[pool.execute("div", 10, n % 3) for n in range(60)], return_exceptions=True
            )
            for n, result in enumerate(results):
                if n % 3:
                    assert result == [10 // (n % 3)]
                else:
                    assert isinstance(result, Trap)
                    assert result.kind is ErrCode.DivideByZero
            with pytest.raises(WasmEdgeError) as caught:
                await pool.execute("nothing")
            assert caught.value.code is ErrCode.FuncNotFound

    run(main())


def test_a_deadline_in_one_worker_delays_nobody(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            spinning = asyncio.ensure_future(pool.execute("spin", timeout=1.0))
            results = await asyncio.gather(*[pool.execute("add", n, 1) for n in range(100)])
            assert results == [[n + 1] for n in range(100)]
            assert not spinning.done()
            with pytest.raises(CallTimeout):
                await spinning

    run(main())


def test_cancelled_scopes_stop_the_guests(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            with anyio.move_on_after(0.1) as scope:
                async with anyio.create_task_group() as tasks:
                    for _ in range(10):
                        tasks.start_soon(pool.execute, "spin")
            assert scope.cancelled_caught
            assert await pool.execute("add", 1, 2) == [3]

    run(main())


def test_a_killed_worker_fails_its_call_and_the_others_complete(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            calls = [asyncio.ensure_future(pool.execute("busy", 300_000_000)) for _ in range(6)]
            await asyncio.sleep(0.05)
            os.kill(pool._pool.pids[0], signal.SIGKILL)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(result, WorkerDied) for result in results) == 1
            assert results.count([7]) == 5

    run(main())


def test_a_bad_module_is_refused_when_the_pool_opens(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        for module, error in (
            (b"no module", LoadError),
            (tmp_path / "nothing.wasm", LoadError),
            (str(tmp_path), LoadError),
            (modules.importer(), WasmEdgeError),
        ):
            with pytest.raises(error):
                async with VMPool(module, workers=2):
                    pass
        config = Configure()
        config.remove_config(Proposal.SIMD)
        with pytest.raises((LoadError, ValidationError)):
            async with VMPool(modules.calls(), workers=1, config=config):
                pass

    run(main())


def test_opening_a_pool_can_be_cancelled(run: Run[None]) -> None:
    async def main() -> None:
        pool = VMPool(modules.endless_start(), workers=2)
        with anyio.move_on_after(0.5) as scope:
            await pool.__aenter__()
        assert scope.cancelled_caught
        assert not pool._pool._crew._living
        with pytest.raises(PoolClosed):
            await pool.__aenter__()

    run(main())


def test_leaving_the_block_finishes_what_was_accepted(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            calls = [asyncio.ensure_future(pool.execute("busy", 10_000_000)) for _ in range(6)]
            await asyncio.sleep(0)
        assert [call.result() for call in calls] == [[7]] * 6
        with pytest.raises(PoolClosed):
            await pool.execute("empty")

    run(main())


def test_kill_ends_what_runs(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=1) as pool:
            calls = [asyncio.ensure_future(pool.execute("spin")) for _ in range(3)]
            await asyncio.sleep(0.05)
            pool.kill()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {PoolClosed}

    run(main())


def test_a_forgotten_pool_is_reported_and_its_workers_ended(run: Run[None]) -> None:
    async def main() -> None:
        pool = VMPool(modules.fibonacci(), workers=1)
        assert await pool.execute("fib", 10) == [89]
        [pid] = pool._pool.pids
        forgotten = [pool]
        del pool
        with pytest.warns(ResourceWarning, match="unclosed <wasmedge_async.VMPool"):
            forgotten.clear()
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.005)

    run(main())


def test_a_pool_has_a_worker_for_each_processor_by_default() -> None:
    processors = len(os.sched_getaffinity(0))
    assert VMPool(b"")._pool.limits[:2] == (processors, processors)
    with pytest.raises(ValueError, match="at least 1 worker"):
        VMPool(b"", workers=0)


def test_the_main_example_prints_fibonacci_numbers(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "fibonacci.py")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"fib({n}) = {fib(n)}" for n in (0, 1, 5, 10, 15, 20, 21, 25, 30, 32)
    ]
