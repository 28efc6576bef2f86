"""Results of many calls as they come: what `VMPool.map` returns."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import Any, Self

import anyio

from wasmedge_pool.errors import PoolClosed

__all__ = ["Results"]


class _Flow:
    """The calls that are under way, and what has come of them.

    Apart from `Results`, because tasks refer to it: a `Results` that nobody has any more is
    noticed although its calls still run.
    """

    def __init__(
        self,
        call: Callable[[tuple[Any, ...]], Coroutine[Any, Any, Any]],
        source: Iterable[Any] | AsyncIterable[Any],
        ordered: bool,
        limit: int,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ended = False  # the source has
        self.error: BaseException | None = None  # what the source raised
        self.running: set[asyncio.Task[Any]] = set()
        self._call = call
        self._source = source
        self._ordered = ordered
        self._limit = limit
        self._tasks: deque[asyncio.Task[Any]] = deque()  # in their order; or as they were done
        self._count = 0  # of tasks whose results have not been taken
        self._changed: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Get ready to pull; called by the task that iterates."""
        self.loop = asyncio.get_running_loop()
        if isinstance(self._source, AsyncIterable):
            self._pump = self.loop.create_task(self._pull(self._source))
            self._pump.add_done_callback(self._pumped)
        else:
            self._iterator = iter(self._source)

    def pull(self) -> None:
        """Start as many calls as there is room for."""
        if self._pump is not None:
            if self._room is not None and self._count < self._limit and not self._room.done():
                self._room.set_result(None)
            return
        while not self.ended and self._count < self._limit:
            try:
                item = next(self._iterator)
            except StopIteration:
                self.ended = True
            except Exception as error:
                self.ended = True
                self.error = error
            else:
                self._start(item)

    async def _pull(self, source: AsyncIterable[Any]) -> None:
        """Pull from an asynchronous source: one task, so that the source stays in one."""
        async for item in source:
            self._start(item)
            while self._count >= self._limit:
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    def _pumped(self, pump: asyncio.Task[None]) -> None:
        self.ended = True
        if not pump.cancelled():
            self.error = pump.exception()
        self._change()

    def _start(self, item: Any) -> None:
        assert self.loop is not None
        arguments = item if type(item) is tuple else (item,)
        task = self.loop.create_task(self._call(arguments))
        self._count += 1
        self.running.add(task)
        task.add_done_callback(self._done)
        if self._ordered:
            self._tasks.append(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may ask for it any more
        if not self._ordered:
            self._tasks.append(task)
        self._change()

    def _change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def next(self) -> asyncio.Task[Any] | None:
        """Wait for the next task that is done; None after the last."""
        assert self.loop is not None
        while True:
            self.pull()
            if self._tasks and self._tasks[0].done():
                self._count -= 1
                task = self._tasks.popleft()
                self.pull()
                return task
            if self.ended and not self._count:
                return None
            self._changed = self.loop.create_future()
            await self._changed

    def cancel(self) -> None:
        """Stop pulling, and cancel what runs."""
        self.ended = True
        self._count = 0
        self._tasks.clear()
        if self._pump is not None:
            self._pump.cancel()
        for task in self.running:
            task.cancel()

    async def stopped(self) -> None:
        """Wait until nothing runs any more."""
        pending = [*self.running] if self._pump is None else [*self.running, self._pump]
        if pending:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(pending)


class Results:
    """The results of `VMPool.map`; an asynchronous iterator, for one task.

    Leaving the loop early is safe: when nobody has it any more, what still runs is cancelled.
    ``await results.aclose()`` does that at once, and waits until the guests have stopped.
    """

    def __init__(
        self,
        call: Callable[[tuple[Any, ...]], Coroutine[Any, Any, Any]],
        source: Iterable[Any] | AsyncIterable[Any],
        ordered: bool,
        return_errors: bool,
        limit: int,
    ) -> None:
        if not isinstance(source, Iterable | AsyncIterable):
            raise TypeError(f"map needs an iterable or an async iterable, not {source!r}")
        self._flow = _Flow(call, source, ordered, limit)
        self._return_errors = return_errors
        self._closed = False
        self._busy = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        if self._busy:
            raise RuntimeError("another task is waiting for the next result of this map")
        flow = self._flow
        self._busy = True
        try:
            if flow.loop is None:
                flow.begin()
            task = await flow.next()
            if task is None:
                self._closed = True
                if flow.error is not None:
                    raise flow.error
                raise StopAsyncIteration
            if task.cancelled():
                # Somebody cancelled all tasks of the loop, this one will be next.
                raise PoolClosed("a call of this map was cancelled from outside")
            error = task.exception()
            if error is None:
                return task.result()
            if self._return_errors and isinstance(error, Exception):
                return error
            raise error
        except BaseException:
            # As a generator is finished by what it raises.
            await self.aclose()
            raise
        finally:
            self._busy = False

    async def aclose(self) -> None:
        """Cancel what still runs, and wait until it has stopped. Idempotent."""
        self._closed = True
        if self._flow.loop is not None:
            self._flow.cancel()
            await self._flow.stopped()

    def __del__(self) -> None:
        flow = getattr(self, "_flow", None)  # absent when the constructor raised
        if flow is not None and flow.loop is not None and (flow.running or not flow.ended):
            # The garbage collector may run in any thread. A loop that is closed runs nothing.
            with contextlib.suppress(RuntimeError):
                flow.loop.call_soon_threadsafe(flow.cancel)
