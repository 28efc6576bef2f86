"""ImportObject: a host module, made of functions, tables, memories and globals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .closable import Closable
from .errors import ErrCode, WasmEdgeError
from .function import Function
from .global_ import Global
from .memory import Memory
from .table import Table
from .types import FunctionType, ValType

_Extern = Function | Table | Memory | Global
_Body = TypeVar("_Body", bound=Callable[..., Any])


class ImportObject(Closable):
    """A module of the host, for `Executor.register_import` and `VM.register_import`.

    It owns what is added to it. Adding a name twice replaces the first.

    Args:
        name: the module name that imports give.

    Raises:
        TypeError: a name is not a str, or what is added not of the method's kind.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a module name must be a str, not {type(name).__name__}")
        self._name = name
        self._externs: dict[str, _Extern] = {}

    @property
    def name(self) -> str:
        """The module name that imports give."""
        return self._name

    @property
    def externs(self) -> dict[str, _Extern]:
        """What was added, by name."""
        self._check_open()
        return self._externs

    def _add(self, name: str, extern: _Extern, kind: type[_Extern]) -> None:
        self._check_open()
        if not isinstance(name, str):
            raise TypeError(f"an export's name must be a str, not {type(name).__name__}")
        if not isinstance(extern, kind):
            raise TypeError(f"{name!r} must be a {kind.__name__}, not {type(extern).__name__}")
        extern.lend()
        self._externs[name] = extern

    def add_function(self, name: str, function: Function) -> None:
        """Export a host function.

        Raises:
            WasmEdgeError: it belongs to a module instance; `Executor.register_instance` shares one.
        """
        if getattr(function, "_instance", None) is not None:
            raise WasmEdgeError(
                ErrCode.WrongInstanceAddress,
                "wrong instance address: this function belongs to a module; "
                "share it with Executor.register_instance",
            )
        self._add(name, function, Function)

    def add_table(self, name: str, table: Table) -> None:
        """Export a table."""
        self._add(name, table, Table)

    def add_memory(self, name: str, memory: Memory) -> None:
        """Export a memory."""
        self._add(name, memory, Memory)

    def add_global(self, name: str, global_: Global) -> None:
        """Export a global."""
        self._add(name, global_, Global)

    def function(
        self,
        name: str,
        params: Iterable[ValType] = (),
        results: Iterable[ValType] = (),
        data: Any = None,
        cost: int = 0,
    ) -> Callable[[_Body], _Body]:
        """Decorate a Python function to export it: `@imports.function("add", [I32, I32], [I32])`.

        It is called as `body(data, memory, *params)`, like that of a `Function`.
        """
        kind = FunctionType(params, results)

        def add(body: _Body) -> _Body:
            self.add_function(name, Function(kind, body, data, cost))
            return body

        return add

    def __repr__(self) -> str:
        return f"<ImportObject {self._name}: {', '.join(self._externs)}>"
