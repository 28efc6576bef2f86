"""A WASI program that runs, shaped like `asyncio.subprocess.Process`."""

from __future__ import annotations

import asyncio
import signal
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from anyio import BrokenResourceError, CancelScope, create_task_group
from anyio.abc import AsyncResource

from wasmedge_async._stdio import Stdio
from wasmedge_async._streams import ReceiveStream, SendStream
from wasmedge_pool.errors import CallTimeout, PoolClosed, VMLost, WorkerDied
from wasmedge_pool.home import background
from wasmedge_runtime.errors import ErrCode, HostFunctionError, Trap, WasmEdgeError

__all__ = ["Process", "start"]

# As the command line exits: for a trap or a limit, and for what never ran.
_TRAPPED = 134
_NOT_RUN = 1


class Process(AsyncResource):
    """A WASI program, running in a worker process; `await vm.spawn(...)` gives it.

    ::

        async with await vm.spawn("program.wasm") as process:
            async for line in process.stdout.lines():
                print(line)
            code = await process.wait()

    Leaving the block kills what still runs, waits for its end and closes the streams. A process
    that is neither closed nor waited for, and forgotten, is killed too, with a `ResourceWarning`.

    `wait()` does not read: a program that fills a pipe which nobody reads waits for ever, and
    `wait()` with it. Read the streams first, or use `communicate()`.

    Attributes:
        stdin, stdout, stderr: the streams; None for those that are not pipes.
    """

    def __init__(
        self,
        outcome: asyncio.Future[int],
        terminate: Callable[[], object],
        kill: Callable[[], object],
        stdin: SendStream | None = None,
        stdout: ReceiveStream | None = None,
        stderr: ReceiveStream | None = None,
    ) -> None:
        """Take over a running program and its streams.

        Args:
            outcome: its exit code, or what it failed with; must become done after `kill`. An
                exception that nobody asks for is logged by the event loop, as for any future.
            terminate: interrupts the guest; may be called again.
            kill: ends the guest whatever it does; may be called again, and by a destructor.
        """
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._terminate = terminate
        self._kill = kill
        self._asked: signal.Signals | None = None  # what the program was last told to end by
        self._outcome = outcome

    def __repr__(self) -> str:
        # Not by `returncode`, which counts as having asked.
        return f"<wasmedge_async.Process {'ended' if self._outcome.done() else 'running'}>"

    def __del__(self) -> None:
        outcome = getattr(self, "_outcome", None)  # absent when the constructor raised
        if outcome is not None and not outcome.done() and self._asked is not signal.SIGKILL:
            if not outcome.get_loop().is_closed():
                self.kill()  # first: a warning may be an error
            message = f"unclosed {self!r}: use `async with` or `await process.wait()`"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=1)

    async def aclose(self) -> None:
        """Kill the program if it still runs, wait for its end, and close the streams. Idempotent.

        Never raises what the program failed with.
        """
        self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        # Bounded, because it was killed: a cancelled task leaves nothing running either.
        with CancelScope(shield=True):
            await self._end()

    @property
    def returncode(self) -> int | None:
        """How the program ended; None while it runs.

        Its exit code; -15 after `terminate()`, -9 after `kill()` or when its VM was closed; 134
        for a trap or a limit, the worker's exit code or negative signal where the worker died, and
        1 when the program could not be started. `wait()` raises the reason in the latter cases.
        """
        outcome = self._outcome
        if not outcome.done():
            return None
        if self._asked is not None and self._stopped():
            return -self._asked
        if outcome.cancelled():
            return -signal.SIGKILL
        error = outcome.exception()
        return outcome.result() if error is None else _code(error)

    async def wait(self) -> int:
        """Wait for the program's end, and return its `returncode`.

        Any number of tasks may wait; cancelling one does not end the program. See `Process` about
        pipes that nobody reads.

        Raises, each time:
            Trap: the program trapped.
            WorkerDied: the worker ended while it ran the program.
            CallTimeout: it ran longer than it was given.
            PoolClosed: its VM was closed.
            WasmEdgeError: what else ended it, or kept it from starting.
        """
        await self._end()
        if self._asked is not None and self._stopped():
            return -self._asked
        if self._outcome.cancelled():
            raise PoolClosed("the VM was closed while the program ran")
        return self._outcome.result()

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Send the input, close stdin, read stdout and stderr to their ends, and wait.

        All at once, so that neither side waits for the other, whatever the sizes. What is read
        stays in memory: for programs that you do not trust, read the streams and count.

        Does not raise what the program failed with, so that what it wrote before is not lost:
        look at `returncode`, or call `wait()`. A program that does not read all of the input is
        no error. When cancelled, the program goes on, and what was read stays in the streams.

        Returns:
            What came from stdout and from stderr; None for a stream that is not a pipe.

        Raises:
            ValueError: there is input, and stdin is no pipe.
            anyio.BusyResourceError: another task uses a stream.
            anyio.ClosedResourceError: a stream was closed, before or meanwhile.
        """
        if input is not None and self.stdin is None:
            raise ValueError("communicate(input=...) needs stdin=PIPE")
        errors: list[Exception] = []

        async def feed() -> None:
            if self.stdin is None:
                return
            try:
                if input:
                    await self.stdin.send(input)
            except BrokenResourceError:
                pass  # the program has ended, or wants no more
            self.stdin.close()

        # Errors are kept out of the group, so that they leave unwrapped.
        async def guard(operation: Callable[[], Awaitable[None]]) -> None:
            try:
                await operation()
            except Exception as error:
                errors.append(error)
                group.cancel_scope.cancel()

        outputs = (self.stdout, self.stderr)
        async with create_task_group() as group:
            group.start_soon(guard, feed)
            for stream in outputs:
                if stream is not None:
                    group.start_soon(guard, stream._fetch)
        if errors:
            raise errors[0]
        await self._end()
        stdout, stderr = (None if stream is None else stream._take_all() for stream in outputs)
        return stdout, stderr

    def terminate(self) -> None:
        """Ask the program to end: the guest is interrupted, and `wait()` returns -15.

        The worker and the VM stay. Does nothing after the program's end.
        """
        self._stop(signal.SIGTERM, self._terminate)

    def kill(self) -> None:
        """End the program, its worker too if need be: `wait()` returns -9.

        Does nothing after the program's end.
        """
        self._stop(signal.SIGKILL, self._kill)

    def _stop(self, asked: signal.Signals, stop: Callable[[], object]) -> None:
        if self._outcome.done():
            return
        if self._asked is None:
            # That it ends with an error is what was wanted.
            self._outcome.add_done_callback(_look_at)
        if self._asked is not signal.SIGKILL:
            self._asked = asked
        stop()

    def _stopped(self) -> bool:
        """Whether the program ended as one does that is told to."""
        return self._outcome.cancelled() or _is_stop(self._outcome.exception())

    def _when_ended(self, then: Callable[[], object]) -> None:
        """Have something called when the program has ended, however; by whoever lent the VM."""
        self._outcome.add_done_callback(lambda _: then())

    async def _end(self) -> None:
        """Wait until the outcome is known, without touching it."""
        if self._outcome.done():
            await asyncio.sleep(0)
        else:
            await asyncio.wait([self._outcome])


def _look_at(outcome: asyncio.Future[Any]) -> None:
    if not outcome.cancelled():
        outcome.exception()


def _is_stop(error: BaseException | None) -> bool:
    if isinstance(error, CallTimeout):
        return False
    return isinstance(error, (WorkerDied, VMLost, PoolClosed)) or (
        isinstance(error, WasmEdgeError) and error.code is ErrCode.Interrupted
    )


def _code(error: BaseException) -> int:
    if isinstance(error, WorkerDied):
        # A worker that exits with 0 has not run its program to the end.
        return -error.signal if error.signal is not None else error.exit_code or _TRAPPED
    if isinstance(error, PoolClosed):
        return -signal.SIGKILL
    return _TRAPPED if isinstance(error, (Trap, HostFunctionError, CallTimeout)) else _NOT_RUN


def start(
    running: Coroutine[Any, Any, list[Any]], stdio: Stdio, kill: Callable[[str], object]
) -> Process:
    """The process of a program whose request has been made.

    Args:
        running: awaits its answer, with the exit code.
        stdio: its streams.
        kill: ends its worker.
    """

    async def exit_code() -> int:
        (code,) = await running
        return int(code)

    # A task: somebody has to run its host functions. Cancelling it interrupts the guest, when it
    # has begun: not before the loop's next turn, or there would be nobody to pass that on.
    loop = asyncio.get_running_loop()
    outcome = background(exit_code())
    return Process(
        outcome,
        partial(loop.call_soon, outcome.cancel),
        partial(kill, "its program was killed"),
        stdio.stdin,
        stdio.stdout,
        stdio.stderr,
    )
