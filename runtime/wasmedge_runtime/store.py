"""Store: the instances that see each other, by name (specification 4.2.4)."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, TypeVar

from .closable import Closable
from .core import StoreCore
from .function import Function
from .global_ import Global
from .instance import Extern, LinkedFunctions, ModuleInstance
from .memory import Memory
from .module import AST
from .table import Table

_Kind = TypeVar("_Kind", Function, Table, Memory, Global)


class Store(Closable):
    """Registered modules under their names, and one anonymous module, the last instantiated.

    A Store runs one call at a time: a second thread waits. Different Stores run in parallel.
    """

    def __init__(self) -> None:
        self._core: StoreCore | None = None
        self._anonymous: ModuleInstance | None = None
        self._modules: dict[str, Mapping[str, Extern]] = {}
        self.linked = _new_links()
        """What modules import was found to be. Another object whenever that may have changed: who
        looks something up meanwhile notes it in the old one."""

    @property
    def core(self) -> StoreCore:
        """The native side, made when first needed."""
        self._check_open()
        if self._core is None:
            made = StoreCore()
            if self._core is None:  # another thread may have been quicker
                self._core = made
        return self._core

    # For the executor.

    def exports_of(self, name: str) -> Mapping[str, Extern] | None:
        """What a registered module exports."""
        self._check_open()
        return self._modules.get(name)

    def set_anonymous(self, instance: ModuleInstance) -> None:
        """Put an instance in the place of the anonymous module."""
        self._anonymous = instance

    def register(self, name: str, exports: Mapping[str, Extern]) -> None:
        """Make exports importable under a name, which the caller has checked to be free."""
        self._modules[name] = exports
        self.linked = _new_links()

    def unregister(self, name: str) -> None:
        """Forget a registered module; instances that import from it keep working."""
        self._modules.pop(name, None)
        self.linked = _new_links()

    @property
    def anonymous(self) -> ModuleInstance | None:
        """The anonymous module, if there is one."""
        return self._anonymous

    def clear_anonymous(self) -> None:
        """Forget the anonymous module; it lives on while somebody holds it."""
        self._anonymous = None

    # Finding.

    def _find(
        self, exports: Mapping[str, Extern] | None, name: str, kind: type[_Kind]
    ) -> _Kind | None:
        if exports is None:
            return None
        found = exports.get(name)
        return found if isinstance(found, kind) else None

    def _anonymous_exports(self) -> Mapping[str, Extern]:
        self._check_open()
        return {} if self._anonymous is None else self._anonymous.exports

    def find_function(self, name: str) -> Function | None:
        """A function that the anonymous module exports; None when there is none."""
        return self._find(self._anonymous_exports(), name, Function)

    def find_table(self, name: str) -> Table | None:
        """A table that the anonymous module exports; None when there is none."""
        return self._find(self._anonymous_exports(), name, Table)

    def find_memory(self, name: str) -> Memory | None:
        """A memory that the anonymous module exports; None when there is none."""
        return self._find(self._anonymous_exports(), name, Memory)

    def find_global(self, name: str) -> Global | None:
        """A global that the anonymous module exports; None when there is none."""
        return self._find(self._anonymous_exports(), name, Global)

    def find_function_registered(self, module: str, name: str) -> Function | None:
        """A function that a registered module exports; None when there is none."""
        return self._find(self.exports_of(module), name, Function)

    def find_table_registered(self, module: str, name: str) -> Table | None:
        """A table that a registered module exports; None when there is none."""
        return self._find(self.exports_of(module), name, Table)

    def find_memory_registered(self, module: str, name: str) -> Memory | None:
        """A memory that a registered module exports; None when there is none."""
        return self._find(self.exports_of(module), name, Memory)

    def find_global_registered(self, module: str, name: str) -> Global | None:
        """A global that a registered module exports; None when there is none."""
        return self._find(self.exports_of(module), name, Global)

    # Listing.

    def _list(self, exports: Mapping[str, Extern] | None, kind: type[Any]) -> list[str]:
        if exports is None:
            return []
        return sorted(name for name, extern in exports.items() if isinstance(extern, kind))

    def list_function(self) -> list[str]:
        """Names of the functions that the anonymous module exports."""
        return self._list(self._anonymous_exports(), Function)

    def list_table(self) -> list[str]:
        """Names of the tables that the anonymous module exports."""
        return self._list(self._anonymous_exports(), Table)

    def list_memory(self) -> list[str]:
        """Names of the memories that the anonymous module exports."""
        return self._list(self._anonymous_exports(), Memory)

    def list_global(self) -> list[str]:
        """Names of the globals that the anonymous module exports."""
        return self._list(self._anonymous_exports(), Global)

    def list_function_registered(self, module: str) -> list[str]:
        """Names of the functions that a registered module exports; empty when it is not there."""
        return self._list(self.exports_of(module), Function)

    def list_table_registered(self, module: str) -> list[str]:
        """Names of the tables that a registered module exports; empty when it is not there."""
        return self._list(self.exports_of(module), Table)

    def list_memory_registered(self, module: str) -> list[str]:
        """Names of the memories that a registered module exports; empty when it is not there."""
        return self._list(self.exports_of(module), Memory)

    def list_global_registered(self, module: str) -> list[str]:
        """Names of the globals that a registered module exports; empty when it is not there."""
        return self._list(self.exports_of(module), Global)

    def list_module(self) -> list[str]:
        """Names of the registered modules."""
        self._check_open()
        return sorted(self._modules)

    def interrupt(self) -> bool:
        """Stop the call that is running in another thread: it raises `Trap` with
        `ErrCode.Interrupted`. Returns False when none is running.

        A call that is in a host function stops when that function returns. Calls that the host
        function makes in this Store are part of it, and stop at once.
        """
        self._check_open()
        return self._core is not None and self._core.interrupt()

    def _release(self) -> None:
        self._anonymous = None
        self._modules.clear()
        self.linked = _new_links()


def _new_links() -> weakref.WeakKeyDictionary[AST, LinkedFunctions]:
    return weakref.WeakKeyDictionary()
