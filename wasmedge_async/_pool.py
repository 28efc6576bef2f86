"""The pool: one module in several worker processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wasmedge_async._map import Results
from wasmedge_async._process import Process
from wasmedge_async._program import Environment, Preopens, Program
from wasmedge_async._stdio import PIPE, Stream
from wasmedge_async._vm import VM
from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.batch import Many
from wasmedge_pool.calls import PoolCall
from wasmedge_pool.compilation import Compilation
from wasmedge_pool.home import background
from wasmedge_pool.imports import ImportObject
from wasmedge_pool.messages import Broadcast, Call
from wasmedge_pool.pool import WorkerPool
from wasmedge_pool.sizing import Limits
from wasmedge_pool.stats import CallRecord, PoolStats
from wasmedge_pool.tenant import Tenant
from wasmedge_pool.values import microseconds
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, LoadError
from wasmedge_runtime.tiers.status import CodeStatus

__all__ = ["VMPool"]

# How many items `map` is ahead of whoever takes its results, for each worker.
_MAP_AHEAD = 16


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
        min_workers: instead of `workers`: how many there always are, 1 when None.
        max_workers: instead of `workers`: how many there may be while calls wait; one for each
            processor, or `min_workers` if that is more, when None.
        idle: seconds after which a worker above `min_workers` that has nothing to do ends.
        max_calls: a worker that has answered about as many calls is replaced. Its successor is
            started first; until that is ready it goes on.
        max_rss: the same for a worker that holds more bytes of memory; looked at between calls,
            ten times a second at most.
        imports: host modules for the module's imports. Each worker, actor and acquired VM has its
            own copy of their tables, memories and globals, as they are now; the functions are
            those given.
        actor_idle: seconds after which the VM of an `actor` that is asked for nothing ends; it
            begins anew when it is used again. Never when None.
        max_queue: how many calls may wait for a worker; one more raises `PoolFull`. Calls wait
            without a limit when None. 0 means that a call runs at once or is refused.
        on_call: called in the event loop with a `CallRecord` after each call, for metrics. It
            should take microseconds; what it raises is logged.

    Raises:
        ValueError: an argument is out of its range, or `workers` comes with `min_workers` or
            `max_workers`.
    """

    def __init__(
        self,
        module: str | os.PathLike[str] | bytes | bytearray | memoryview,
        workers: int | None = None,
        config: Configure | None = None,
        progress: Callable[[CodeStatus], object] | None = None,
        *,
        imports: Iterable[ImportObject] = (),
        min_workers: int | None = None,
        max_workers: int | None = None,
        idle: float = 60.0,
        max_calls: int | None = None,
        max_rss: int | None = None,
        max_queue: int | None = None,
        actor_idle: float | None = None,
        on_call: Callable[[CallRecord], object] | None = None,
    ) -> None:
        if isinstance(module, bytes | bytearray | memoryview):
            read = partial(bytes, bytes(module))
        else:
            read = partial(_read, os.path.abspath(os.fspath(module)))
        self._compilation = Compilation(config, progress)
        self._pool = WorkerPool(
            read,
            Limits(*_sizes(workers, min_workers, max_workers), idle, max_calls, max_rss),
            config,
            self._compilation.make_worker,
            imports=imports,
            actor_idle=actor_idle,
            max_queue=max_queue,
            on_call=on_call,
            compilation=self._compilation,
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
        return f"<wasmedge_async.VMPool pids={self._pool.pids}>"

    def stats(self) -> PoolStats:
        """Return what the pool has done so far, and what it is doing. Takes microseconds."""
        return self._pool.stats()

    async def execute(
        self,
        func: str,
        *args: Any,
        timeout: float | None = None,
        queue_timeout: float | None = None,
    ) -> list[Any]:
        """Call an exported function on a fresh instance, in whichever worker is free.

        Calls begin in the order in which they were made. Arguments, results, `timeout` and what
        is raised are those of `VM.execute`, and besides:

        Args:
            queue_timeout: seconds, 0 or more, that the call may wait until it begins in a worker.

        Raises:
            CallTimeout: also when it did not begin within `queue_timeout`; the message says so.
            PoolFull: `max_queue` calls are waiting already.
            WorkerDied: the worker ended during the call, or none could be started.
            PoolClosed: the pool was closed.
        """
        pool = self._pool
        wire, references = pool.to_wire(args)
        message = Call(0, VM_NAME, None, func, wire, microseconds(timeout))
        if queue_timeout is not None and not queue_timeout >= 0:
            raise ValueError(f"queue_timeout must be 0 or more seconds, not {queue_timeout!r}")
        call = PoolCall(message, func, timeout, queue_timeout, pool.hosts, references)
        return await pool.call(call)

    async def execute_many(
        self,
        func: str,
        arguments: Iterable[Sequence[Any]],
        *,
        timeout: float | None = None,
        return_errors: bool = False,
    ) -> list[Any]:
        """Call a function once for each tuple of arguments; a million calls a second.

        Each call sees a fresh instance, and ends by itself: when a worker dies, only the call
        that it was running fails with `WorkerDied`; none runs twice. They run on all workers, and
        neither in order nor within `max_queue`.

        Args:
            func: the export's name.
            arguments: a tuple or list for each call, as the arguments of `execute`.
            timeout: seconds of running time for each call.
            return_errors: put the exceptions of calls that fail in the places of their results.

        Returns:
            What `execute` returns, for each call, in their order.

        Raises:
            Exception: without `return_errors`, what the first call in order that failed raised;
                calls that had not begun are left out then.
            TypeError: something in `arguments` is no tuple or list.
            PoolClosed: the pool was closed.
        """
        rows = list(arguments)
        for row in rows:
            if not isinstance(row, tuple | list):
                raise TypeError(
                    f"execute_many needs a tuple of arguments for each call, not {row!r}; "
                    "for one argument write (value,)"
                )
        self._pool.begin()
        return await Many(self._pool, func, rows, timeout, return_errors).run()

    def map(
        self,
        func: str,
        arguments: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        timeout: float | None = None,
        return_errors: bool = False,
    ) -> Results:
        """Call a function for each item, and give the results as they come::

            async for [n] in pool.map("fib", range(35)):
                ...

        The items are pulled as there is room: some for each worker are under way or wait to be
        taken. An iterable is pulled in the event loop, so it must not block; an asynchronous one
        in a task of its own. `break` is safe: what still runs is cancelled.

        Args:
            func: the export's name.
            arguments: an iterable or asynchronous iterable; a tuple is several arguments.
            ordered: whether results come in the order of the items, or as calls end.
            timeout: seconds of running time for each call.
            return_errors: give the exceptions of calls that fail, instead of raising the first.

        Returns:
            An asynchronous iterator of what `execute` returns.
        """
        pool = self._pool
        micros = microseconds(timeout)

        async def call(args: tuple[Any, ...]) -> list[Any]:
            wire, references = pool.to_wire(args)
            message = Call(0, VM_NAME, None, func, wire, micros)
            return await pool.call(
                PoolCall(message, func, timeout, None, pool.hosts, references), bounded=False
            )

        limit = _MAP_AHEAD * pool.limits.maximum
        return Results(call, arguments, ordered, return_errors, limit)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[VM]:
        """Have a worker, and a VM with the module in it, for the time of a block::

            async with pool.acquire() as vm:
                await vm.execute("store", 0, 1)

        The VM keeps its state from call to call, and ends with the block. It waits for its turn
        like a call; during the block the worker takes no other calls.

        Raises:
            WorkerDied: no worker could be started.
            PoolClosed: the pool is closed.
        """
        tenant = await self._pool.claim()
        try:
            yield _TenantVM(tenant)
        finally:
            await self._pool.release(tenant)

    async def spawn(
        self,
        program: Program,
        args: Iterable[str] | None = None,
        env: Environment = (),
        preopens: Preopens = (),
        stdin: Stream = PIPE,
        stdout: Stream = PIPE,
        stderr: Stream = PIPE,
        *,
        allow_sockets: Iterable[str] = (),
    ) -> Process:
        """Start a WASI program in a worker, to talk to it while it runs, as `VM.spawn`.

        It waits for its turn like a call; until it ends the worker takes no calls, and closing the
        pool waits for it. Arguments and what is raised are those of `VM.spawn`, and besides:

        Raises:
            WorkerDied: no worker could be started.
            PoolClosed: the pool is closed.
        """
        pool = self._pool
        tenant = await pool.claim()
        try:
            vm = _TenantVM(tenant)
            process = await vm.spawn(
                *(program, args, env, preopens, stdin, stdout, stderr), allow_sockets=allow_sockets
            )
        except BaseException:
            await pool.release(tenant)
            raise
        process._when_ended(lambda: background(pool.release(tenant)))
        return process

    def actor(self, key: Hashable) -> VM:
        """Return the VM of a key: the same key reaches the same VM, with its state.

        It is made, with the module, when it is first used, in a worker that it shares with others
        and with calls. When the worker ends, it raises `VMLost` until `await actor.restart()`.
        ``await actor.close()`` ends it; the key then stands for a new one.
        """
        return _TenantVM(self._pool.actor(key))

    async def broadcast(self, func: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Call a function once in every worker, and let all later calls of the pool find the
        instance as it leaves it, also in workers that are started later.

        It waits for its turn in each worker; calls that were made before may begin after it. It
        holds in every worker or in none: when it fails in one, the others go back.

        Returns:
            A list of results, as of `execute`, for each worker.

        Raises:
            Exception: what it raised in a worker, as `execute`.
        """
        wire, references = self._pool.to_wire(args)
        message = Broadcast(0, VM_NAME, func, wire, microseconds(timeout))
        return await self._pool.broadcast(message, timeout, references)


class _TenantVM(VM):
    """A VM that belongs to its pool: nobody need close it."""

    def __init__(self, tenant: Tenant) -> None:
        self._actor = tenant

    def __del__(self) -> None:
        pass


def _sizes(
    workers: int | None, min_workers: int | None, max_workers: int | None
) -> tuple[int, int]:
    """The least and the most workers that the arguments ask for."""
    if workers is not None:
        if min_workers is not None or max_workers is not None:
            raise ValueError("give either workers, or min_workers and max_workers")
        return workers, workers
    if min_workers is None and max_workers is None:
        return _processors(), _processors()
    least = 1 if min_workers is None else min_workers
    return least, max(least, _processors()) if max_workers is None else max_workers


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
