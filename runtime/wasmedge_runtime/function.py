"""Functions: host functions, and functions of module instances (specification 4.2.6, 4.2.7)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from types import FunctionType as PythonFunction
from typing import TYPE_CHECKING, Any

from . import convert
from .closable import Closable
from .errors import (
    MESSAGES,
    ErrCode,
    HostFunctionError,
    Terminate,
    WasmEdgeError,
    closed_error,
)
from .marshal import Caller, make_callback
from .native.layout import SLOT_BYTES, STATUS_HOST_FAILED, FunctionRecord, HostContext
from .native.type_stubs import type_stubs
from .types import FunctionType, RefType, ValType
from .values import ExternRef, FuncRef

if TYPE_CHECKING:
    from .core import StoreCore
    from .instance import ModuleInstance

HostBody = Callable[..., Any]
_CALL = "__call__"


class Function(Closable):
    """A function that can be called, imported by modules, and put into tables.

    `Function(function_type, body)` makes a host function: `body(data, memory, *params)` runs when
    a guest calls it. `memory` is that of the calling module, None when it has none. It returns
    None, one value or a sequence, as its type says; raising `Terminate` ends the whole call
    successfully, `Fail` or any other exception ends it with `HostFunctionError`.

    Functions of modules come from `ModuleInstance.exports` or `Store.find_function`. Calling one
    gives a list with an entry for each result.

    Args:
        function_type: parameters and results.
        body: the Python function.
        data: any object, handed to `body` unchanged.
        cost: gas that a call from wasm costs, beside that of the `call` itself, when costs are
            measured.

    Raises:
        TypeError: `body` is not callable.
    """

    # A slot for `__call__` lets each function have its own, generated for its type, and saves the
    # step from a common method to it. It is named by a constant because pyright takes a literal for
    # a variable, and the method below then for one that is not bound.
    __slots__ = (
        _CALL,
        "__weakref__",
        "_body",
        "_borrowed",
        "_closed",
        "_cost",
        "_data",
        "_index",
        "_instance",
        "_type",
        "overloads",
    )

    if TYPE_CHECKING:

        def __call__(self, *args: Any) -> list[Any]:
            """Call it; gives a list of results.

            Raises:
                WasmEdgeError: FuncSigMismatch for a wrong number of arguments.
                TypeError, OverflowError: an argument is not a value of its parameter's type.
                Trap: the guest trapped, or was stopped.
                HostFunctionError: a host function raised; its exception is the cause.
            """

    def __init__(
        self, function_type: FunctionType, body: HostBody, data: Any = None, cost: int = 0
    ) -> None:
        if not isinstance(function_type, FunctionType):
            raise TypeError(f"function_type must be a FunctionType, not {function_type!r}")
        if not callable(body):
            raise TypeError(f"body must be callable as body(data, memory, *params), not {body!r}")
        self._type = function_type
        self._body: HostBody | None = body
        self._data = data
        self._cost = cost
        self._instance: ModuleInstance | None = None
        self._index = -1
        self.overloads: tuple[Function, ...] = ()
        """The same for modules that import it with another type."""
        self.__call__ = _host_caller(function_type, body, data)  # type: ignore[method-assign]
        self._closed = False
        self._borrowed = False

    @classmethod
    def _of_instance(cls, instance: ModuleInstance, index: int, run: Caller) -> Function:
        """A function that a module defines; `index` in its index space."""
        function = cls.__new__(cls)
        function._type = instance.ast_function_types[index]
        function._body = None
        function._data = None
        function._cost = 0
        function._instance = instance
        function._index = index
        function.overloads = ()
        # A copy that holds the instance: somebody may keep `function.__call__` alone. The instance
        # keeps `run` itself, which therefore must not hold it.
        bound = PythonFunction(run.__code__, run.__globals__, "call", None, run.__closure__)
        bound.__dict__["instance"] = instance
        function.__call__ = bound  # type: ignore[method-assign]
        function._closed = False
        function._borrowed = True
        return function

    @property
    def function_type(self) -> FunctionType:
        """Parameters and results."""
        return self._type

    @property
    def index(self) -> int:
        """The function's address in its Store, as `FuncRef.index`; -1 for a host function, which
        has one in each Store that it is linked into."""
        if self._instance is None:
            return -1
        return self._instance.first_function_number + self._instance.record_number(self._index)

    def for_type(self, wanted: object) -> Function:
        """The function that a module gets which imports this one with a type: an overload if one
        has that type."""
        if wanted != self._type:
            for overload in self.overloads:
                if wanted == overload._type:
                    return overload
        return self

    def record_in(self, core: StoreCore) -> tuple[int, Any]:
        """The address of this function's record in a Store, and what has to stay alive for it."""
        if self._instance is not None:
            if self._instance.core is not core:
                raise WasmEdgeError(
                    ErrCode.WrongInstanceAddress,
                    "wrong instance address: this function belongs to a module of another Store",
                )
            return self._instance.record_address(self._index), self._instance
        link = self.link(core)
        return link.record_address, link

    @property
    def carries_references(self) -> bool:
        """Whether its arguments can be references to functions of a module that imports it."""
        return self._instance is not None and ValType.FUNCREF in self._type.parameters

    def imported_by(self, instance: ModuleInstance) -> None:
        """Keep an importing module alive where references to its functions go: for a function
        that `carries_references`."""
        if self._instance is not None:
            self._instance.keep(instance)

    def link(self, core: StoreCore) -> HostLink:
        """A host function's side in one Store."""
        if self._closed:
            raise closed_error(self)
        return core.link_of.get(id(self)) or HostLink(core, self)

    def _release(self) -> None:
        self.__call__ = self._refuse  # type: ignore[method-assign]

    def _refuse(self, *args: Any) -> list[Any]:
        raise closed_error(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Function):
            return NotImplemented
        if self._instance is None:
            return self is other
        return self._instance is other._instance and self._index == other._index

    def __hash__(self) -> int:
        return hash((id(self._instance), self._index)) if self._instance else id(self)

    def __repr__(self) -> str:
        kind = "host function" if self._instance is None else f"function {self._index}"
        return f"<{kind} {self._type}>"


def _host_caller(kind: FunctionType, body: HostBody, data: Any) -> Caller:
    """What Python calls to call a host function: checked like any other call, without a guest."""
    parameters, returns = kind.parameters, kind.returns

    def call(*args: Any) -> list[Any]:
        if len(args) != len(parameters):
            raise wrong_count(kind, len(args))
        values = _passed(args, parameters, "argument")
        try:
            result = body(data, None, *values)
            return _passed(sequence_of_results(result, len(returns)), returns, "result")
        except Terminate:
            return []
        except Exception as error:
            raise host_failure(error) from error

    return call


def _passed(values: Sequence[Any], kinds: Sequence[ValType], what: str) -> list[Any]:
    """Values as the other side of a call sees them: rounded, signed, wrapped."""
    passed: list[Any] = []
    try:
        for value, kind in zip(values, kinds, strict=True):
            if kind in convert.ENCODERS:
                passed.append(convert.from_bits(convert.to_bits(value, kind), kind))
            else:
                passed.append(as_reference(value, RefType(kind)))
    except (TypeError, OverflowError) as error:
        raise type(error)(f"{what} {len(passed) + 1}: {error}") from None
    return passed


def as_reference(value: Any, kind: RefType) -> FuncRef | ExternRef | None:
    """A value for a reference, in the form in which it is read back.

    Raises:
        TypeError: not a reference of this type.
    """
    if value is None:
        return None
    if kind == RefType.EXTERNREF:
        return value if isinstance(value, ExternRef) else ExternRef(value)
    if isinstance(value, FuncRef):
        return value
    if isinstance(value, Function):
        return FuncRef(max(value.index, 0), value)
    raise TypeError(f"a funcref is a Function, a FuncRef or None, not {type(value).__name__}")


def host_failure(error: BaseException) -> HostFunctionError:
    """What the caller sees of an exception that a host function raised; it becomes the cause."""
    details = str(error)
    return HostFunctionError(
        ErrCode.ExecutionFailed,
        f"{MESSAGES[ErrCode.ExecutionFailed]}: {type(error).__name__}"
        + (f": {details}" if details else ""),
    )


def wrong_count(kind: FunctionType, given: int) -> WasmEdgeError:
    return WasmEdgeError(
        ErrCode.FuncSigMismatch,
        f"function signature mismatch: {kind} takes {len(kind.parameters)} arguments, "
        f"{given} were given",
    )


def sequence_of_results(result: Any, count: int) -> Sequence[Any]:
    """What a host function returned, as a sequence of `count` values; TypeError if it is not."""
    if count == 0:
        if result is not None and not (isinstance(result, Sequence) and len(result) == 0):
            raise TypeError(f"a host function without results must return None, not {result!r:.80}")
        return ()
    if isinstance(result, (list, tuple)):
        if len(result) != count:
            raise TypeError(f"a host function must return {count} values, not {len(result)}")
        return result
    if count == 1:
        return (result,)
    raise TypeError(f"a host function must return a sequence of {count} values, not {result!r:.80}")


class HostLink:
    """A host function in one Store: its record, and the way from wasm into Python."""

    def __init__(self, core: StoreCore, function: Function) -> None:
        self.function = function
        kind = function.function_type
        from .core import type_number

        self._type_number = type_number(kind)
        self.index = core.number_functions(self, 1)
        count = max(len(kind.parameters), len(kind.returns), 1)
        self._slots = (ctypes.c_ubyte * (count * SLOT_BYTES))()
        self._context = HostContext()
        context = self._context
        status = ctypes.c_uint64.from_buffer(context, HostContext.offset("status"))
        self._kept: set[Any] = set()
        body = function._body
        if body is None:
            raise TypeError("only host functions are linked")
        self._callback = make_callback(
            core, kind, body, function._data, function._cost, self._slots, status, self._kept.add
        )
        context.activation = core.activation_address
        context.callback = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        context.slots = ctypes.addressof(self._slots)
        context.status = STATUS_HOST_FAILED
        context.returned = core.support.host_returned
        self._record = FunctionRecord(
            type_stubs(kind).host, ctypes.addressof(context), self._type_number.number
        )
        self.record_address = ctypes.addressof(self._record)
        core.links[self.record_address] = self
        core.link_of[id(function)] = self

    def function_at(self, offset: int) -> Function:
        return self.function
