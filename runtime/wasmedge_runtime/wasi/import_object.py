"""WasiImportObject: the host module `wasi_snapshot_preview1`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

from ..function import Function
from ..import_object import ImportObject
from . import abi
from .allow import AllowList
from .descriptors import Descriptor, DescriptorTable
from .functions import FUNCTIONS, make_body
from .state import Wasi
from .streams import Stream, open_stream

__all__ = ["MODULE_NAME", "WasiImportObject"]

MODULE_NAME = "wasi_snapshot_preview1"

Environment: TypeAlias = "Mapping[str, str] | Iterable[str]"
Preopens: TypeAlias = "Mapping[str, str | os.PathLike[str]] | Iterable[str]"

_READONLY = ":readonly"


class WasiImportObject(ImportObject):
    """What a program compiled for WASI sees of the world, for one Store.

    ::

        wasi = WasiImportObject(
            args=["program.wasm", "x"], envs={"LANG": "C"}, preopens=["/data:./data:readonly"]
        )

    Nothing is there that is not given: no arguments, no variables, no folders, no network. The
    standard streams are those of this process unless said otherwise.

    Args:
        args: the program's arguments, with its name in front.
        envs: environment variables, as `"NAME=value"` or as a mapping.
        preopens: folders, as `"guest:host"` or `"guest:host:readonly"`, or as a mapping of guest
            to host. `"path"` alone is the same for both. Relative paths are those of this process
            now. Nothing outside them can be reached.
        stdin, stdout, stderr: None for that of this process, a path, a binary file object, a
            descriptor, `DEVNULL`, or for stdin bytes. An `io.BytesIO` collects what is written.
        allow_sockets: which addresses the program may connect to, send to and listen at, as
            `"ADDRESS:PORT"`; see `docs/wasi.md`.

    Raises:
        TypeError, ValueError: an argument is not what it must be.
        OSError: a folder or a file cannot be opened.
    """

    def __init__(
        self,
        args: Iterable[str] = (),
        envs: Environment = (),
        preopens: Preopens = (),
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        *,
        allow_sockets: Iterable[str] = (),
    ) -> None:
        super().__init__(MODULE_NAME)
        self._wasi = Wasi()
        self.init_wasi(args, envs, preopens, stdin, stdout, stderr, allow_sockets=allow_sockets)
        for name, rows in groupby(FUNCTIONS, attrgetter("name")):
            first, *others = (
                Function(row.function_type, make_body(row), self._wasi) for row in rows
            )
            first.overloads = tuple(others)
            self.add_function(name, first)

    def init_wasi(
        self,
        args: Iterable[str] = (),
        envs: Environment = (),
        preopens: Preopens = (),
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        *,
        allow_sockets: Iterable[str] = (),
    ) -> None:
        """Start anew, with the arguments of the constructor; for use between two runs.

        What the program has opened is closed, and the exit code is 0. When this raises, everything
        stays as it was. Where the arguments stay the same, `restart` is quicker.
        """
        self._check_open()
        # Everything else first: a file for output is emptied only when nothing can be wrong.
        arguments, environment = _arguments(args), _environment(envs)
        allowed = AllowList(allow_sockets)
        descriptors: dict[int, Descriptor] = {}
        for number, (guest, host, readonly) in enumerate(_preopens(preopens), 3):
            descriptors[number] = _open_folder(guest, host, readonly)
        for number, stream in enumerate((stdin, stdout, stderr)):
            opened = open_stream(number, stream)
            if opened is not None:
                descriptors[number] = opened
        self._wasi.start(arguments, environment, DescriptorTable(descriptors), allowed)

    def restart(self) -> None:
        """Start again with what `init_wasi`, or the constructor, was given last; for use before
        each of several runs, the first one included.

        What the program has opened is closed; what it has closed or renumbered is back, with the
        flags and rights it had, in the same open file: no folder and no file is opened again. The
        exit code is 0, and what it has looked up of `allow_sockets` is forgotten. Input that was
        given as bytes begins anew. Other streams go on where they are: an input is not rewound, and
        an output is not emptied.

        It takes a microsecond when the program changed nothing. From the first time on, pipes,
        sockets and terminals that the program closes stay open for whoever has the other end, until
        `init_wasi` or `close()`.

        Raises:
            WasmEdgeError: RuntimeError when such a stream was closed before the first time; nothing
                is changed then.
        """
        self._check_open()
        self._wasi.restart()

    def wasi_get_exit_code(self) -> int:
        """What the program gave to `proc_exit`, 0 when it did not end that way; unsigned."""
        self._check_open()
        return self._wasi.exit_code

    def begin(self) -> None:
        """Forget the exit code of an earlier run: `_start` is about to be called."""
        self._wasi.exit_code = 0
        self._wasi.exited = False

    @property
    def exited(self) -> bool:
        """Whether the program has ended itself, since `init_wasi`, `restart` or `begin`: nothing
        of it is to be called any more."""
        return self._wasi.exited

    def close_descriptors(self) -> None:
        """Close all that the program has open, its standard streams too; the exit code stays."""
        self._wasi.table = DescriptorTable()

    def _release(self) -> None:
        self.close_descriptors()


def _text(what: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise ValueError(f"{what} must not contain a zero character: {value!r}")
    return os.fsencode(value)


def _no_string(what: str, value: object) -> None:
    """A single string is iterable too, and never meant."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{what} must be a sequence, not a single {type(value).__name__}")


def _arguments(args: Iterable[str]) -> list[bytes]:
    _no_string("args", args)
    return [_text("an argument", arg) for arg in args]


def _environment(envs: Environment) -> list[bytes]:
    _no_string("envs", envs)
    if isinstance(envs, Mapping):
        envs = [f"{name}={value}" for name, value in envs.items()]
    variables = [_text("an environment variable", variable) for variable in envs]
    for variable in variables:
        if variable.find(b"=") < 1:
            raise ValueError(f"an environment variable is NAME=value, not {variable.decode()!r}")
    return variables


def _preopens(preopens: Preopens) -> list[tuple[str, str | os.PathLike[str], bool]]:
    """Name for the guest, folder, whether it is read-only."""
    _no_string("preopens", preopens)
    if isinstance(preopens, Mapping):
        return [(guest, host, False) for guest, host in preopens.items()]
    found: list[tuple[str, str | os.PathLike[str], bool]] = []
    for text in preopens:
        if not isinstance(text, str):
            raise TypeError(f"a preopened folder is 'guest:host', not {text!r}")
        guest, colon, host = text.partition(":")
        readonly = host.endswith(_READONLY)
        found.append((guest, host.removesuffix(_READONLY) if colon else guest, readonly))
    return found


def _open_folder(guest: str, host: str | os.PathLike[str], readonly: bool) -> Descriptor:
    name = _text("a preopened folder's name", guest)
    fd = os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Descriptor(fd, abi.ALL_RIGHTS, abi.ALL_RIGHTS, readonly=readonly, name=name)
