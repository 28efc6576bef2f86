"""The pool: one module in several worker processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.compilation import Compilation
from wasmedge_pool.messages import Call
from wasmedge_pool.pool import WorkerPool
from wasmedge_pool.request import Request
from wasmedge_pool.values import microseconds, to_wire
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, LoadError
from wasmedge_runtime.tiers.status import CodeStatus

__all__ = ["VMPool"]


class VMPool:
    """Worker processes that run the functions of one module, for any number of tasks.

    ::

        async with VMPool("fibonacci.wasm", workers=4) as pool:
            [n] = await pool.execute("fib", 30)

    Every call sees a fresh instance: memory, tables and globals as the module says. A worker that
    ends fails the call it ran with `WorkerDied` and is replaced; no call runs twice.

    Args:
        module: a file, or the module's bytes. A file is read once, when the pool starts.
        workers: the number of processes; one for each processor this process may use when None.
        config: options; copied.
        progress: called in the event loop with a `CodeStatus`, now and then while the module is
            being compiled, and when that is done. What it raises is logged.

    Raises:
        ValueError: `workers` is less than 1.
    """

    def __init__(
        self,
        module: str | os.PathLike[str] | bytes | bytearray | memoryview,
        workers: int | None = None,
        config: Configure | None = None,
        progress: Callable[[CodeStatus], object] | None = None,
    ) -> None:
        if isinstance(module, bytes | bytearray | memoryview):
            read = partial(bytes, bytes(module))
        else:
            read = partial(_read, os.path.abspath(os.fspath(module)))
        size = _processors() if workers is None else workers
        self._compilation = Compilation(config, progress)
        self._pool = WorkerPool(
            read, size, config, self._compilation.make_worker, self._compilation
        )

    async def __aenter__(self) -> Self:
        self._pool.begin()
        try:
            await self._pool.wait_ready()
        except BaseException:
            self._pool.kill()
            await self._pool.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Refuse new calls, wait for those that were made, and end the workers.

        Idempotent, from any task. When it is cancelled, it ends everything at once.
        """
        await self._pool.close()

    def kill(self) -> None:
        """End the workers at once: calls that wait or run raise `PoolClosed`. Does not wait."""
        self._pool.kill()

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)  # absent when the constructor raised
        if pool is None:
            return
        was_open = pool.open
        message = f"unclosed {self!r}: use `async with` or `await pool.close()`"
        pool.forget()  # first: a warning may be an error
        if was_open:
            warnings.warn(message, ResourceWarning, source=self, stacklevel=1)

    @property
    def code_status(self) -> CodeStatus | None:
        """How far the module has been compiled, for all workers; None before that is known, and
        with `CompilationMode.BASELINE`, where each worker compiles what it calls."""
        return self._compilation.status

    def __repr__(self) -> str:
        return f"<wasmedge_async.VMPool workers={self._pool.size} pids={self._pool.pids}>"

    async def execute(self, func: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Call an exported function on a fresh instance, in whichever worker is free.

        Calls begin in the order in which they were made. Arguments, results, `timeout` and what
        is raised are those of `VM.execute`, and besides:

        Raises:
            WorkerDied: the worker ended during the call, or none could be started.
            PoolClosed: the pool was closed.
        """
        message = Call(0, VM_NAME, None, func, to_wire(args), microseconds(timeout))
        return await self._pool.call(Request(message, None, timeout))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise LoadError(ErrCode.IllegalPath, f"invalid path: {path!r}") from error
    except OSError as error:
        raise LoadError(ErrCode.ReadError, f"read error: {error}") from error
