"""Host functions that run in the parent: which there are, and how a guest's call of one is served.

A guest that calls one waits in the worker. The task that awaits the guest's call wakes up, runs
the function, in its own context, and sends what it gave; then it goes on waiting.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Container, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from wasmedge_pool.caller_memory import AwaitedCallerMemory, CallerMemory
from wasmedge_pool.handles import FunctionHandle, value_of_type
from wasmedge_pool.imports import Function
from wasmedge_pool.messages import (
    FUNCTION,
    HOST_FUNCTION,
    OBJECT,
    RAISED,
    RETURNED,
    TERMINATED,
    HostCall,
    HostReply,
    ProtocolError,
    Value,
    Within,
)
from wasmedge_pool.protocol import encode
from wasmedge_pool.request import Patient, Request
from wasmedge_pool.values import fits, from_wire, to_wire
from wasmedge_runtime.errors import MESSAGES, ErrCode, HostFunctionError, Terminate, WasmEdgeError
from wasmedge_runtime.types import ValType
from wasmedge_runtime.values import ExternRef, FuncRef

if TYPE_CHECKING:
    from wasmedge_pool.mailbox import Mailbox

__all__ = [
    "HostCallScope",
    "HostFunctions",
    "answer",
    "calling_mailbox",
    "host_error",
    "inside",
    "open_scope",
    "outlast",
    "to_its_end",
]

# How deep host functions and guests may call each other: well before Python's own limit, in this
# process or in the worker, and before the guest's stack is at its end.
_MAX_DEPTH = 64


class HostFunctions:
    """The host functions of one VM, or of a pool, by number; and its arguments on their way."""

    def __init__(self) -> None:
        self._functions: list[Function] = []
        self._numbers: dict[int, int] = {}

    def copy(self) -> HostFunctions:
        """One with the same functions and numbers, that may get others."""
        copy = HostFunctions()
        copy._functions = list(self._functions)
        copy._numbers = dict(self._numbers)
        return copy

    def number(self, function: Function) -> int:
        """The number of a host function, which it gets when it is first asked for."""
        number = self._numbers.get(id(function))
        if number is None:
            number = self._numbers[id(function)] = len(self._functions)
            self._functions.append(function)  # and so its id is not used again
        return number

    def get(self, number: int) -> Function:
        """The function of a number.

        Raises:
            ProtocolError: there is none that a worker could call.
        """
        if number >= len(self._functions) or self._functions[number].place is not None:
            raise ProtocolError(f"a call of host function {number}, which it was not given")
        return self._functions[number]

    def check(self, call: HostCall) -> None:
        """Check a call that a worker makes.

        Raises:
            ProtocolError: no guest can have made it.
        """
        parameters = self.get(call.function).function_type.parameters
        arguments = call.arguments
        if len(arguments) != len(parameters) or not all(map(fits, arguments, parameters)):
            raise ProtocolError(f"a call of host function {call.function} with {arguments!r:.80}")

    def to_wire(self, values: Iterable[Any]) -> tuple[tuple[Value, ...], list[ExternRef]]:
        """Turn arguments, or what a host function gave, into what travels, and the objects among
        them. An object that is no wasm value is wrapped in an `ExternRef`.

        Raises:
            OverflowError: an integer fits no wasm type.
            WasmEdgeError: too many values, a closed `ExternRef`, or an unknown host function.
        """
        objects: list[ExternRef] = []

        def reference(value: Any) -> Value:
            if isinstance(value, FunctionHandle):
                return FUNCTION, value.index
            if isinstance(value, FuncRef):
                if not isinstance(value.function, Function):
                    return FUNCTION, value.index
                value = value.function
            if isinstance(value, Function):
                number = self._numbers.get(id(value))
                if number is None:
                    raise WasmEdgeError(
                        ErrCode.WrongInstanceAddress,
                        "wrong instance address: this host function is not registered with this "
                        "VM; add it to an ImportObject and call register_import first",
                    )
                return HOST_FUNCTION, number
            wrapped = value if isinstance(value, ExternRef) else ExternRef(value)
            wrapped.value  # raises for a closed one  # noqa: B018
            objects.append(wrapped)
            return OBJECT, wrapped._handle

        return to_wire(values, reference), objects


class HostCallScope:
    """A host function that runs: what is asked of the same worker meanwhile runs inside of it.

    Args:
        mailbox: of the worker whose guest waits.
        number: the host call's.
        task: what runs the host function.
    """

    def __init__(self, mailbox: Mailbox, number: int, task: asyncio.Task[Any]) -> None:
        self.mailbox = mailbox
        self.number = number
        self.task = task
        self.marker = encode(Within(number))
        """In front of each request that is made inside."""
        self.outer = _open(_scope.get())
        """The host function that this one is part of."""
        self.depth: int = 1 if self.outer is None else self.outer.depth + 1
        self.open = True
        """The guest waits for it."""

    def abandon(self) -> None:
        """Cancel it: its guest has gone, and what it does is for nobody any more."""
        if self.open:
            self.open = False
            self.task.cancel()

    def ask(self, request: Request) -> Coroutine[Any, Any, list[Any]]:
        """Have a request answered inside of this call.

        Raises:
            WasmEdgeError: the call is over.
        """
        self.check_open()
        self.mailbox.submit(request, self)
        return answer(request)

    def check_open(self) -> None:
        """Raise when the call is over."""
        if not self.open:
            raise WasmEdgeError(
                ErrCode.RuntimeError,
                "the memory that a host function gets can be used during its call only; "
                "`get_store()` and `find_memory` give one that stays",
            )


def _open(scope: HostCallScope | None) -> HostCallScope | None:
    """The innermost that is open, of a scope and those around it."""
    while scope is not None and not scope.open:
        scope = scope.outer
    return scope


_scope: ContextVar[HostCallScope | None] = ContextVar("wasmedge_host_call", default=None)


def open_scope(mailbox: Mailbox) -> HostCallScope | None:
    """The innermost running host function that this task, or what started it, is part of, and that
    was called from a mailbox's worker; None when there is none."""
    scope = _open(_scope.get())
    while scope is not None and scope.mailbox is not mailbox:
        scope = _open(scope.outer)
    return scope


