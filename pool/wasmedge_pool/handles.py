"""What lives in a worker's store, as the parent sees it: handles, whose methods are awaited.

A `Table`, `Memory` or `Global` that is made here waits to be registered, as part of an
ImportObject; then it lives in one VM's worker. The others come from `VM.get_store()`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from wasmedge_pool.messages import CallHandle, Operate, ReadMemory, WriteMemory
from wasmedge_pool.request import Request
from wasmedge_pool.values import microseconds
from wasmedge_runtime import convert
from wasmedge_runtime.closable import Closable
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.types import (
    FunctionType,
    GlobalType,
    MemoryType,
    TableType,
    ValMut,
    ValType,
)
from wasmedge_runtime.values import FuncRef

if TYPE_CHECKING:
    from wasmedge_pool.hosting import HostFunctions
    from wasmedge_runtime.values import ExternRef, FuncRef

__all__ = [
    "GLOBAL_GET",
    "GLOBAL_SET",
    "MEMORY_GROW",
    "MEMORY_SIZE",
    "TABLE_GET",
    "TABLE_GROW",
    "TABLE_SET",
    "TABLE_SIZE",
    "FunctionHandle",
    "Global",
    "Memory",
    "Owner",
    "Place",
    "Table",
    "value_of_type",
]

# The operations of an `Operate` message.
TABLE_GET, TABLE_SET, TABLE_SIZE, TABLE_GROW = 0, 1, 2, 3
MEMORY_SIZE, MEMORY_GROW = 4, 5
GLOBAL_GET, GLOBAL_SET = 6, 7

PAGE_BYTES = 65536


class Owner(Protocol):
    """The VM that something lives in."""

    @property
    def number(self) -> int:
        """The VM's number in its worker."""

    @property
    def hosts(self) -> HostFunctions:
        """The VM's host functions."""

    @property
    def life(self) -> object:
        """Another object after each `restart`."""

    def ask(self, request: Request) -> Coroutine[Any, Any, list[Any]]:
        """Have a request answered."""

    def lost(self) -> Exception:
        """What the use of something raises that went with an earlier life of the VM."""

    def release(self, handle: int) -> None:
        """Let the worker forget a handle."""


class Place(NamedTuple):
    """Where something lives."""

    owner: Owner
    life: object
    handle: int


class _Handle(Closable):
    """Base of what may live in a worker.

    Closing lets the worker forget the handle, not what it stands for.
    """

    _place: Place | None = None
    _claimed = False

    @property
    def place(self) -> Place | None:
        """Where it lives; None before it has been registered."""
        return self._place

    @property
    def claimed(self) -> bool:
        """Whether it is part of a VM, or about to be."""
        return self._claimed or self._place is not None

    def claim(self) -> None:
        """Note that it is about to be registered, and cannot be used until it has been."""
        self._claimed = True

    def give_back(self) -> None:
        """Note that it was not registered after all."""
        self._claimed = False

    def settle(self, place: Place) -> None:
        """Note where it lives from now on."""
        self._place = place

    def _home(self) -> Place:
        self._check_open()
        place = self._place
        if place is None:
            name = type(self).__name__
            how = (
                "is being registered: await register_import first"
                if self._claimed
                else "is not part of a VM yet: add it to an ImportObject and register it"
            )
            raise WasmEdgeError(ErrCode.RuntimeError, f"this {name} {how}")
        if place.owner.life is not place.life:
            raise place.owner.lost()
        return place

    def _check_here(self, awaited: str) -> None:
        """Raise unless it can be used without awaiting, which it can until it is registered."""
        self._check_open()
        if self.claimed:
            raise WasmEdgeError(
                ErrCode.RuntimeError,
                f"this {type(self).__name__} lives in a VM's worker: use `await ....{awaited}`",
            )

    async def _operate(self, operation: int, *arguments: Any) -> list[Any]:
        place = self._home()
        wire, objects = place.owner.hosts.to_wire(arguments)
        message = Operate(0, place.owner.number, place.handle, operation, wire)
        return await place.owner.ask(Request(message, vm=None, references=objects))

    def _release(self) -> None:
        place = self._place
        if place is not None and place.owner.life is place.life:
            place.owner.release(place.handle)

    def __del__(self) -> None:
        if not self._closed:
            self._release()


class FunctionHandle(_Handle):
    """An exported function in a VM's worker; from `find_function`. Awaiting a call of it gives the
    list of its results."""

    def __init__(self, place: Place, function_type: FunctionType, index: int) -> None:
        self._place = place
        self._type = function_type
        self._index = index

    @property
    def function_type(self) -> FunctionType:
        """Parameters and results."""
        return self._type

    @property
    def index(self) -> int:
        """The function's address in its store, as `FuncRef.index`."""
        return self._index

    async def __call__(self, *args: Any, timeout: float | None = None) -> list[Any]:
        """Call it; raises as `VM.execute`."""
        owner, _, handle = self._home()
        wire, objects = owner.hosts.to_wire(args)
        message = CallHandle(0, owner.number, handle, wire, microseconds(timeout))
        return await owner.ask(
            Request(message, None, timeout, hosts=owner.hosts, references=objects)
        )

    def __repr__(self) -> str:
        return f"<function {self._index} {self._type} in a worker>"


