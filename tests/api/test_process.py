"""The process object: how programs end, and what becomes of those that are forgotten.

The program is a process of Python here, which stands for the worker that runs a guest.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.loops import Run
from wasmedge_async import (
    CallTimeout,
    ErrCode,
    HostFunctionError,
    LoadError,
    PoolClosed,
    Trap,
    VMLost,
    WasmEdgeError,
    WorkerDied,
)
from wasmedge_async._process import Process
from wasmedge_async._stdio import Stdio

ECHO = "import sys, shutil\nshutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
FOREVER = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER


class Worker:
    """What stands behind a `Process`: `asked` is how it was told to end."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self.asked: list[str] = []
        self.outcome = asyncio.get_running_loop().create_future()

    def terminate(self) -> None:
        self.asked.append("terminate")
        self.child.terminate()

    def kill(self) -> None:
        self.asked.append("kill")
        self.child.kill()

    async def watch(self) -> None:
        code = await asyncio.to_thread(self.child.wait)
        if code == -signal.SIGTERM:
            self.outcome.set_exception(Trap(ErrCode.Interrupted))
        elif code < 0:
            self.outcome.set_exception(WorkerDied(self.child.pid, None, -code))
        else:
            self.outcome.set_result(code)


@asynccontextmanager
async def spawned(program: str, **streams: Any) -> AsyncIterator[tuple[Process, Worker]]:
    stdio = await Stdio.open(**streams)
    stdin, stdout, stderr = stdio.child
    command = [sys.executable, "-c", program]
    worker = Worker(subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr))
    stdio.close_child()
    watcher = asyncio.create_task(worker.watch())
    process = Process(
        worker.outcome, worker.terminate, worker.kill, stdio.stdin, stdio.stdout, stdio.stderr
    )
    try:
        yield process, worker
    finally:
        worker.child.kill()
        await watcher
        stdio.close()


def ended(error: BaseException | None = None, code: int = 0) -> Process:
    """A process without streams that has ended."""
    return _with_outcome(error, code)[0]


def _with_outcome(
    error: BaseException | None = None, code: int = 0
) -> tuple[Process, asyncio.Future[int]]:
    process, outcome = running()
    if error is None:
        outcome.set_result(code)
    else:
        outcome.set_exception(error)
    return process, outcome


def running(
    terminate: Any = lambda: None, kill: Any = lambda: None
) -> tuple[Process, asyncio.Future[int]]:
    outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    return Process(outcome, terminate, kill), outcome


# --- Ends ---------------------------------------------------------------------------------------


