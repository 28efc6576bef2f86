"""The functions of `wasmedge_process`: a program says what to run, runs it, and takes the output.

What it says is forgotten when the command has run; the output is there until the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import MESSAGES, ErrCode, WasmEdgeError
from ..types import FunctionType, ValType
from .command import find, run

if TYPE_CHECKING:
    from ..core import StoreCore
    from ..memory import Memory

__all__ = ["FUNCTIONS", "Commands", "Row"]

DEFAULT_TIMEOUT_MS = 10_000
NOT_RUN = 0xFFFFFFFF
"""The exit code of a command that has not run: -1, unsigned."""

MOST_INPUT = 64 << 20
"""Bytes that a program may have said for one command: they are kept here."""
_PIECE = 64  # what keeping one of them costs besides

# With these somebody who chooses variables chooses code that any program loads: what the system's
# loader takes out of the environment of set-user-ID programs.
_LOADER = (b"LD_", b"DYLD_")
_LOADER_NAMES = frozenset({b"GCONV_PATH", b"GLIBC_TUNABLES"})


class Commands:
    """The state behind the functions of one import object."""

    def __init__(self) -> None:
        self.core: StoreCore | None = None
        """The Store of the last call, which knows about interruptions."""
        self.start(frozenset(), False, b"/")

    def start(self, allowed: frozenset[bytes], allow_all: bool, folder: bytes) -> None:
        """Begin anew.

        Args:
            allowed: names of commands, to be compared byte by byte.
            allow_all: whether others are allowed too.
            folder: the working directory of commands.
        """
        self._allowed = allowed
        self._allow_all = allow_all
        self._folder = folder
        self.restart()

    def restart(self) -> None:
        """Forget what programs have said, and what commands have written."""
        self._forget()
        self._finish(NOT_RUN)

    def _forget(self) -> None:
        self._name = b""
        self._arguments: list[bytes] = []
        self._variables: dict[bytes, bytes] = {}
        self._stdin = bytearray()
        self._timeout_ms = DEFAULT_TIMEOUT_MS
        self._room = MOST_INPUT

    def _finish(self, exit_code: int, stdout: bytes = b"", stderr: bytes = b"") -> int:
        self._exit_code = exit_code
        self._stdout = stdout
        self._stderr = stderr
        return exit_code

    def _take(self, memory: Memory | None, *places: int) -> list[bytes]:
        """What is at pairs of pointer and length.

        Raises:
            WasmEdgeError: MemoryOutOfBounds; ExecutionFailed when it is too much.
        """
        texts = []
        for pointer, length in zip(places[::2], places[1::2], strict=True):
            content = self._window(memory, pointer, length)
            self._room -= length + _PIECE
            if self._room < 0:
                raise WasmEdgeError(
                    ErrCode.ExecutionFailed,
                    f"name, arguments, variables and input of a command are at most {MOST_INPUT} "
                    "bytes",
                )
            texts.append(bytes(content))
        return texts

    def _window(self, memory: Memory | None, pointer: int, length: int) -> memoryview:
        if memory is None:
            raise WasmEdgeError(
                ErrCode.MemoryOutOfBounds,
                f"{MESSAGES[ErrCode.MemoryOutOfBounds]}: the module that calls has no memory",
            )
        self.core = memory._core
        content = memory._content()
        if pointer + length > len(content):
            raise WasmEdgeError(
                ErrCode.MemoryOutOfBounds,
                f"{MESSAGES[ErrCode.MemoryOutOfBounds]}: {length} bytes at {pointer}, "
                f"the memory has {len(content)}",
            )
        return content[pointer : pointer + length]

    # The functions. Parameters are unsigned.

    def set_prog_name(self, memory: Memory | None, pointer: int, length: int) -> None:
        [self._name] = self._take(memory, pointer, length)

    def add_arg(self, memory: Memory | None, pointer: int, length: int) -> None:
        self._arguments += self._take(memory, pointer, length)

    def add_env(
        self, memory: Memory | None, name: int, name_length: int, value: int, value_length: int
    ) -> None:
        key, content = self._take(memory, name, name_length, value, value_length)
        self._variables[key] = content

    def add_stdin(self, memory: Memory | None, pointer: int, length: int) -> None:
        [content] = self._take(memory, pointer, length)
        self._stdin += content

    def set_timeout(self, memory: Memory | None, milliseconds: int) -> None:
        self._timeout_ms = milliseconds

    def run(self, memory: Memory | None) -> int:
        if memory is not None:
            self.core = memory._core
        try:
            return self._run()
        finally:
            self._forget()

    def get_exit_code(self, memory: Memory | None) -> int:
        return self._exit_code

    def get_stdout_len(self, memory: Memory | None) -> int:
        return len(self._stdout)

    def get_stdout(self, memory: Memory | None, pointer: int) -> None:
        self._window(memory, pointer, len(self._stdout))[:] = self._stdout

    def get_stderr_len(self, memory: Memory | None) -> int:
        return len(self._stderr)

    def get_stderr(self, memory: Memory | None, pointer: int) -> None:
        self._window(memory, pointer, len(self._stderr))[:] = self._stderr

    # Running.

    def _run(self) -> int:
        name = self._name
        if not self._allow_all:
            if name not in self._allowed:
                return self._refuse(_not_allowed(_shown(name)))
            for variable in self._variables:
                if variable.startswith(_LOADER) or variable in _LOADER_NAMES:
                    return self._refuse(_not_set(_shown(variable), _shown(name)))
        path = find(name, self._folder)
        if path is None:
            return self._refuse(f'Command not found: "{_shown(name)}"')
        self._finish(NOT_RUN)
        try:
            outcome = run(
                path,
                [name, *self._arguments],
                self._variables,
                self._folder,
                bytes(self._stdin),
                self._timeout_ms,
                lambda: self.core is not None and self.core.interrupted,
            )
        except (OSError, ValueError) as error:
            return self._refuse(f'Command "{_shown(name)}" cannot be started: {error}')
        if outcome is None:
            return NOT_RUN  # for nobody: the guest's call ends when this returns
        return self._finish(*outcome)

    def _refuse(self, reason: str) -> int:
        return self._finish(NOT_RUN, stderr=f"{reason}\n".encode())


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _not_allowed(name: str) -> str:
    return (
        f'Permission denied: command "{name}" is not in the list of allowed commands. Allow it '
        f"with --allow-command={name} on the command line, or with "
        f"WasmEdgeProcessImportObject(allowed_commands=[{name!r}])."
    )


def _not_set(variable: str, name: str) -> str:
    return (
        f'Permission denied: the variable "{variable}" would make command "{name}" load code that '
        "is not its own. It can be set with WasmEdgeProcessImportObject(allow_all=True) only."
    )


class Row(NamedTuple):
    """One function: its name without the prefix, how many parameters it has, whether it gives
    something; all of them i32."""

    name: str
    parameters: int
    gives: bool
    method: Callable[..., int | None]

    @property
    def function_type(self) -> FunctionType:
        """How modules import it."""
        return FunctionType([ValType.I32] * self.parameters, [ValType.I32] * self.gives)

    def body(self, commands: Commands, memory: Memory | None, *parameters: int) -> int | None:
        """The host function's body."""
        return self.method(commands, memory, *(number & 0xFFFFFFFF for number in parameters))


FUNCTIONS = (
    Row("set_prog_name", 2, False, Commands.set_prog_name),
    Row("add_arg", 2, False, Commands.add_arg),
    Row("add_env", 4, False, Commands.add_env),
    Row("add_stdin", 2, False, Commands.add_stdin),
    Row("set_timeout", 1, False, Commands.set_timeout),
    Row("run", 0, True, Commands.run),
    Row("get_exit_code", 0, True, Commands.get_exit_code),
    Row("get_stdout_len", 0, True, Commands.get_stdout_len),
    Row("get_stdout", 1, False, Commands.get_stdout),
    Row("get_stderr_len", 0, True, Commands.get_stderr_len),
    Row("get_stderr", 1, False, Commands.get_stderr),
)
