"""Many calls of one function: the loop that `VMPool.execute_many` is made of.

What it does for each call is the price of a call, so there is a loop for each number of results.
It notes which call it is at, and each result, where the parent finds them when this process is
killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from time import monotonic
from typing import TYPE_CHECKING, Any

from wasmedge_pool.errors import CallTimeout, error_to_wire
from wasmedge_pool.messages import Batch, BatchError, BatchResults, ProtocolError
from wasmedge_pool.page import BATCH, FLOATS, INDEX, KINDS, MAX_RESULTS, NUMBERS, RESULTS, SIZE
from wasmedge_pool.protocol import encode
from wasmedge_runtime.errors import ErrCode, Trap
from wasmedge_runtime.types import FunctionType

if TYPE_CHECKING:
    from wasmedge_pool.worker.vm import WorkerVM

__all__ = ["run_batch"]

# A batch ends early after this: other calls wait, and another worker may be idle.
_SLICE_SECONDS = 0.01


def run_batch(vm: WorkerVM, request: Batch) -> tuple[Any, ...]:
    """Run as many of the calls as the time allows; see `Batch`."""
    worker, count, timeout = vm.worker, request.calls, request.timeout
    arity = len(request.arguments) // count if count else 0
    if not count or arity * count != len(request.arguments):
        raise ProtocolError("a batch whose arguments are not evenly divided")
    try:
        call, kind, reset = vm.vm.caller(request.function)
    except Exception as error:
        # Each of them would fail with it.
        call, kind, reset = _failing(error), FunctionType([], []), None
    returns = kind.returns
    if len(returns) > MAX_RESULTS or not NUMBERS.issuperset(returns):
        worker.send(encode(BatchResults(request.id, 0, bytes(returns[:1]), b"")))
        return ()
    may_terminate = bool(returns) and bool(vm.host_functions)
    if reset is not None or timeout is not None or may_terminate:
        call = _prepared(call, reset, timeout, worker.watchdog.again, may_terminate)
    count = min(count, (SIZE - RESULTS) // 8 // max(1, len(returns)))
    words = worker.page.cast("Q")
    words[BATCH] = 0
    words[INDEX] = 0
    worker.page[KINDS] = len(returns)
    worker.page[KINDS + 1 : KINDS + 1 + len(returns)] = bytes(returns)
    words[BATCH] = request.id
    slots = worker.page[RESULTS:]
    columns = [slots.cast("d" if code in FLOATS else "q") for code in returns]
    run = (_without_result, _with_one_result, _with_results)[min(len(returns), 2)]
    rows: Iterator[Iterable[Any]]
    rows = zip(*[iter(request.arguments)] * arity, strict=True) if arity else repeat(())
    end = monotonic() + _SLICE_SECONDS
    errors = 0
    while words[INDEX] < count:
        try:
            run(call, rows, words, columns, count, end)
            break
        except Exception as error:
            wire: tuple[Any, ...]
            over = False
            interrupted = isinstance(error, Trap) and error.code is ErrCode.Interrupted
            if interrupted and worker.watchdog.again(timeout):
                wire = error_to_wire(CallTimeout())
                # It may have been in a host function, which the parent cancels when it has the
                # answer to the whole request. Before that no other can be called.
                over = bool(vm.host_functions)
            elif interrupted and worker.watchdog.interrupted:
                raise
            else:
                wire = () if isinstance(error, _Terminated) else error_to_wire(error)
            index = words[INDEX]
            worker.send(encode(BatchError(request.id, index, wire)))
            words[INDEX] = index + 1
            errors += 1
            if over or errors >= request.errors or monotonic() >= end:
                break
    done = words[INDEX]
    data = bytes(slots[: 8 * done * len(returns)])
    worker.send(encode(BatchResults(request.id, done, bytes(returns), data)))
    return ()


class _Terminated(Exception):
    """A host function ended the call, which has no results then."""


def _failing(error: Exception) -> Callable[..., list[Any]]:
    def call(*_: Any) -> list[Any]:
        raise error

    return call


def _prepared(
    call: Callable[..., list[Any]],
    reset: Callable[[], None] | None,
    timeout: int | None,
    again: Callable[[int | None], bool],
    may_terminate: bool,
) -> Callable[..., list[Any]]:
    """A call with what has to come before it: a fresh instance, and its own time."""

    def prepared(*row: Any) -> list[Any]:
        if reset is not None:
            reset()
        if timeout is not None:
            again(timeout)
        results = call(*row)
        if may_terminate and not results:
            raise _Terminated
        return results

    return prepared


def _without_result(
    call: Callable[..., list[Any]],
    rows: Iterator[Iterable[Any]],
    words: Any,
    columns: list[Any],
    count: int,
    end: float,
) -> None:
    index = words[INDEX]
    for row in rows:
        call(*row)
        index += 1
        words[INDEX] = index
        if index == count or monotonic() >= end:
            return


def _with_one_result(
    call: Callable[..., list[Any]],
    rows: Iterator[Iterable[Any]],
    words: Any,
    columns: list[Any],
    count: int,
    end: float,
) -> None:
    index = words[INDEX]
    (column,) = columns
    for row in rows:
        (column[index],) = call(*row)
        index += 1
        words[INDEX] = index
        if index == count or monotonic() >= end:
            return


def _with_results(
    call: Callable[..., list[Any]],
    rows: Iterator[Iterable[Any]],
    words: Any,
    columns: list[Any],
    count: int,
    end: float,
) -> None:
    index = words[INDEX]
    width = len(columns)
    for row in rows:
        at = index * width
        for column, value in zip(columns, call(*row), strict=True):
            column[at] = value
            at += 1
        index += 1
        words[INDEX] = index
        if index == count or monotonic() >= end:
            return
