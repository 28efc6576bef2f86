"""A host module as data, so that a worker's VM can be given it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from wasmedge_pool.handles import Global, Memory, Owner, Place, Table
from wasmedge_pool.hosting import HostFunctions
from wasmedge_pool.imports import Function, ImportObject
from wasmedge_pool.messages import HOST_FUNCTION, MAX_ARRAY, RegisterImport
from wasmedge_pool.request import Request
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.types import ExternType
from wasmedge_runtime.values import ExternRef, FuncRef

__all__ = ["HostModule", "Registrable", "describe"]


class Registrable(Protocol):
    """What can be registered with a worker's VM."""

    async def registration(self, number: int) -> Request:
        """The request that registers it with the VM of this number."""


class HostModule(NamedTuple):
    """What a worker is told about a host module, and what it shares with guests there."""

    name: str
    functions: tuple[Any, ...]
    exports: tuple[Any, ...]
    content: bytes
    references: list[ExternRef]
    shared: list[Table | Memory | Global]

    async def registration(self, number: int) -> Request:
        """The request that registers it with the VM of this number."""
        message = RegisterImport(0, number, self.name, self.functions, self.exports)
        request = Request(message, self.content, references=self.references)
        request.parse = self._check_handles
        return request

    async def register(self, owner: Owner) -> None:
        """Register it with a VM, where its tables, memories and globals live from then on."""
        for shared in self.shared:
            shared.claim()
        try:
            waiting = owner.ask(await self.registration(owner.number))
            life = owner.life
            handles = await waiting
        except BaseException:
            for shared in self.shared:
                shared.give_back()
            raise
        for shared, handle in zip(self.shared, handles, strict=True):
            shared.settle(Place(owner, life, handle))

    def _check_handles(self, handles: list[Any]) -> list[int]:
        if len(handles) != len(self.shared) or not all(type(handle) is int for handle in handles):
            raise ValueError(handles)
        return handles


def describe(imports: ImportObject, hosts: HostFunctions) -> HostModule:
    """Describe a host module; its functions get their numbers.

    Raises:
        TypeError: it is no ImportObject of this side.
        WasmEdgeError: it is closed, or a table, memory or global of it belongs to a VM already.
        ValueError: it is too large.
    """
    if not isinstance(imports, ImportObject):
        hint = ""
        if type(imports).__module__.startswith("wasmedge_runtime."):
            hint = "; that one is the engine's: import ImportObject from wasmedge_async"
        raise TypeError(f"expected an ImportObject, not {type(imports).__name__}{hint}")
    functions: dict[int, Function] = {}
    references: list[ExternRef] = []
    exports: list[tuple[str, int, tuple[Any, ...]]] = []
    content: list[bytes] = []
    shared: list[Table | Memory | Global] = []

    def number_of(function: Function) -> int:
        number = hosts.number(function)
        functions[number] = function
        return number

    def value_of(value: Any) -> Any:
        function = value.function if isinstance(value, FuncRef) else value
        if isinstance(function, Function):
            return HOST_FUNCTION, number_of(function)
        (wire,), objects = hosts.to_wire((value,))
        references.extend(objects)
        return wire

    for name, extern in imports.externs.items():
        if isinstance(extern, Function):
            exports.append((name, int(ExternType.FUNCTION), (number_of(extern),)))
            continue
        if extern.claimed:
            kind = type(extern).__name__
            raise WasmEdgeError(
                ErrCode.WrongInstanceAddress,
                f"wrong instance address: the {kind} {name!r} of {imports.name!r} belongs to a VM "
                f"already; create one {kind} for each VM",
            )
        shared.append(extern)
        if isinstance(extern, Table):
            limit = extern.table_type.limit
            elements = tuple((at, value_of(value)) for at, value in extern.elements.items())
            fields = (int(extern.table_type.ref_type), limit.min, limit.max, elements)
            exports.append((name, int(ExternType.TABLE), fields))
        elif isinstance(extern, Memory):
            limit = extern.memory_type.limit
            content.append(bytes(extern.content))
            exports.append((name, int(ExternType.MEMORY), (limit.min, limit.max, len(content[-1]))))
        else:
            global_type = extern.global_type
            kinds = (int(global_type.val_type), int(global_type.mutability))
            exports.append((name, int(ExternType.GLOBAL), (*kinds, value_of(extern.value))))
    if max(len(exports), len(functions)) > MAX_ARRAY:
        raise ValueError(f"an import object has at most {MAX_ARRAY} exports")
    described = tuple(
        (
            number,
            bytes(function.function_type.parameters),
            bytes(function.function_type.returns),
            function.cost,
            function.place,
        )
        for number, function in functions.items()
    )
    return HostModule(
        imports.name, described, tuple(exports), b"".join(content), references, shared
    )