def value_of_type(value: Any, kind: ValType) -> Any:
    """A value as it is read back: an integer signed, a number for f32 rounded.

    Raises:
        TypeError, OverflowError: it is not of the type.
    """
    if kind in convert.ENCODERS:
        return convert.from_bits(convert.to_bits(value, kind), kind)
    if kind is ValType.FUNCREF and value is not None:
        from wasmedge_pool.imports import Function  # which imports this module

        if not isinstance(value, FuncRef | FunctionHandle | Function):
            raise TypeError(
                f"a funcref is a Function, a FuncRef or None, not {type(value).__name__}"
            )
    return value


def check_unsigned(what: str, value: object) -> None:
    """Raise unless a value can be an offset or a number of things."""
    if type(value) is not int:
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not 0 <= value < 1 << 63:
        raise ValueError(f"{what} must be 0 or more, and less than 2**63: {value}")


class Memory(_Handle):
    """A linear memory (specification 4.2.8).

    Args:
        memory_type: how many pages of 64 KiB it has, and may have.

    Raises:
        WasmEdgeError: InvalidLimit, the minimum is above the maximum.
    """

    def __init__(self, memory_type: MemoryType) -> None:
        if not isinstance(memory_type, MemoryType):
            raise TypeError(f"memory_type must be a MemoryType, not {memory_type!r}")
        limit = memory_type.limit
        if limit.max is not None and limit.min > limit.max:
            raise WasmEdgeError(ErrCode.InvalidLimit)
        self._type = memory_type
        self._content = bytearray()  # what has been written, before it is registered

    @property
    def memory_type(self) -> MemoryType:
        """The type that it was made with."""
        return self._type

    @property
    def page_size(self) -> int:
        """Its size in pages, until it is registered; then `await memory.get_page_size()`."""
        self._check_here("get_page_size()")
        return self._type.limit.min

    def settle(self, place: Place) -> None:
        """Note where it lives from now on, and its content."""
        super().settle(place)
        self._content.clear()

    @property
    def content(self) -> bytearray:
        """What it begins with, from its first byte on; the rest is zero."""
        return self._content

    async def get_data(self, offset: int, length: int) -> bytes:
        """Read bytes.

        Raises:
            WasmEdgeError: MemoryOutOfBounds, they are not all within the memory.
            TypeError, ValueError: not a number of bytes.
        """
        check_unsigned("offset", offset)
        check_unsigned("length", length)
        if not self.claimed:
            self._check_open()
            self._check_bounds(offset, length)
            part = bytes(self._content[offset : offset + length])
            return part + bytes(length - len(part))
        owner, _, handle = self._home()
        request = Request(ReadMemory(0, owner.number, handle, offset, length))
        request.want(length)
        await owner.ask(request)
        return await request.content()

    async def set_data(
        self, data: bytes | bytearray | memoryview, offset: int, length: int | None = None
    ) -> None:
        """Write bytes, or the first `length` of them. Raises as `get_data`."""
        check_unsigned("offset", offset)
        data = first_bytes(data, length)
        if not self.claimed:
            self._check_open()
            self._check_bounds(offset, len(data))
            self._content.extend(bytes(max(0, offset + len(data) - len(self._content))))
            self._content[offset : offset + len(data)] = data
            return
        owner, _, handle = self._home()
        await owner.ask(Request(WriteMemory(0, owner.number, handle, offset), data))

    async def get_page_size(self) -> int:
        """Its size in pages."""
        if not self.claimed:
            return self.page_size
        (size,) = await self._operate(MEMORY_SIZE)
        return int(size)

    async def grow_page(self, n: int) -> None:
        """Grow by a number of pages.

        Raises:
            WasmEdgeError: MemoryOutOfBounds, past its limit; or it is not registered yet.
        """
        check_unsigned("number of pages", n)
        await self._operate(MEMORY_GROW, n)

    def view(self) -> memoryview:
        """Not possible: the memory is another process's. Raises WasmEdgeError."""
        raise no_view()

    def _check_bounds(self, offset: int, length: int) -> None:
        check_bounds(offset, length, self._type.limit.min)

    def __repr__(self) -> str:
        return f"<memory {self._type.limit}>"


def check_bounds(offset: int, length: int, pages: int) -> None:
    """Raise unless bytes are within a memory of so many pages."""
    size = pages * PAGE_BYTES
    if offset + length > size:
        raise WasmEdgeError(
            ErrCode.MemoryOutOfBounds,
            f"out of bounds memory access: {length} bytes at {offset}, the memory has {size}",
        )


def no_view() -> WasmEdgeError:
    """The error of every `view()` on this side."""
    return WasmEdgeError(
        ErrCode.RuntimeError,
        "a memory in a worker cannot be viewed: use get_data and set_data, or a host function "
        'that runs in the worker ("package.module:function")',
    )


