"""WasmEdgeProcessImportObject: the host module `wasmedge_process`."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..function import Function
from ..import_object import ImportObject
from .functions import FUNCTIONS, Commands

__all__ = ["MODULE_NAME", "WasmEdgeProcessImportObject"]

MODULE_NAME = "wasmedge_process"


class WasmEdgeProcessImportObject(ImportObject):
    """Lets the programs of one Store run commands of the host.

    ::

        process = WasmEdgeProcessImportObject(allowed_commands=["ls", "echo"])

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
        super().__init__(MODULE_NAME)
        self._commands = Commands()
        self.init_wasmedge_process(allowed_commands, allow_all, folder=folder)
        for row in FUNCTIONS:
            function = Function(row.function_type, row.body, self._commands)
            self.add_function(f"{MODULE_NAME}_{row.name}", function)

    def init_wasmedge_process(
        self,
        allowed_commands: Iterable[str] = (),
        allow_all: bool = False,
        *,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start anew, with the arguments of the constructor. When this raises, everything stays as
        it was."""
        self._check_open()
        if isinstance(allowed_commands, (str, bytes)):
            kind = type(allowed_commands).__name__
            raise TypeError(f"allowed_commands must be a sequence of names, not a single {kind}")
        allowed = frozenset(map(_name, allowed_commands))
        if not isinstance(allow_all, bool):
            raise TypeError(f"allow_all must be True or False, not {allow_all!r}")
        place = os.path.abspath(os.getcwd() if folder is None else folder)
        self._commands.start(allowed, allow_all, os.fsencode(place))

    def restart(self) -> None:
        """Forget what a program has said and what commands have written; for use between two runs.
        What is allowed stays."""
        self._check_open()
        self._commands.restart()


def _name(command: object) -> bytes:
    if not isinstance(command, str):
        raise TypeError(f"an allowed command is a str, not {type(command).__name__}")
    if not command or "\0" in command:
        raise ValueError(f"no command has the name {command!r}")
    return os.fsencode(command)
