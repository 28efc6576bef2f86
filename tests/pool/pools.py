"""Pools of fake workers, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from tests.pool.fake_worker import FAKE
from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.calls import PoolCall
from wasmedge_pool.messages import Call
from wasmedge_pool.pool import WorkerPool
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.sizing import Limits
from wasmedge_pool.values import microseconds, to_wire


def make(
    size: int | Limits = 2, target: str = FAKE, max_queue: int | None = None, **kwargs: Any
) -> WorkerPool:
    limits = size if isinstance(size, Limits) else Limits(size, size)
    backend = partial(WorkerProcess, target)
    return WorkerPool(lambda: b"module", limits, None, backend, max_queue=max_queue, **kwargs)


@asynccontextmanager
async def opened(size: int | Limits = 2, **kwargs: Any) -> AsyncIterator[WorkerPool]:
    """A pool all of whose workers are ready."""
    pool = make(size, **kwargs)
    pool.begin()
    try:
        while len(pool.pids) < pool.limits.minimum:
            await asyncio.sleep(0.005)
        yield pool
    finally:
        await pool.close()


def call(
    pool: WorkerPool,
    function: str,
    *args: object,
    timeout: float | None = None,
    queue_timeout: float | None = None,
) -> Coroutine[Any, Any, list[Any]]:
    message = Call(0, VM_NAME, None, function, to_wire(args), microseconds(timeout))
    return pool.call(PoolCall(message, function, timeout, queue_timeout))


async def call_entered(pool: WorkerPool, function: str, *args: object) -> list[Any]:
    return await call(pool, function, *args)


def start(pool: WorkerPool, function: str, *args: object) -> asyncio.Task[list[Any]]:
    return asyncio.ensure_future(call_entered(pool, function, *args))


async def until(condition: Any) -> None:
    """Wait until something is so; the test's own time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.005)
