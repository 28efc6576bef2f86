"""The load test: calls through a pool from many tasks while its workers are killed.

`make load` runs it in full: 200,000 calls from 500 tasks through 2 workers, one of which is killed
every second. Checked, and printed:

* every call returns its right result or raises `WorkerDied`, and the sums agree;
* each `WorkerDied` is the call that was running when its worker was killed: the worker is stopped,
  the number of the call it is running is noted, and then it is killed;
* nothing runs twice: the workers keep a journal of the calls that they begin, outside of the
  pool's own bookkeeping;
* memory, descriptors and processes are as before.
"""

from __future__ import annotations

import array
import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.wat import wat
from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.calls import PoolCall
from wasmedge_pool.errors import WorkerDied
from wasmedge_pool.messages import Call
from wasmedge_pool.pool import WorkerPool
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.sizing import Limits

_JOURNAL = "WASMEDGE_LOAD_JOURNAL"

# Takes some 100 microseconds, so that kills hit calls that run.
_MODULE = """
(module
  (memory 1)
  (func (export "work") (param $n i32) (result i32) (local $k i32)
    (local.set $k (i32.const 200000))
    (loop $again
      (i32.store (i32.const 0) (local.get $k))  ;; or LLVM finds out that nothing happens
      (br_if $again (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
    (i32.add (i32.mul (local.get $n) (i32.const 3)) (i32.load (i32.const 0)))))
"""


def _right(n: int) -> int:
    return n * 3 + 1


def worker(data: int, control: socket.socket, page: int | None) -> None:
    """The program of a worker: the real one, with a journal of the calls that begin."""
    # Here, because the parent never loads the engine.
    from wasmedge_pool.worker import Worker
    from wasmedge_pool.worker.fresh import make_vm

    journal = os.open(os.environ[_JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def make_journaled(*args: Any) -> Any:
        vm: Any = make_vm(*args)
        execute = vm.execute

        def journaled(function: str, n: int) -> Any:
            os.write(journal, n.to_bytes(4, sys.byteorder))
            return execute(function, n)

        vm.execute = journaled
        return vm

    Worker(socket.socket(fileno=data), control, page, make_journaled).serve()
    os._exit(0)


# What became of a call.
_UNANSWERED, _RETURNED, _DIED = range(3)


class Report(NamedTuple):
    """What was counted."""

    calls: int
    returned: int
    died: int
    kills: int
    seconds: float
    descriptors: tuple[int, int]
    """Before and after, with the pool open."""
    resident: tuple[int, int]
    """Bytes of the parent, before and after."""


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def load(calls: int, tasks: int, workers: int, every: float) -> Report:
    """Run it.

    Args:
        calls: how many, in all.
        tasks: from how many tasks.
        workers: through how many workers.
        every: seconds between kills.

    Raises:
        AssertionError: something is not as it should be.
    """
    with tempfile.NamedTemporaryFile() as file:
        os.environ[_JOURNAL] = file.name
        try:
            report, outcomes = await _load(calls, tasks, workers, every)
        finally:
            del os.environ[_JOURNAL]
        begun = Counter(array.array("i", Path(file.name).read_bytes()))
    for n, outcome in enumerate(outcomes):
        times = begun.pop(n, 0)
        assert times <= 1, f"call {n} ran {times} times"
        assert times == 1 or outcome == _DIED, f"call {n} has returned and never ran"
    assert not begun, f"calls ran that nobody made: {begun}"
    return report


async def _load(calls: int, tasks: int, workers: int, every: float) -> tuple[Report, bytearray]:
    module = wat(_MODULE)
    limits = Limits(workers, workers)
    pool = WorkerPool(lambda: module, limits, None, partial(WorkerProcess, "tests.load:worker"))
    running: dict[int, int] = {}  # by process: the number of the call that it ran when killed
    outcomes = bytearray(calls)  # not in sets, which would take the memory that is measured
    died: dict[int, tuple[int, int]] = {}  # by call: process and the call's number there
    numbers = iter(range(calls))
    total = 0

    async def all_ready() -> None:
        while len(pool.pids) < workers:
            await asyncio.sleep(0.01)

    async def kill() -> None:
        turn = 0
        while True:
            await asyncio.sleep(every)
            ready = pool._crew.ready
            if not ready:
                continue
            turn += 1
            mailbox = ready[turn % len(ready)].mailbox
            os.kill(mailbox.pid, signal.SIGSTOP)
            while not _stopped(mailbox.pid):
                await asyncio.sleep(0)
            running[mailbox.pid] = mailbox._backend.running() or 0
            os.kill(mailbox.pid, signal.SIGKILL)

    async def work() -> None:
        nonlocal total
        for n in numbers:
            request = PoolCall(Call(0, VM_NAME, None, "work", (n,), None), "work")
            try:
                [result] = await pool.call(request)
            except WorkerDied as error:
                died[n] = error.pid, request.number
                outcomes[n] = _DIED
            else:
                assert result == _right(n), f"call {n} returned {result}"
                outcomes[n] = _RETURNED
                total += result

    pool.begin()
    await pool.wait_ready()
    await all_ready()
    before = len(os.listdir("/proc/self/fd")), _resident()
    begin = time.monotonic()
    killing = asyncio.create_task(kill())
    await asyncio.gather(*[work() for _ in range(tasks)])
    seconds = time.monotonic() - begin
    killing.cancel()
    await asyncio.wait([killing])
    # A worker that was killed last may not have ended yet, let alone its successor begun.
    while running.keys() & {mailbox.pid for mailbox in pool._crew._living}:
        await asyncio.sleep(0.01)
    await all_ready()
    after = len(os.listdir("/proc/self/fd")), _resident()
    pids = pool.pids
    await pool.close()

    assert outcomes.count(_UNANSWERED) == 0
    assert outcomes.count(_DIED) == len(died)
    assert total == sum(_right(n) for n in range(calls) if n not in died)
    for n, (pid, number) in died.items():
        assert running.get(pid) == number, f"call {n} died and was not running"
    assert len(set(died.values())) == len(died), "a worker ran one call at a time"
    assert not any(os.path.exists(f"/proc/{pid}") for pid in (*running, *pids))
    report = Report(
        calls,
        outcomes.count(_RETURNED),
        len(died),
        len(running),
        seconds,
        (before[0], after[0]),
        (before[1], after[1]),
    )
    return report, outcomes


def main() -> None:
    """Run the load test in full, and print what was counted."""
    report = asyncio.run(load(calls=200_000, tasks=500, workers=2, every=1.0))
    mebibytes = [size / 2**20 for size in report.resident]
    print(
        f"{report.calls:,} calls in {report.seconds:.1f} s, {report.kills} workers killed\n"
        f"  {report.returned:,} returned their right result\n"
        f"  {report.died:,} raised WorkerDied, each running when its worker was killed\n"
        "  none ran twice, by the workers' own journal\n"
        f"descriptors: {report.descriptors[0]} before, {report.descriptors[1]} after\n"
        f"resident memory: {mebibytes[0]:.1f} MiB before, {mebibytes[1]:.1f} MiB after"
    )
    if report.descriptors[0] != report.descriptors[1] or mebibytes[1] - mebibytes[0] > 8:
        sys.exit("memory or descriptors have grown")


if __name__ == "__main__":
    main()