def inside(mailbox: Mailbox) -> int:
    """How many host functions of a mailbox's worker the running task is in: when the worker ends,
    each of them cancels the task once."""
    task = asyncio.current_task()
    count = 0
    scope = _scope.get()
    while scope is not None:
        count += scope.open and scope.mailbox is mailbox and scope.task is task
        scope = scope.outer
    return count


async def outlast(ended: Patient, mailbox: Mailbox | None = None) -> None:
    """Wait for something that must not be left half done; a cancellation goes on afterwards.

    Host functions of the mailbox's worker that the running task is in may lose their guests
    meanwhile. Each of them is cancelled then, which is no cancellation of the task.
    """
    task = asyncio.current_task()
    assert task is not None

    def requested() -> int:
        return task.cancelling() + (0 if mailbox is None else inside(mailbox))

    before = requested()
    with anyio.CancelScope(shield=True):
        await ended
    if requested() > before:
        raise asyncio.CancelledError


async def to_its_end(work: asyncio.Task[None], mailbox: Mailbox | None = None) -> None:
    """Wait for a task that must not be left half done; a cancellation goes on afterwards, see
    `outlast`."""
    ended = Patient()
    work.add_done_callback(lambda _: ended.set_result(None))
    await outlast(ended, mailbox)
    work.result()


def calling_mailbox(mailboxes: Callable[[], Container[Mailbox]]) -> Mailbox | None:
    """That of these mailboxes whose worker waits for the host function that this task, or what
    started it, is part of; None outside of host functions. The mailboxes are asked for only
    inside."""
    scope = _scope.get()
    if scope is None:
        return None
    among = mailboxes()
    while scope is not None and not (scope.open and scope.mailbox in among):
        scope = scope.outer
    return None if scope is None else scope.mailbox


