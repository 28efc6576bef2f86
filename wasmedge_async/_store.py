"""The store of a VM in a worker: what is there, by name."""

from __future__ import annotations

from typing import Any

from wasmedge_pool.handles import FunctionHandle, Global, Memory, Owner, Place, Table
from wasmedge_pool.messages import REGISTERED_MODULES, Find, List, Message
from wasmedge_pool.request import Request
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

__all__ = ["Store", "function_types", "items"]


async def items(owner: Owner, message: Message) -> list[tuple[str, bytes, bytes]]:
    """Ask for something that is answered with items."""
    request = Request(message)
    found = request.items = []
    await owner.ask(request)
    return found


def function_types(found: list[tuple[str, bytes, bytes]]) -> dict[str, FunctionType]:
    """Names and types of functions, from items."""
    return {
        name: FunctionType(map(ValType, parameters), map(ValType, returns))
        for name, parameters, returns in found
    }


class Store:
    """What a VM's modules export: functions, tables, memories and globals (specification 4.2.3).

    Looking something up gives a handle, whose methods are awaited, or None when there is none of
    that name. The handle refers to the instance that was there: another `instantiate` does not
    change what it stands for. From `VM.get_store()`.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def find_function(self, name: str) -> FunctionHandle | None:
        """Look up an exported function of the instantiated module."""
        return await self._find_function(None, name)

    async def find_function_registered(self, module: str, name: str) -> FunctionHandle | None:
        """Look up a function of a registered module."""
        return await self._find_function(module, name)

    async def find_table(self, name: str) -> Table | None:
        """Look up an exported table of the instantiated module."""
        return await self._find_table(None, name)

    async def find_table_registered(self, module: str, name: str) -> Table | None:
        """Look up a table of a registered module."""
        return await self._find_table(module, name)

    async def find_memory(self, name: str) -> Memory | None:
        """Look up an exported memory of the instantiated module."""
        return await self._find_memory(None, name)

    async def find_memory_registered(self, module: str, name: str) -> Memory | None:
        """Look up a memory of a registered module."""
        return await self._find_memory(module, name)

    async def find_global(self, name: str) -> Global | None:
        """Look up an exported global of the instantiated module."""
        return await self._find_global(None, name)

    async def find_global_registered(self, module: str, name: str) -> Global | None:
        """Look up a global of a registered module."""
        return await self._find_global(module, name)

    async def list_function(self) -> list[str]:
        """The names of the exported functions of the instantiated module."""
        return await self._list(ExternType.FUNCTION, None)

    async def list_function_registered(self, module: str) -> list[str]:
        """The names of the functions of a registered module."""
        return await self._list(ExternType.FUNCTION, module)

    async def list_table(self) -> list[str]:
        """The names of the exported tables of the instantiated module."""
        return await self._list(ExternType.TABLE, None)

    async def list_table_registered(self, module: str) -> list[str]:
        """The names of the tables of a registered module."""
        return await self._list(ExternType.TABLE, module)

    async def list_memory(self) -> list[str]:
        """The names of the exported memories of the instantiated module."""
        return await self._list(ExternType.MEMORY, None)

    async def list_memory_registered(self, module: str) -> list[str]:
        """The names of the memories of a registered module."""
        return await self._list(ExternType.MEMORY, module)

    async def list_global(self) -> list[str]:
        """The names of the exported globals of the instantiated module."""
        return await self._list(ExternType.GLOBAL, None)

    async def list_global_registered(self, module: str) -> list[str]:
        """The names of the globals of a registered module."""
        return await self._list(ExternType.GLOBAL, module)

    async def list_module(self) -> list[str]:
        """The names of the registered modules."""
        return await self._list(REGISTERED_MODULES, None)

    async def _list(self, kind: int, module: str | None) -> list[str]:
        message = List(0, self._owner.number, kind, module)
        return [name for name, _, _ in await items(self._owner, message)]

    async def _find(
        self, kind: int, module: str | None, name: str
    ) -> tuple[Place, list[Any], list[tuple[str, bytes, bytes]]] | None:
        """Where it is, what describes its type, and the items for a function."""
        owner = self._owner
        request = Request(Find(0, owner.number, kind, module, name))
        found = request.items = []
        waiting = owner.ask(request)  # the owner begins its life with the first request
        life = owner.life
        values = await waiting
        return (Place(owner, life, values[0]), values[1:], found) if values else None

    async def _find_function(self, module: str | None, name: str) -> FunctionHandle | None:
        found = await self._find(ExternType.FUNCTION, module, name)
        if found is None:
            return None
        place, (index,), types = found
        return FunctionHandle(place, function_types(types)[name], index)

    async def _find_table(self, module: str | None, name: str) -> Table | None:
        found = await self._find(ExternType.TABLE, module, name)
        if found is None:
            return None
        place, (ref_type, least, most), _ = found
        table = Table(TableType(RefType(ref_type), Limit(least, most)))
        table.settle(place)
        return table

    async def _find_memory(self, module: str | None, name: str) -> Memory | None:
        found = await self._find(ExternType.MEMORY, module, name)
        if found is None:
            return None
        place, (least, most), _ = found
        memory = Memory(MemoryType(Limit(least, most)))
        memory.settle(place)
        return memory

    async def _find_global(self, module: str | None, name: str) -> Global | None:
        found = await self._find(ExternType.GLOBAL, module, name)
        if found is None:
            return None
        place, (val_type, mutability), _ = found
        return Global.at(place, GlobalType(ValType(val_type), ValMut(mutability)))
