"""Global instances (specification 4.2.9)."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import convert
from .closable import Closable
from .codegen.context import CELL_BYTES
from .errors import ErrCode, WasmEdgeError
from .function import as_reference
from .types import GlobalType, RefType, ValMut, ValType

if TYPE_CHECKING:
    from .core import StoreCore
    from .instance import ModuleInstance


class Global(Closable):
    """A global variable, made by the host or by a module (specification 4.2.9).

    Args:
        global_type: the type of its value, and whether it may change.
        value: the initial value.

    Raises:
        TypeError, OverflowError: not a value of the type.
    """

    def __init__(self, global_type: GlobalType, value: Any) -> None:
        cell = (ctypes.c_ubyte * (CELL_BYTES * 2))()
        address = -(-ctypes.addressof(cell) // CELL_BYTES) * CELL_BYTES
        self._setup(global_type, address, cell, None)
        self._set(value)

    @classmethod
    def _of_instance(
        cls, global_type: GlobalType, address: int, owner: Any, core: StoreCore
    ) -> Global:
        """A global in a module's vmctx, which `owner` keeps alive."""
        found = cls.__new__(cls)
        found._setup(global_type, address, owner, core)
        found._borrowed = True
        return found

    def _setup(
        self, global_type: GlobalType, address: int, owner: Any, core: StoreCore | None
    ) -> None:
        self._type = global_type
        self._address = address
        self._owner = owner
        self._core = core
        self._pending: Any = None
        self._keepers: set[Any] = set()
        self._importers: set[Any] = set()

    def held_by(self, owner: Any) -> Global:
        """The same global as an object that keeps the instance alive whose function it may hold
        (see `Table.held_by`)."""
        found = copy.copy(self)
        found._owner = owner
        return found

    @property
    def address(self) -> int:
        """Of the cell with its value."""
        return self._address

    def bind(self, core: StoreCore) -> None:
        """Make it part of a Store; raises when a reference in it belongs to another one."""
        if self._core is core:
            return
        core.check_free(self)
        self._core = core
        if self._type.val_type == ValType.EXTERNREF:
            core.extern_holders.add(self)
        if self._type.val_type not in convert.ENCODERS:
            pending, self._pending = self._pending, None
            self._set(pending)

    def keep(self, owner: Any) -> None:
        """Keep alive what its value refers to."""
        self._keepers.add(owner)

    def imported_by(self, instance: ModuleInstance) -> None:
        """As `Table.imported_by`, for a variable that holds a function reference."""
        if self._type.val_type == ValType.FUNCREF and self._type.mutability == ValMut.VAR:
            self._importers.add(instance)

    def kept(self) -> frozenset[Any]:
        """As `Table.kept`."""
        return frozenset(self._keepers)

    def forget(self, needed: frozenset[Any] = frozenset()) -> list[Any]:
        """What need not be kept alive any more, as `Table.forget`."""
        if self._importers:
            return []
        dropped = list(self._keepers - needed)
        self._keepers.difference_update(dropped)
        return dropped

    def handles(self) -> Iterator[int]:
        """The handle in it, unless null."""
        handle = ctypes.c_uint64.from_address(self._address).value
        return iter((handle,) if handle else ())

    def handle_count(self) -> int:
        """How many values `handles` looks at."""
        return 1

    @property
    def global_type(self) -> GlobalType:
        """The type of its value, and whether it may change."""
        return self._type

    @property
    def value(self) -> Any:
        """The current value.

        Setting it raises WasmEdgeError (ImmutableGlobal) when it is constant, and TypeError or
        OverflowError for what is not a value of its type.
        """
        self._check_open()
        kind = self._type.val_type
        if kind in convert.DECODERS:
            size = 16 if kind == ValType.V128 else 8
            data = ctypes.string_at(self._address, size)
            return convert.from_bits(int.from_bytes(data, "little"), kind)
        if self._core is None:
            return self._pending
        with self._core.lock:
            handle = ctypes.c_uint64.from_address(self._address).value
            return self._core.from_handle(handle, kind)

    @value.setter
    def value(self, value: Any) -> None:
        self._check_open()
        if self._type.mutability == ValMut.CONST:
            raise WasmEdgeError(
                ErrCode.ImmutableGlobal, "immutable global: its type says ValMut.CONST"
            )
        self._set(value)

    def _set(self, value: Any) -> None:
        kind = self._type.val_type
        if kind in convert.ENCODERS:
            data = convert.to_bits(value, kind).to_bytes(CELL_BYTES, "little")
            ctypes.memmove(self._address, data, CELL_BYTES)
        elif self._core is None:
            self._pending = as_reference(value, RefType(kind))
        else:
            with self._core.lock:
                handle = self._core.to_handle(value, kind, self.keep)
                ctypes.c_uint64.from_address(self._address).value = handle