def first_bytes(data: bytes | bytearray | memoryview, length: int | None) -> bytes:
    """The bytes to write: all, or the first `length`."""
    whole = bytes(data)
    if length is None:
        return whole
    check_unsigned("length", length)
    if length > len(whole):
        raise ValueError(f"length is {length}, but there are only {len(whole)} bytes of data")
    return whole[:length]


class Table(_Handle):
    """A table of references (specification 4.2.7).

    Args:
        table_type: what is in it, how many elements it has, and may have.

    Raises:
        WasmEdgeError: InvalidLimit, the minimum is above the maximum.
    """

    def __init__(self, table_type: TableType) -> None:
        if not isinstance(table_type, TableType):
            raise TypeError(f"table_type must be a TableType, not {table_type!r}")
        limit = table_type.limit
        if limit.max is not None and limit.min > limit.max:
            raise WasmEdgeError(ErrCode.InvalidLimit)
        self._type = table_type
        self._elements: dict[int, Any] = {}  # that are not null, before it is registered

    @property
    def table_type(self) -> TableType:
        """The type that it was made with."""
        return self._type

    @property
    def size(self) -> int:
        """Its number of elements, until it is registered; then `await table.get_size()`."""
        self._check_here("get_size()")
        return self._type.limit.min

    def settle(self, place: Place) -> None:
        """Note where it lives from now on, and its elements."""
        super().settle(place)
        self._elements.clear()

    @property
    def elements(self) -> dict[int, Any]:
        """What it begins with, by index; the rest is null."""
        return self._elements

    async def get_data(self, index: int) -> ExternRef | FuncRef | None:
        """Read an element: an `ExternRef`, a `FuncRef`, or None for the null reference.

        Raises:
            WasmEdgeError: TableOutOfBounds.
        """
        check_unsigned("index", index)
        if not self.claimed:
            self._check_bounds(index)
            return self._elements.get(index)
        element: ExternRef | FuncRef | None
        (element,) = await self._operate(TABLE_GET, index)
        return element

    async def set_data(self, value: Any, index: int) -> None:
        """Write an element.

        Raises:
            WasmEdgeError: TableOutOfBounds.
            TypeError: not a reference of the table's type.
        """
        check_unsigned("index", index)
        if not self.claimed:
            self._check_bounds(index)
            self._elements[index] = value_of_type(value, ValType(self._type.ref_type))
            return
        await self._operate(TABLE_SET, value, index)

    async def get_size(self) -> int:
        """Its number of elements."""
        if not self.claimed:
            return self.size
        (size,) = await self._operate(TABLE_SIZE)
        return int(size)

    async def grow(self, n: int) -> None:
        """Grow by a number of null elements.

        Raises:
            WasmEdgeError: TableOutOfBounds, past its limit; or it is not registered yet.
        """
        check_unsigned("number of elements", n)
        await self._operate(TABLE_GROW, n)

    def _check_bounds(self, index: int) -> None:
        self._check_open()
        if index >= self._type.limit.min:
            raise WasmEdgeError(
                ErrCode.TableOutOfBounds,
                f"out of bounds table access: index {index}, the table has {self._type.limit.min}",
            )

    def __repr__(self) -> str:
        return f"<table {self._type.ref_type} {self._type.limit}>"


class Global(_Handle):
    """A global variable (specification 4.2.9).

    Args:
        global_type: what it holds, and whether it can be changed.
        value: what it begins with.

    Raises:
        TypeError, OverflowError: the value is not of its type.
    """

    def __init__(self, global_type: GlobalType, value: Any) -> None:
        if not isinstance(global_type, GlobalType):
            raise TypeError(f"global_type must be a GlobalType, not {global_type!r}")
        self._type = global_type
        self._value = value_of_type(value, global_type.val_type)

    @classmethod
    def at(cls, place: Place, global_type: GlobalType) -> Self:
        """One that lives in a worker."""
        found = cls.__new__(cls)
        found._type = global_type
        found._place = place
        return found

    @property
    def global_type(self) -> GlobalType:
        """What it holds, and whether it can be changed."""
        return self._type

    def settle(self, place: Place) -> None:
        """Note where it lives from now on, and its value."""
        super().settle(place)
        self._value = None

    @property
    def value(self) -> Any:
        """Its value, until it is registered; then `await global.get_value()`."""
        self._check_here("get_value()")
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._check_here("set_value(value)")
        self._check_variable()
        self._value = value_of_type(value, self._type.val_type)

    async def get_value(self) -> Any:
        """Its value; an integer is signed."""
        if not self.claimed:
            return self.value
        (value,) = await self._operate(GLOBAL_GET)
        return value

    async def set_value(self, value: Any) -> None:
        """Change its value.

        Raises:
            WasmEdgeError: ImmutableGlobal, it is constant.
            TypeError, OverflowError: the value is not of its type.
        """
        self._check_variable()
        if not self.claimed:
            self.value = value
            return
        await self._operate(GLOBAL_SET, value)

    def _check_variable(self) -> None:
        if self._type.mutability is not ValMut.VAR:
            raise WasmEdgeError(
                ErrCode.ImmutableGlobal, "global is immutable: its type says ValMut.CONST"
            )

    def __repr__(self) -> str:
        return f"<global {self._type}>"