def test_wait_returns_the_exit_code_to_every_task(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned("import sys; sys.exit(int(sys.stdin.read()))") as (process, worker):
            assert process.returncode is None
            waits = [asyncio.create_task(process.wait()) for _ in range(3)]
            assert process.stdin is not None
            await process.stdin.send(b"7")
            await process.stdin.aclose()
            assert await asyncio.gather(*waits) == [7, 7, 7]
            assert process.returncode == 7
            assert await process.wait() == 7
            process.terminate()
            process.kill()
            assert worker.asked == []
            assert process.returncode == 7

    run(main())


def test_cancelling_wait_does_not_end_the_program(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(ECHO) as (process, worker):
            with anyio.move_on_after(0.02) as scope:
                await process.wait()
            assert scope.cancelled_caught
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.02)
            assert await process.communicate(b"alive") == (b"alive", b"")
            assert await process.wait() == 0
            assert worker.asked == []

    run(main())


def test_terminate_and_kill_give_negative_signals(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(FOREVER) as (process, _):
            process.terminate()
            assert await process.wait() == -15
            assert process.returncode == -15
        async with spawned(FOREVER) as (process, _):
            process.kill()
            assert await process.wait() == -9
            assert process.returncode == -9

    run(main())


def test_kill_ends_what_terminate_does_not(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(STUBBORN) as (process, worker):
            assert process.stdout is not None
            assert await anext(process.stdout.lines()) == "begun"
            process.terminate()
            with anyio.move_on_after(0.05):
                await process.wait()
            assert process.returncode is None
            process.kill()
            process.terminate()  # is too late to change how it ends
            assert await process.wait() == -9
            assert worker.asked == ["terminate", "kill", "terminate"]

    run(main())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Trap(ErrCode.Unreachable), 134),
        (HostFunctionError(), 134),
        (CallTimeout(), 134),
        (WorkerDied(1, None, 11), -11),
        (WorkerDied(1, 3, None), 3),
        (WorkerDied(1, 0, None), 134),
        (LoadError(ErrCode.MalformedMagic), 1),
        (VMLost("lost"), 1),
        (OSError("no such file"), 1),
        (PoolClosed("closed"), -9),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_a_failure_is_raised_every_time_and_has_a_code(
    run: Run[None], error: Exception, code: int
) -> None:
    async def main() -> None:
        process = ended(error)
        assert process.returncode == code
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                await process.wait()
            assert caught.value is error

    run(main())


@pytest.mark.parametrize("error", [Trap(ErrCode.Unreachable), CallTimeout()], ids=["trap", "time"])
def test_a_failure_of_its_own_is_no_termination(run: Run[None], error: WasmEdgeError) -> None:
    async def main() -> None:
        process, outcome = running()
        process.terminate()
        outcome.set_exception(error)
        with pytest.raises(type(error)):
            await process.wait()
        assert process.returncode == 134

    run(main())


def test_a_program_may_end_by_itself_although_it_was_told_to(run: Run[None]) -> None:
    async def main() -> None:
        process, outcome = running()
        process.kill()
        outcome.set_result(3)
        assert await process.wait() == 3

    run(main())


def test_a_cancelled_outcome_is_a_closed_vm(run: Run[None]) -> None:
    async def main() -> None:
        process, outcome = running()
        outcome.cancel()
        with pytest.raises(PoolClosed):
            await process.wait()
        assert process.returncode == -9

        process, outcome = running()
        process.terminate()
        outcome.cancel()
        assert await process.wait() == -15

    run(main())


# --- Closing ------------------------------------------------------------------------------------


def test_leaving_the_block_kills_waits_and_closes(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(FOREVER) as (process, worker):
            async with process as entered:
                assert entered is process
                assert process.stdout is not None
                assert await anext(process.stdout.lines()) == "begun"
            assert worker.child.poll() == -9
            assert await process.wait() == -9
            with pytest.raises(anyio.ClosedResourceError):
                await process.stdout.receive()
            await process.aclose()

    run(main())


def test_leaving_the_block_after_the_end_changes_nothing(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned("raise SystemExit(4)") as (process, worker):
            async with process:
                assert await process.wait() == 4
            assert process.returncode == 4
            assert worker.asked == []

    run(main())


def test_closing_waits_for_the_end_although_its_task_is_cancelled(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(FOREVER) as (process, worker):
            with anyio.CancelScope() as scope:
                async with process:
                    scope.cancel()
                    await anyio.sleep(60)
            assert scope.cancelled_caught
            assert worker.child.poll() == -9
            assert process.returncode == -9

    run(main())


def test_a_deadline_around_reading_ends_the_program(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned("while True: print('more')") as (process, _):
            lines = 0
            with anyio.move_on_after(0.1) as scope:
                async with process:
                    assert process.stdout is not None
                    async for _ in process.stdout.lines():
                        lines += 1
            assert scope.cancelled_caught
            assert lines > 0
            assert process.returncode == -9

    run(main())


def test_closing_never_raises_what_the_program_failed_with(run: Run[None]) -> None:
    async def main() -> None:
        process = ended(Trap(ErrCode.Unreachable))
        async with process:
            pass
        assert process.returncode == 134

    run(main())


# --- What is forgotten --------------------------------------------------------------------------


def test_a_forgotten_program_is_killed_with_a_warning(run: Run[None]) -> None:
    async def main() -> None:
        killed: list[int] = []
        process, outcome = running(kill=lambda: killed.append(1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del process
            gc.collect()
        assert [warning.category for warning in caught] == [ResourceWarning]
        assert "unclosed <wasmedge_async.Process running>" in str(caught[0].message)
        assert killed == [1]
        outcome.set_exception(WorkerDied(1, None, 9))

    run(main())


def test_a_program_that_has_ended_may_be_forgotten(run: Run[None]) -> None:
    async def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            process = ended(code=1)
            del process
            process, outcome = running()
            process.kill()
            del process
            gc.collect()
            outcome.cancel()

    run(main())


def test_a_failure_that_nobody_looked_at_is_logged(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (process := ended(Trap(ErrCode.Unreachable))):
            repr(process)
        assert (await process.communicate()) == (None, None)
        del process
        gc.collect()

    run(main())
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "never retrieved" in caplog.text
    assert "unreachable" in caplog.text


def test_a_failure_that_was_seen_or_asked_for_is_not_logged(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        process = ended(Trap(ErrCode.Unreachable))
        assert process.returncode == 134
        del process
        for stop in (Process.terminate, Process.kill):
            process, outcome = running()
            stop(process)
            outcome.set_exception(Trap(ErrCode.Interrupted))
            await process.aclose()
            del process, outcome
        gc.collect()

    run(main())
    assert caplog.records == []


# --- communicate --------------------------------------------------------------------------------


def test_communicate_moves_any_amount_both_ways(run: Run[None]) -> None:
    async def main() -> None:
        program = (
            "import os, sys\n"
            "while data := os.read(0, 65536):\n"
            "    sys.stdout.buffer.write(data); sys.stderr.buffer.write(data[:1000])\n"
        )
        async with spawned(program) as (process, _):
            data = os.urandom(3_000_000)
            stdout, stderr = await process.communicate(data)
            assert stdout == data
            assert stderr is not None
            assert len(stderr) >= 45 * 1000
            assert process.returncode == 0
            assert await process.communicate() == (b"", b"")

    run(main())


def test_communicate_without_input_closes_stdin(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(ECHO, stderr=None) as (process, _):
            assert await process.communicate() == (b"", None)
        async with spawned(ECHO, stdin=b"content", stderr=subprocess.DEVNULL) as (process, _):
            assert await process.communicate() == (b"content", None)
            with pytest.raises(ValueError, match="stdin=PIPE"):
                await process.communicate(b"input")
        async with spawned(ECHO) as (process, _):
            assert process.stdin is not None
            await process.stdin.send(b"sent before")
            await process.stdin.aclose()
            assert await process.communicate() == (b"sent before", b"")

    run(main())


def test_communicate_goes_on_when_the_input_is_not_read(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned("print('done')") as (process, _):
            assert await process.communicate(bytes(10_000_000)) == (b"done\n", b"")
            assert process.returncode == 0

    run(main())


def test_communicate_gives_what_a_failed_program_wrote(run: Run[None]) -> None:
    async def main() -> None:
        program = "import os\nos.write(2, b'panic!')\nos.kill(os.getpid(), 9)"
        async with spawned(program) as (process, _):
            assert await process.communicate() == (b"", b"panic!")
            with pytest.raises(WorkerDied, match="SIGKILL"):
                await process.wait()
            assert process.returncode == -signal.SIGKILL

    run(main())


def test_a_cancelled_communicate_loses_nothing(run: Run[None]) -> None:
    async def main() -> None:
        program = "import os, time\nos.write(1, b'first '); os.close(1)\ntime.sleep(0.5)"
        async with spawned(program) as (process, _):
            with anyio.move_on_after(0.3) as scope:
                await process.communicate()
            assert scope.cancelled_caught
            assert process.returncode is None
            assert await process.communicate() == (b"first ", b"")

    run(main())


def test_communicate_raises_unwrapped_when_a_stream_is_closed_meanwhile(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(FOREVER) as (process, _):
            talk = asyncio.create_task(process.communicate())
            await asyncio.sleep(0.02)
            await process.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await talk

    run(main())


def test_communicate_raises_unwrapped_when_another_task_reads(run: Run[None]) -> None:
    async def main() -> None:
        async with spawned(FOREVER) as (process, _):
            assert process.stderr is not None
            reader = asyncio.create_task(process.stderr.receive())
            await asyncio.sleep(0)
            with pytest.raises(anyio.BusyResourceError):
                await process.communicate()
            assert process.stdout is not None
            assert await anext(process.stdout.lines()) == "begun"
            reader.cancel()

    run(main())


def test_many_programs_at_once(run: Run[None]) -> None:
    async def main() -> None:
        async def one(number: int) -> None:
            async with spawned(ECHO) as (process, _):
                data = b"%d\n" % number * 50_000
                assert await process.communicate(data) == (data, b"")

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, number)

    run(main())
