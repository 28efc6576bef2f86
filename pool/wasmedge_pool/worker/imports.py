"""Host modules in a worker, as the parent described them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wasmedge_pool.messages import RETURNED, TERMINATED, ProtocolError, RegisterImport
from wasmedge_runtime.errors import ErrCode, InstantiationError, Terminate
from wasmedge_runtime.function import Function
from wasmedge_runtime.global_ import Global
from wasmedge_runtime.import_object import ImportObject
from wasmedge_runtime.memory import Memory
from wasmedge_runtime.table import Table
from wasmedge_runtime.types import (
    ExternType,
    FunctionType,
    GlobalType,
    Limit,
    MemoryType,
    RefType,
    TableType,
    ValMut,
    ValType,
)

if TYPE_CHECKING:
    from wasmedge_pool.worker.vm import WorkerVM

__all__ = ["ParentRaised", "make_import_object"]


class ParentRaised(Exception):
    """A host function of the parent has raised; the parent knows what."""


def make_import_object(
    vm: WorkerVM, request: RegisterImport, content: bytes
) -> tuple[ImportObject, list[Table | Memory | Global]]:
    """Make a host module, and list what it shares.

    Raises:
        InstantiationError: a function that is to run here cannot be imported.
        WasmEdgeError, TypeError, OverflowError: a table, memory or global cannot be made so.
    """
    for number, parameters, results, cost, place in request.functions:
        kind = FunctionType(map(ValType, parameters), map(ValType, results))
        body = _parents(vm, number) if place is None else _own(place)
        vm.host_functions[number] = Function(kind, body, None, cost)
    imports = ImportObject(request.name)
    shared: list[Table | Memory | Global] = []
    for name, kind, fields in request.exports:
        if kind == ExternType.FUNCTION:
            imports.add_function(name, vm.host_functions[fields[0]])
        elif kind == ExternType.TABLE:
            ref_type, least, most, elements = fields
            table = Table(TableType(RefType(ref_type), Limit(least, most)))
            for index, element in elements:
                (value,) = vm.from_wire((element,))
                table.set_data(value, index)
            imports.add_table(name, table)
            shared.append(table)
        elif kind == ExternType.MEMORY:
            least, most, size = fields
            memory = Memory(MemoryType(Limit(least, most)))
            memory.set_data(content[:size], 0)
            content = content[size:]
            imports.add_memory(name, memory)
            shared.append(memory)
        elif kind == ExternType.GLOBAL:
            val_type, mutability, initial = fields
            (value,) = vm.from_wire((initial,))
            global_ = Global(GlobalType(ValType(val_type), ValMut(mutability)), value)
            imports.add_global(name, global_)
            shared.append(global_)
        else:
            raise ProtocolError(f"an export of the kind {kind}")
    return imports, shared


def _parents(vm: WorkerVM, number: int) -> Callable[..., Any]:
    def body(data: None, memory: Any, *parameters: Any) -> Any:
        outcome, values = vm.call_parent(number, memory, parameters)
        if outcome == RETURNED:
            return values
        if outcome == TERMINATED:
            raise Terminate
        raise ParentRaised

    return body


def _own(place: str) -> Callable[..., Any]:
    """The function at "package.module:function"."""
    module, _, path = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception as error:
        raise InstantiationError(
            ErrCode.UnknownImport,
            f"unknown import: the worker cannot import the host function {place!r} "
            f"({type(error).__name__}: {error}); it must be in a module on the import path, "
            "not in the main program",
        ) from error
    if not callable(found):
        raise InstantiationError(
            ErrCode.UnknownImport, f"unknown import: {place!r} is a {type(found).__name__}"
        )
    body: Callable[..., Any] = found
    return body
