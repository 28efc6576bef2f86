"""wasmedge_process in a worker: which commands of the host its programs may run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wasmedge_async._program import texts
from wasmedge_pool.messages import InitCommands
from wasmedge_pool.request import Request

if TYPE_CHECKING:
    from wasmedge_pool.handles import Owner

__all__ = ["WasmEdgeProcess", "WasmEdgeProcessImportObject"]


class WasmEdgeProcessImportObject:
    """Lets the programs of a VM run commands of the host, for `register_import`.

    ::

        await vm.register_import(WasmEdgeProcessImportObject(allowed_commands=["ls", "echo"]))

    A command that is allowed runs as this process's user, outside of every sandbox, with the
    arguments, variables and input that the program chooses. See `docs/process.md`.

    Args:
        allowed_commands: names of commands, as the program gives them: `"ls"` is looked for in the
            PATH of this process, `"/opt/tool"` and `"./tool"` are files. One does not stand for the
            other.
        allow_all: whether the program may run every command.
        folder: the working directory of commands, to which relative names refer; that of this
            process, now, when None.

    Raises:
        TypeError, ValueError: an argument is not what it must be.
    """

    def __init__(
        self,
        allowed_commands: Iterable[str] = (),
        allow_all: bool = False,
        *,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._allowed = texts("allowed_commands", allowed_commands)
        for name in self._allowed:
            if not name or "\0" in name:
                raise ValueError(f"no command has the name {name!r}")
        if not isinstance(allow_all, bool):
            raise TypeError(f"allow_all must be True or False, not {allow_all!r}")
        self._allow_all = allow_all
        self._folder = os.fsencode(os.path.abspath(os.getcwd() if folder is None else folder))

    async def registration(self, number: int) -> Request:
        """The request that registers this with the VM of this number, which has none yet."""
        return await self.request(number, register=True)

    async def request(self, number: int, *, register: bool) -> Request:
        """The request that gives all this to the VM of this number; with `register`, to one that
        has no wasmedge_process yet."""
        message = InitCommands(
            *(0, number, int(register), self._allowed, int(self._allow_all), self._folder)
        )
        return Request(message)


class WasmEdgeProcess:
    """A VM's wasmedge_process, in its worker; from `VM.get_import_object`."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def init_wasmedge_process(
        self,
        allowed_commands: Iterable[str] = (),
        allow_all: bool = False,
        *,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start anew, with the arguments of `WasmEdgeProcessImportObject`. When this raises,
        everything stays as it was."""
        process = WasmEdgeProcessImportObject(allowed_commands, allow_all, folder=folder)
        await self._owner.ask(await process.request(self._owner.number, register=False))
