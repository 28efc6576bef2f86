"""Table instances (specification 4.2.7)."""

from __future__ import annotations

import array
import copy
import ctypes
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .closable import Closable
from .errors import ErrCode, Trap, WasmEdgeError
from .function import as_reference
from .limits import MAX_TABLE_ELEMENTS
from .native import libc
from .native.layout import TABLE_COMMIT_ELEMENTS, TableRecord
from .native.reservation import Reservation
from .types import Limit, RefType, TableType

if TYPE_CHECKING:
    from .core import StoreCore
    from .instance import ModuleInstance
    from .values import ExternRef, FuncRef

_ELEMENT_BYTES = 8

_SMALL_BYTES = 1 << 16
"""A table that cannot grow beyond this lives in ordinary memory: reserving address space, touching
its first page and giving it back takes some 20 us."""


class Table(Closable):
    """A table of references, made by the host or by a module (specification 4.2.7).

    Args:
        table_type: the kind of reference, the size in elements, and how far it may grow.

    Raises:
        WasmEdgeError: InvalidLimit for a minimum above the maximum, TableOutOfBounds for a size
            above 10,000,000 elements, RuntimeError when the system has no room.
    """

    def __init__(self, table_type: TableType) -> None:
        limit = table_type.limit
        if limit.max is not None and limit.max < limit.min:
            raise WasmEdgeError(ErrCode.InvalidLimit)
        if limit.min > MAX_TABLE_ELEMENTS:
            raise WasmEdgeError(
                ErrCode.TableOutOfBounds,
                f"out of bounds table access: a table has at most {MAX_TABLE_ELEMENTS} elements",
            )
        most = MAX_TABLE_ELEMENTS if limit.max is None else min(limit.max, MAX_TABLE_ELEMENTS)
        if most * _ELEMENT_BYTES <= _SMALL_BYTES:
            self._memory: Any = bytearray(max(most, 1) * _ELEMENT_BYTES)
            base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            committed = most
        else:
            self._memory = self._reserve(limit.min, most)
            base = self._memory.base
            committed = _in_steps(limit.min)
        self.base: int = base
        """Address of the first element; it never changes."""
        self._type = table_type
        self._record = TableRecord(base, limit.min, most, committed)
        self.record_address = ctypes.addressof(self._record)
        """Of the `layout.TableRecord`, for generated code."""
        self._core: StoreCore | None = None
        self._pending: dict[int, FuncRef | ExternRef | None] = {}
        self._keepers: set[Any] = set()
        self._importers: set[Any] = set()
        self._owner: Any = None

    @staticmethod
    def _reserve(size: int, most: int) -> Reservation:
        try:
            return Reservation(
                _in_steps(max(most, 1)) * _ELEMENT_BYTES, _in_steps(size) * _ELEMENT_BYTES
            )
        except OSError as error:
            raise WasmEdgeError(
                ErrCode.RuntimeError, f"no room for a table of {size} elements: {error}"
            ) from error

    def held_by(self, owner: Any) -> Table:
        """The same table as an object that keeps the instance alive whose functions it holds.

        Instances hold their own tables; those must not hold them in turn, or only the cycle
        collector could free either.
        """
        table = copy.copy(self)
        table._owner = owner
        return table

    def bind(self, core: StoreCore) -> None:
        """Make it part of a Store; raises when it belongs to another one."""
        if self._core is core:
            return
        core.check_free(self)
        self._core = core
        if self._type.ref_type == RefType.EXTERNREF:
            core.extern_holders.add(self)
        pending, self._pending = self._pending, {}
        for index, value in pending.items():
            self._write(index, core.to_handle(value, self._type.ref_type, self.keep))

    def keep(self, owner: Any) -> None:
        """Keep alive what an element refers to."""
        self._keepers.add(owner)

    def imported_by(self, instance: ModuleInstance) -> None:
        """References to functions of a module that imports the table can flow into it: that keeps
        the module alive."""
        if self._type.ref_type == RefType.FUNCREF:
            self._importers.add(instance)

    def check_segment(self, index: int, count: int) -> None:
        """Raise Trap (TableOutOfBounds) unless an element segment fits."""
        if index + count > self._record.size:
            raise Trap(
                ErrCode.TableOutOfBounds,
                f"out of bounds table access: an element segment does not fit: "
                f"{count} elements at {index}, the table has {self._record.size}",
            )

    def address(self, index: int) -> int:
        """Of an element."""
        return self.base + index * _ELEMENT_BYTES

    def reset(self) -> None:
        """Give it its initial size, and null references. Callers know that no guest uses it."""
        self.restore(self._type.limit.min, b"")

    def content(self) -> tuple[int, bytes]:
        """What `restore` takes to bring it back to its present state."""
        size = self._record.size
        return size, ctypes.string_at(self.base, size * _ELEMENT_BYTES).rstrip(b"\0")

    def restore(self, elements: int, handles: bytes) -> None:
        """Give it a size that it has had, and first references; the others are null."""
        record = self._record
        size = record.size * _ELEMENT_BYTES
        if size <= _SMALL_BYTES:
            ctypes.memset(self.base, 0, size)
        else:
            libc.discard(self.base, libc.page_ceil(size))
        ctypes.memmove(self.base, handles, len(handles))
        record.size = elements

    def kept(self) -> frozenset[Any]:
        """What it keeps alive for references that it has, or has had."""
        return frozenset(self._keepers)

    def forget(self, needed: frozenset[Any] = frozenset()) -> list[Any]:
        """What need not be kept alive any more, after a reset of an instance that no reference in
        it can have left, but for what is `needed`: empty if others import it, who may hold some."""
        if self._importers:
            return []
        dropped = list(self._keepers - needed)
        self._keepers.difference_update(dropped)
        return dropped

    def handles(self) -> Iterator[int]:
        """Handles of the references in it that are not null."""
        elements = ctypes.string_at(self.base, self._record.size * _ELEMENT_BYTES)
        return filter(None, array.array("Q", elements))

    def handle_count(self) -> int:
        """How many elements `handles` looks at."""
        return int(self._record.size)

    @property
    def table_type(self) -> TableType:
        """The kind of reference, the current size as the minimum, and the declared maximum."""
        return TableType(self._type.ref_type, Limit(self._record.size, self._type.limit.max))

    @property
    def size(self) -> int:
        """The current size in elements."""
        self._check_open()
        return int(self._record.size)

    def get_data(self, index: int) -> FuncRef | ExternRef | None:
        """The reference at `index`; None is the null reference.

        Raises:
            WasmEdgeError: TableOutOfBounds; RefTypeMismatch for an `ExternRef` that was closed.
            TypeError: `index` is not an int.
        """
        self._check_index(index)
        if self._core is None:
            return self._pending.get(index)
        with self._core.lock:
            handle = ctypes.c_uint64.from_address(self.base + index * _ELEMENT_BYTES).value
            return self._core.from_handle(handle, self._type.ref_type)

    def set_data(self, value: Any, index: int) -> None:
        """Put a reference (a Function or FuncRef, or any object where the table holds external
        references; None for null) at `index`.

        Raises:
            WasmEdgeError: TableOutOfBounds; WrongInstanceAddress for a function of another Store.
            TypeError: not a reference of the table's type.
        """
        self._check_index(index)
        if self._core is None:
            self._pending[index] = as_reference(value, self._type.ref_type)
            return
        with self._core.lock:
            self._write(index, self._core.to_handle(value, self._type.ref_type, self.keep))

    def _write(self, index: int, handle: int) -> None:
        ctypes.c_uint64.from_address(self.base + index * _ELEMENT_BYTES).value = handle

    def grow(self, n: int) -> None:
        """Add `n` null references.

        Raises:
            WasmEdgeError: TableOutOfBounds when that passes the maximum, or 10,000,000 elements.
            TypeError, ValueError: `n` is not an int of 0 or more.
        """
        self._check_open()
        if not isinstance(n, int):
            raise TypeError(f"number of elements must be an int, not {type(n).__name__}")
        if n < 0:
            raise ValueError(f"number of elements must not be negative: {n}")
        with nullcontext() if self._core is None else self._core.lock:
            self._grow(n)

    def _grow(self, n: int) -> None:
        record = self._record
        size = record.size + n
        if size > record.max_size:
            raise WasmEdgeError(
                ErrCode.TableOutOfBounds,
                f"out of bounds table access: cannot grow from {record.size} by {n} elements, "
                f"the limit is {record.max_size}",
            )
        if size > record.committed:
            committed = _in_steps(size)
            self._memory.commit(committed * _ELEMENT_BYTES)
            record.committed = committed
        record.size = size

    def _check_index(self, index: int) -> None:
        self._check_open()
        if not isinstance(index, int):
            raise TypeError(f"index must be an int, not {type(index).__name__}")
        if not 0 <= index < self._record.size:
            raise WasmEdgeError(
                ErrCode.TableOutOfBounds,
                f"out of bounds table access: index {index}, the table has {self._record.size}",
            )


def _in_steps(elements: int) -> int:
    return -(-elements // TABLE_COMMIT_ELEMENTS) * TABLE_COMMIT_ELEMENTS
