"""A module that hands every WASI function on, so that a test calls them one by one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from tests.wat import wat
from wasmedge_runtime import Executor, Function, Loader, Memory, Store, Validator, WasiImportObject
from wasmedge_runtime.wasi import abi
from wasmedge_runtime.wasi.abi import Errno
from wasmedge_runtime.wasi.functions import FUNCTIONS, Row

PREOPENED = 3
"""The descriptor of the first folder."""

FREE = 1024
"""Where the guest's memory is free; results go below."""
RESULT = 64

PAGES = 4


def export_name(row: Row) -> str:
    """Where a name has two types, the second one's number of parameters is in its name."""
    first = next(other for other in FUNCTIONS if other.name == row.name)
    return row.name if first is row else f"{row.name}_{len(row.parameters)}"


def _hand_on(row: Row) -> tuple[str, str]:
    """The import and the function for a row."""
    kinds = " ".join("i32" if kind == "i" else "i64" for kind in row.parameters)
    result = "" if row.name == "proc_exit" else "(result i32)"
    gets = " ".join(f"(local.get {i})" for i in range(len(row.parameters)))
    name = export_name(row)
    return (
        f'(import "wasi_snapshot_preview1" "{row.name}" (func ${name} (param {kinds}) {result}))',
        f'(func (export "{name}") (param {kinds}) {result} (call ${name} {gets}))',
    )


def module_text() -> str:
    """The module, in the text format."""
    parts = [_hand_on(row) for row in FUNCTIONS]
    return "\n".join(
        ["(module", *(one for one, _ in parts), f'(memory (export "memory") {PAGES})']
        + [other for _, other in parts]
        + [")"]
    )


class Guest:
    """A program under the test's control; arguments are those of `WasiImportObject`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.wasi = WasiImportObject(*args, **options)
        self.store, self.executor = Store(), Executor()
        self.executor.register_import(self.store, self.wasi)
        module = Loader().load_buffer(wat(module_text()))
        Validator().validate(module)
        self.exports = self.executor.instantiate(self.store, module).exports
        memory = self.exports["memory"]
        assert isinstance(memory, Memory)
        self.memory = memory
        self._free = FREE

    def call(self, name: str, *args: int) -> Errno:
        """Call a function; its errno."""
        function = self.exports[name]
        assert isinstance(function, Function)
        [number] = function(*args)
        return Errno(number)

    def do(self, name: str, *args: int) -> None:
        """Call a function that has to succeed."""
        assert self.call(name, *args) is Errno.SUCCESS, (name, args)

    # Memory.

    def room(self, size: int) -> int:
        """A place of this size that nothing else uses."""
        place = self._free
        self._free += -(-size // 8) * 8
        return place

    def put(self, data: bytes | str) -> tuple[int, int]:
        """Bytes in memory: where and how many, as paths and buffers are given."""
        content = data.encode() if isinstance(data, str) else data
        place = self.room(len(content))
        self.memory.set_data(content, place)
        return place, len(content)

    def get(self, format: str, place: int = RESULT) -> Any:
        """What a function has written; one value, or a tuple."""
        size = struct.calcsize(format)
        values = struct.unpack(format, self.memory.get_data(place, size))
        return values[0] if len(values) == 1 else values

    def iovec(self, place: int, size: int) -> int:
        """An iovec in memory."""
        return self.put(struct.pack("<II", place, size))[0]

    # What most tests need.

    def open_errno(
        self,
        path: str | bytes,
        oflags: int = 0,
        rights: int = abi.FD_READ | abi.FD_SEEK | abi.FD_TELL | abi.FD_FILESTAT_GET,
        *,
        fd: int = PREOPENED,
        lookup: int = abi.LOOKUP_SYMLINK_FOLLOW,
        inheriting: int = 0,
        fdflags: int = 0,
    ) -> Errno:
        """Open a path; the descriptor is at `RESULT`."""
        data = path.encode() if isinstance(path, str) else path
        return self.call(
            "path_open",
            *(fd, lookup, *self.put(data), oflags, rights, inheriting, fdflags, RESULT),
        )

    def open(self, path: str | bytes, *args: int, **options: int) -> int:
        """Open a path, as `open_errno`, which has to succeed: the descriptor."""
        assert self.open_errno(path, *args, **options) is Errno.SUCCESS, path
        number: int = self.get("<I")
        return number

    def read(self, fd: int, size: int = 4096) -> bytes:
        """What can be read at once."""
        place = self.room(size)
        self.do("fd_read", fd, self.iovec(place, size), 1, RESULT)
        return self.memory.get_data(place, self.get("<I"))

    def write_errno(self, fd: int, data: bytes) -> Errno:
        """Write; how much was written is at `RESULT`."""
        return self.call("fd_write", fd, self.iovec(*self.put(data)), 1, RESULT)

    def write(self, fd: int, data: bytes) -> int:
        """Write, which has to succeed: how much was written."""
        assert self.write_errno(fd, data) is Errno.SUCCESS
        written: int = self.get("<I")
        return written

    def content(self, path: str) -> Errno | bytes:
        """What is in a file, or why it cannot be read."""
        errno = self.open_errno(path)
        if errno:
            return errno
        fd: int = self.get("<I")
        content = self.read(fd)
        self.do("fd_close", fd)
        return content

    def path_call(self, name: str, path: str | bytes, *more: int, fd: int = PREOPENED) -> Errno:
        """Call a function whose first parameters are a directory and a path."""
        data = path.encode() if isinstance(path, str) else path
        return self.call(name, fd, *self.put(data), *more)


def tree(folder: Path, **files: str) -> Path:
    """Make a folder with files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder
