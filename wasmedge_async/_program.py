"""What a WASI program is given, on its way to a worker: checked, and with paths that stay right."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TypeAlias

__all__ = ["Environment", "Preopens", "Program", "arguments", "environment", "folders", "texts"]

Environment: TypeAlias = "Mapping[str, str] | Iterable[str]"
Preopens: TypeAlias = "Mapping[str, str | os.PathLike[str]] | Iterable[str]"
Program: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview"

_READONLY = ":readonly"


def texts(what: str, values: Iterable[str]) -> tuple[str, ...]:
    """A sequence of str; `what` they are, for messages.

    Raises:
        TypeError: they are not that.
    """
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{what} must be a sequence, not a single {type(values).__name__}")
    texts = tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{what} must be str, not {type(text).__name__}")
    return texts


def arguments(args: Iterable[str]) -> tuple[str, ...]:
    """A program's arguments.

    Raises:
        TypeError: they are not a sequence of str.
    """
    return texts("args", args)


def environment(envs: Environment) -> tuple[str, ...]:
    """A program's variables, as `NAME=value`.

    Raises:
        TypeError: they are neither a mapping nor a sequence of str.
    """
    if isinstance(envs, Mapping):
        return tuple(f"{name}={value}" for name, value in envs.items())
    return texts("environment variables", envs)


def folders(preopens: Preopens) -> tuple[str, ...]:
    """A program's folders, as `guest:host` or `guest:host:readonly`. Relative host paths are those
    of this process, now: the worker has another working directory.

    Raises:
        TypeError: they are neither a mapping nor a sequence of str.
    """
    if isinstance(preopens, Mapping):
        found = [(guest, os.fspath(host), "") for guest, host in preopens.items()]
    else:
        found = []
        for text in texts("preopens", preopens):
            guest, colon, host = text.partition(":")
            readonly = _READONLY if host.endswith(_READONLY) else ""
            found.append((guest, host.removesuffix(_READONLY) if colon else guest, readonly))
    return tuple(f"{guest}:{os.path.abspath(host)}{readonly}" for guest, host, readonly in found)


def program_of(program: Program) -> tuple[bytes | None, bytes | None, str]:
    """A program's path or its bytes, and its name.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(program, (bytes, bytearray, memoryview)):
        return None, bytes(program), "program.wasm"
    path = os.fspath(program)
    return os.fsencode(os.path.abspath(path)), None, os.path.basename(path)