async def answer(request: Request) -> list[Any]:
    """Wait for a submitted request's answer, and run the host functions that its guest calls.

    When the task is cancelled, the request leaves the queue or is interrupted, and the
    cancellation goes on when the guest has stopped; further ones change nothing.
    """
    try:
        while True:
            if request.host_call is None:  # else it came before this task began to wait
                values = await request.future
            call = request.host_call
            if call is None:
                return values
            request.host_call = None
            await _serve(request, call)
    except asyncio.CancelledError:
        future = request.future
        if future.done() and not future.cancelled():
            future.exception()  # the answer came in the same moment: nobody needs it
        else:
            future.cancel()
            if request.owner is not None:
                await request.owner.stopped(request)
        raise
    except (Exception, GeneratorExit):
        del request  # which has the exception
        raise
    except BaseException:
        # KeyboardInterrupt or SystemExit in a host function, which may be the end of the loop; or
        # the task goes, which may be after that.
        if request.future.get_loop().is_closed():
            raise
        request.future.cancel()
        if request.owner is not None:
            request.owner.interrupt(request)
        raise


async def _serve(request: Request, call: HostCall) -> None:
    """Run a host function, and send what it gave, unless its guest has gone meanwhile."""
    mailbox = request.owner
    task = asyncio.current_task()
    if mailbox is None or task is None or request.hosts is None or not request.open:
        return  # it failed before this task came to it
    scope = request.scope = HostCallScope(mailbox, call.call, task)
    others = task.cancelling()
    token = _scope.set(scope)
    reply = None
    try:
        reply = await _run(request.hosts, scope, call)
    except asyncio.CancelledError:
        if scope.open or task.uncancel() > others:
            raise
    except ProtocolError as error:
        mailbox.kill(f"it broke the protocol, {error}")
    except Exception as error:
        # Without this frame, whose request will have the error.
        request.host_error = error.with_traceback(
            error.__traceback__ and error.__traceback__.tb_next
        )
        reply = HostReply(call.call, RAISED, ()), []
    finally:
        _scope.reset(token)
        request.scope = None
        abandoned, scope.open = not scope.open, False
    if not abandoned:
        if reply is not None:
            mailbox.reply(*reply)
    elif task.cancelling() > others:
        # The cancellation has not come yet, or the host function took no notice of it.
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if task.uncancel() > others:
                raise
        else:
            task.uncancel()


async def _run(
    hosts: HostFunctions, scope: HostCallScope, call: HostCall
) -> tuple[HostReply, list[ExternRef]]:
    if scope.depth > _MAX_DEPTH:
        raise RecursionError(f"host functions and guests call each other {_MAX_DEPTH} deep")
    function = hosts.get(call.function)
    memory: Any = None
    if call.memory:
        memory = AwaitedCallerMemory(scope) if function.awaited else CallerMemory(scope)
    try:
        parameters = from_wire(call.arguments, scope.mailbox.references.get)
        result = function.run(memory, parameters)
        if inspect.isawaitable(result):
            result = await result
    except Terminate:
        return HostReply(call.call, TERMINATED, ()), []
    wire, objects = hosts.to_wire(_results(result, function.function_type.returns))
    return HostReply(call.call, RETURNED, wire), objects


def _results(result: Any, kinds: tuple[ValType, ...]) -> Sequence[Any]:
    """What a host function returned, as a value for each of its type's results.

    Raises:
        TypeError, OverflowError: they are not of its type.
    """
    if not kinds:
        if result is not None and not (isinstance(result, Sequence) and len(result) == 0):
            raise TypeError(f"a host function without results must return None, not {result!r:.80}")
        return ()
    values: Sequence[Any] = (result,)
    if isinstance(result, list | tuple):
        values = result
        if len(values) != len(kinds):
            raise TypeError(f"a host function must return {len(kinds)} values, not {len(values)}")
    elif len(kinds) > 1:
        raise TypeError(
            f"a host function must return a sequence of {len(kinds)} values, not {result!r:.80}"
        )
    found: list[Any] = []
    for value, kind in zip(values, kinds, strict=True):
        try:
            found.append(value_of_type(value, kind))
        except (TypeError, OverflowError) as error:
            raise type(error)(f"result {len(found) + 1} of the host function: {error}") from None
    return found


def host_error(error: Exception) -> HostFunctionError:
    """What the caller sees of an exception that a host function of this process raised."""
    details = f": {error}" if str(error) else ""
    failure = HostFunctionError(
        ErrCode.ExecutionFailed,
        f"{MESSAGES[ErrCode.ExecutionFailed]}: {type(error).__name__}{details}",
    )
    failure.__cause__ = error
    return failure
