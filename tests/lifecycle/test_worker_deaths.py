"""Every way in which a worker dies: one call fails and says how, the others complete.

With real workers, where a guest can do it or a signal from outside; what only native code or a
hostile worker does is done by the worker of `tests.pool.fake_worker`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.api import modules
from tests.api.test_vm import pid_of, ready
from tests.loops import Run
from tests.pool.pools import call, opened, start
from tests.wat import wat
from wasmedge_async import CallTimeout, Trap, VMLost, VMPool, WorkerDied
from wasmedge_pool import mailbox

# Writes one byte to each page of as much memory as it is told.
TOUCH = """
(module
  (memory (export "memory") 1 16384)
  (func (export "touch") (param $pages i32) (result i32)
    (local $at i32)
    (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (return (i32.const -1))))
    (loop $next
      (i32.store8 (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $next (i32.lt_u (local.get $at) (i32.shl (local.get $pages) (i32.const 16)))))
    (i32.const 1)))
"""


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGTERM],
    ids=lambda number: number.name,
)
def test_one_call_fails_with_the_signal_and_the_rest_complete(
    run: Run[None], number: signal.Signals
) -> None:
    async def main() -> None:
        async with VMPool(modules.calls(), workers=2) as pool:
            while len(pool._pool.pids) < 2:
                await asyncio.sleep(0.005)
            before = set(pool._pool.pids)
            spinning = [asyncio.ensure_future(pool.execute("spin")) for _ in range(2)]
            behind = [asyncio.ensure_future(pool.execute("add", n, 1)) for n in range(200)]
            await asyncio.sleep(0.05)
            victim = pool._pool.pids[0]
            os.kill(victim, number)
            done, _ = await asyncio.wait(spinning, return_when=asyncio.FIRST_COMPLETED, timeout=10)
            [died] = done
            error = died.exception()
            assert isinstance(error, WorkerDied)
            assert (error.pid, error.exit_code, error.signal) == (victim, None, number)
            assert number.name in str(error)
            assert await asyncio.gather(*behind) == [[n + 1] for n in range(200)]
            while len(pool._pool.pids) < 2:
                await asyncio.sleep(0.005)
            assert victim not in pool._pool.pids
            assert len(before & set(pool._pool.pids)) == 1
            for task in spinning:
                task.cancel()
            await asyncio.wait(spinning)

    run(main())


def test_a_guest_that_may_not_have_more_memory_goes_on(run: Run[None]) -> None:
    """As much as the system lets its process have; the worker is as usable as before."""

    async def main() -> None:
        async with ready(wat(TOUCH)) as vm:
            assert await vm.execute("touch", 16) == [1]
            pid = pid_of(vm)
            used = int(Path(f"/proc/{pid}/statm").read_text().split()[5]) * os.sysconf(
                "SC_PAGESIZE"
            )
            resource.prlimit(pid, resource.RLIMIT_DATA, (used + 2**20, -1))
            try:
                refused: Any = await vm.execute("touch", 8192)
            except Trap as trap:
                refused = trap
            resource.prlimit(pid, resource.RLIMIT_DATA, (-1, -1))
            assert refused == [-1] or isinstance(refused, Trap)
            assert await vm.execute("touch", 1) == [1]
            assert pid_of(vm) == pid

    run(main())


def test_a_worker_that_runs_out_of_memory_is_replaced(run: Run[None]) -> None:
    """The interpreter itself gets no more: an error, or a death that says how, and the next works.

    The limit stands for the kernel's killer, whose signal is tried above.
    """

    async def main() -> None:
        async with opened() as pool:
            for pid in pool.pids:
                resource.prlimit(pid, resource.RLIMIT_AS, (2**20, -1))
            hungry = [start(pool, "eat", 2**30) for _ in range(2)]
            results = await asyncio.gather(*hungry, return_exceptions=True)
            for result in results:
                assert isinstance(result, MemoryError | WorkerDied)
                if isinstance(result, WorkerDied):
                    assert (result.exit_code, result.signal) != (None, None)
            for pid in pool.pids:
                resource.prlimit(pid, resource.RLIMIT_AS, (-1, -1))
            assert await call(pool, "echo", 1) == [1]

    run(main())


@pytest.mark.parametrize(
    ("function", "args", "exit_code", "number"),
    [
        ("exit", (7,), 7, None),
        ("exit", (0,), 0, None),
        ("raise_system_exit", (), 3, None),
        ("segfault", (), None, signal.SIGSEGV),
        ("abort", (), None, signal.SIGABRT),
    ],
)
def test_a_worker_that_ends_itself_fails_its_call_only(
    run: Run[None],
    function: str,
    args: tuple[int, ...],
    exit_code: int | None,
    number: int | None,
) -> None:
    async def main() -> None:
        async with opened() as pool:
            before = [start(pool, "echo", n) for n in range(100)]
            dying = start(pool, function, *args)
            behind = [start(pool, "echo", n) for n in range(100)]
            with pytest.raises(WorkerDied) as caught:
                await dying
            assert (caught.value.exit_code, caught.value.signal) == (exit_code, number)
            assert caught.value.pid
            assert await asyncio.gather(*before, *behind) == [[n] for n in range(100)] * 2

    run(main())


@pytest.mark.parametrize("way", ["cancelled", "timeout"])
@pytest.mark.parametrize("function", ["hang", "stop"])
def test_a_worker_that_hangs_is_killed_for_its_call_only(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, function: str, way: str
) -> None:
    """In native code with the interpreter's lock, or stopped by a signal: no watchdog runs."""
    monkeypatch.setattr(mailbox, "GRACE_SECONDS", 0.2)

    async def main() -> None:
        async with opened() as pool:
            pids = set(pool.pids)
            hanging = asyncio.ensure_future(
                call(pool, function) if way == "cancelled" else call(pool, function, timeout=0.1)
            )
            other = start(pool, "sleep", 600)
            quick = [start(pool, "echo", n) for n in range(100)]
            await asyncio.sleep(0.1)
            if way == "cancelled":
                hanging.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await hanging
            else:
                with pytest.raises(CallTimeout):
                    await hanging
            assert await asyncio.gather(*quick) == [[n] for n in range(100)]
            assert await other == []
            while len(pool.pids) < 2:
                await asyncio.sleep(0.005)
            assert len(pids - set(pool.pids)) == 1

    run(main())


@pytest.mark.parametrize("function", ["nonsense", "nonsense_in_control"])
def test_a_worker_of_a_pool_that_sends_nonsense_is_replaced(run: Run[None], function: str) -> None:
    async def main() -> None:
        async with opened() as pool:
            pids = set(pool.pids)
            liar = start(pool, function)
            others = [start(pool, "echo", n) for n in range(100)]
            with pytest.raises(WorkerDied, match="broke the protocol") as caught:
                await liar
            assert caught.value.pid in pids
            assert caught.value.signal == signal.SIGKILL
            assert await asyncio.gather(*others) == [[n] for n in range(100)]

    run(main())


def test_a_vm_is_lost_with_its_worker_and_another_is_not(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as one, ready() as other:
            assert await other.execute("count") == [1]
            spinning = asyncio.ensure_future(one.execute("spin"))
            behind = asyncio.ensure_future(one.execute("add", 1, 2))
            await asyncio.sleep(0.05)
            os.kill(pid_of(one), signal.SIGSEGV)
            with pytest.raises(WorkerDied, match="SIGSEGV"):
                await spinning
            with pytest.raises(VMLost):
                await behind
            assert await other.execute("count") == [2]

    run(main())
