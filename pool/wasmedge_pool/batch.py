"""Many calls of one function in few messages.

The calls are cut into chunks. A chunk is a request like a call: it waits in the pool's queue, is
sent ahead, called back, and given to whichever worker is free. A worker runs a chunk for some
milliseconds at most; what is left of it goes back. When the worker dies, its page tells which
calls had ended, with what results, and which one was running.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
from collections.abc import Sequence
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.backend import Death
from wasmedge_pool.calls import PoolCall
from wasmedge_pool.errors import CallTimeout, error_from_wire
from wasmedge_pool.hosting import HostFunctions, answer, host_error
from wasmedge_pool.messages import (
    MAX_ARRAY,
    SCALARS,
    Batch,
    BatchError,
    BatchResults,
    Call,
    ProtocolError,
)
from wasmedge_pool.page import FLOATS, NUMBERS, read_batch
from wasmedge_pool.stats import Outcome
from wasmedge_pool.values import microseconds
from wasmedge_runtime.errors import HostFunctionError

if TYPE_CHECKING:
    from wasmedge_pool.pool import WorkerPool

__all__ = ["Many"]

# How long a chunk should take: long enough that its message costs little beside it, short enough
# that the workers end at about the same time.
_CHUNK_SECONDS = 0.004
# Before anybody knows how long a call takes.
_FIRST_CHUNK = 64
# Chunks under way for each worker: one runs, one lies ahead, one is being made.
_AHEAD = 3
# After so many failures a worker says how far it has come: their messages take room.
_ERRORS = 64


class _Chunk(PoolCall):
    """A request for many calls."""

    def __init__(self, message: Batch, timeout: float | None, hosts: HostFunctions) -> None:
        # Of all: a worker looks at the time after each call. Some is added for its slice.
        limit = None if timeout is None else timeout + 10 * _CHUNK_SECONDS
        super().__init__(message, message.function, limit, None, hosts)
        self.count = message.calls
        self.done = 0
        self.kinds = b""
        self.data = b""
        self.errors: dict[int, Exception | None] = {}
        self.died: Exception | None = None
        """What the call at `done` failed with, when the worker ended in it."""
        self.was_lost = False
        """Whether the worker ended in it."""

    def take_batch(self, part: BatchResults | BatchError) -> None:
        """Take a part of the answer; see `Request.take_batch`."""
        if isinstance(part, BatchError):
            if not max(self.errors, default=-1) < part.place < self.count:
                raise ProtocolError(f"a failure of call {part.place}, which is not its turn")
            error = error_from_wire(part.error) if part.error else None
            if isinstance(error, HostFunctionError) and self.host_error is not None:
                error, self.host_error = host_error(self.host_error), None
            self.errors[part.place] = error
            return
        width = 8 * part.done * len(part.kinds)
        if part.done > self.count or len(part.data) != width or self.done or self.kinds:
            raise ProtocolError("results of a batch that do not fit")
        self.done, self.kinds, self.data = part.done, part.kinds, part.data

    def lost(self, death: Death) -> None:
        """See what had ended before the worker did, and what had not begun."""
        died = self.verdict or death.error()
        self.fail(died)
        self.was_lost = True
        if self.done:
            return  # all that it ran had been told
        if death.page is None:
            # Nothing tells what had begun.
            self.errors = {index: self.errors.get(index, died) for index in range(self.count)}
            self.done = self.count
            return
        notes = read_batch(death.page, self.number, self.count)
        if notes is None:
            return  # no call had begun
        self.done, self.kinds, self.data = notes
        if not NUMBERS.issuperset(self.kinds):
            self.done, self.kinds, self.data = 0, b"", b""
        self.errors = {at: error for at, error in self.errors.items() if at <= self.done}
        if self.done in self.errors:
            # It had told of the failure, and not gone on.
            self.done += 1
            self.data += bytes(8 * len(self.kinds))
        if self.done < self.count:
            self.died = died

    def rows(self) -> list[list[Any]]:
        """The results of the calls that have ended."""
        width = len(self.kinds)
        if not width:
            return [[] for _ in range(self.done)]
        view = memoryview(self.data)
        if width == 1:
            if self.kinds[0] in FLOATS:
                return [[value] for value in view.cast("d").tolist()]
            return [[value] for value in view.cast("q").tolist()]
        integers, floats = view.cast("q").tolist(), view.cast("d").tolist()
        columns: list[list[Any]] = [
            (floats if code in FLOATS else integers)[at::width]
            for at, code in enumerate(self.kinds)
        ]
        return [list(row) for row in zip(*columns, strict=True)]


class Many:
    """One `execute_many`.

    Args:
        pool: what runs it.
        function: what is called.
        rows: the arguments of each call.
        timeout: seconds of running time for each call.
        return_errors: whether errors are put in the places of results.
    """

    def __init__(
        self,
        pool: WorkerPool,
        function: str,
        rows: Sequence[Sequence[Any]],
        timeout: float | None,
        return_errors: bool,
    ) -> None:
        self._pool = pool
        self._function = function
        self._rows = rows
        self._timeout = timeout
        self._wire_timeout = microseconds(timeout)
        self._return_errors = return_errors
        self._arities = set(map(len, rows))
        self._results: list[Any] = [None] * len(rows)
        self._left = [(0, len(rows))] if rows else []  # a heap of ranges
        self._unsent = len(rows)
        self._seconds = 0.0  # what a call took lately, 0 when unknown
        self._one_by_one = False  # the function has results that are no numbers
        self._first_error = len(rows)  # whose error is to be raised
        self._tasks: dict[asyncio.Task[None], int] = {}  # and the call that they are at

    async def run(self) -> list[Any]:
        """Run all, and return the results in order.

        Raises:
            Exception: the first call's, by their order, that failed, unless errors are returned.
        """
        self._spread()
        try:
            while self._tasks:
                done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del self._tasks[task]
                    if not task.cancelled():
                        task.result()
        except BaseException:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(self._tasks)
            for task in self._tasks:
                if not task.cancelled():
                    task.exception()
            raise
        if self._first_error < len(self._rows):
            error: Exception = self._results[self._first_error]
            raise error
        return self._results

    def _spread(self) -> None:
        """Have enough tasks for the chunks that can be made."""
        loop = asyncio.get_running_loop()
        most = _AHEAD * self._pool.limits.maximum
        while len(self._tasks) < min(most, self._unsent):
            self._tasks[loop.create_task(self._work())] = -1

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while self._left and self._left[0][0] <= self._first_error:
            start, stop = heapq.heappop(self._left)
            self._tasks[task] = start
            stop, chunk = self._cut(start, stop)
            if chunk is None:
                await self._call_one(start)
            else:
                await self._call_chunk(start, stop, chunk)

    # --- Making chunks ----------------------------------------------------------------------------

    def _cut(self, start: int, stop: int) -> tuple[int, _Chunk | None]:
        """Make a chunk of the first calls of a range, and put the rest back; None for a call that
        has to go alone."""
        rows = self._rows
        arity = len(rows[start])
        end = start + 1
        chunk = None
        if not self._one_by_one and arity <= MAX_ARRAY:
            end = min(stop, start + self._size(), start + MAX_ARRAY // max(arity, 1))
            if len(self._arities) > 1:
                end = next((at for at in range(start, end) if len(rows[at]) != arity), end)
            chunk = self._chunk(start, end)
            if chunk is None:
                end = start + 1
        if end < stop:
            heapq.heappush(self._left, (end, stop))
        self._unsent -= end - start
        return end, chunk

    def _size(self) -> int:
        # Near the end smaller ones, so that no worker has much to do when the others are done.
        share = self._unsent // (2 * self._pool.limits.maximum) + 1
        size = int(_CHUNK_SECONDS / self._seconds) if self._seconds else _FIRST_CHUNK
        return max(1, min(size, share))

    def _chunk(self, start: int, end: int) -> _Chunk | None:
        flat = tuple(chain.from_iterable(self._rows[start:end]))
        if not SCALARS.issuperset(map(type, flat)):
            return None
        errors = _ERRORS if self._return_errors else 1
        message = Batch(0, VM_NAME, self._function, end - start, flat, errors, self._wire_timeout)
        try:
            return _Chunk(message, self._timeout, self._pool.hosts)
        except OverflowError:
            return None  # an integer of one of them fits no wasm type

    # --- Running them -----------------------------------------------------------------------------

    async def _call_one(self, at: int) -> None:
        try:
            wire, references = self._pool.to_wire(self._rows[at])
            message = Call(0, VM_NAME, None, self._function, wire, self._wire_timeout)
            call = PoolCall(
                message, self._function, self._timeout, None, self._pool.hosts, references
            )
            self._results[at] = await self._pool.call(call, bounded=False)
        except Exception as error:
            self._failed(at, error)

    async def _call_chunk(self, start: int, stop: int, chunk: _Chunk) -> None:
        self._pool.enqueue(chunk, chunk.count)
        failure: Exception | None = None
        outcome: Outcome | None = None
        try:
            await answer(chunk)
        except Exception as error:
            if not chunk.was_lost:
                failure, outcome = error, "failed"
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            self._pool.schedule.leave(chunk)
            self._account(chunk, outcome)
        if failure is not None:
            raise failure  # of the pool, not of a call
        if chunk.kinds and not NUMBERS.issuperset(chunk.kinds):
            self._one_by_one = True
        self._settle(start, stop, chunk)

    def _account(self, chunk: _Chunk, outcome: Outcome | None) -> None:
        """Count what has ended; with an outcome, what has not has ended so, too."""
        ledger = self._pool.ledger
        total = monotonic() - chunk.made
        ran = min(chunk.spent * 1e-9, total)
        each = ran / max(chunk.done, 1)
        errors = [error for error in chunk.errors.values() if error is not None]
        if chunk.died is not None:
            errors.append(chunk.died)
        late = sum(isinstance(error, CallTimeout) for error in errors)
        completed = chunk.done - len(errors) + (chunk.died is not None)
        ended = completed + len(errors)
        counts: dict[Outcome, int] = {
            "completed": completed,
            "timed_out": late,
            "failed": len(errors) - late,
        }
        for kind, count in counts.items():
            ledger.end_many(chunk, kind, count, total - ran, each)
        if outcome is None:
            ledger.made -= chunk.count - ended  # they are made anew
        else:
            ledger.end_many(chunk, outcome, chunk.count - ended, total - ran, each)
        ledger.unbounded -= chunk.count
        if chunk.done:
            self._seconds = max(each, 1e-9)

    def _settle(self, start: int, stop: int, chunk: _Chunk) -> None:
        """Put the results in their places, and what has not begun back."""
        at = start + chunk.done
        # Thousands of lists at once, none of which can be garbage: looking for it among them six
        # times would cost more than all else that this process does for the calls.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._results[start:at] = chunk.rows()
        finally:
            if collecting:
                gc.enable()
        for index, error in chunk.errors.items():
            if error is None:
                self._results[start + index] = []
            else:
                self._failed(start + index, error)
        if chunk.died is not None:
            self._failed(at, chunk.died)
            at += 1
        if at < stop:
            heapq.heappush(self._left, (at, stop))
            self._unsent += stop - at
            self._spread()

    def _failed(self, at: int, error: Exception) -> None:
        self._results[at] = error
        if not self._return_errors and at < self._first_error:
            self._first_error = at
            for task, start in self._tasks.items():
                if start > at:
                    task.cancel()
