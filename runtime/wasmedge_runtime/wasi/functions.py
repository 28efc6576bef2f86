"""The functions of `wasi_snapshot_preview1`, WasmEdge's included: one table."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from ..types import FunctionType, ValType
from . import clocks, directory, files, metadata, paths, poll, process, resolver, sockets
from .abi import Errno, WasiError, errno_of

__all__ = ["FUNCTIONS", "Row", "make_body"]

Handler = Callable[..., None]


class Row(NamedTuple):
    """One function.

    `parameters` has a letter for each: `i` is a 32-bit number, pointer or descriptor, `l` a 64-bit
    number, both unsigned for the handler; `s` is a signed 64-bit one. The handler is called with
    the state and the memory in front; when it returns, the errno is SUCCESS.
    """

    name: str
    parameters: str
    handler: Handler

    @property
    def function_type(self) -> FunctionType:
        """How modules import it."""
        results = [] if self.name == "proc_exit" else [ValType.I32]
        return FunctionType(map(_TYPES.__getitem__, self.parameters), results)


_TYPES = {"i": ValType.I32, "l": ValType.I64, "s": ValType.I64}
_AS_UNSIGNED = {"i": " & 0xFFFFFFFF", "l": " & 0xFFFFFFFFFFFFFFFF", "s": ""}

FUNCTIONS = (
    Row("args_get", "ii", process.args_get),
    Row("args_sizes_get", "ii", process.args_sizes_get),
    Row("environ_get", "ii", process.environ_get),
    Row("environ_sizes_get", "ii", process.environ_sizes_get),
    Row("clock_res_get", "ii", clocks.clock_res_get),
    Row("clock_time_get", "ili", clocks.clock_time_get),
    Row("fd_advise", "illi", files.fd_advise),
    Row("fd_allocate", "ill", files.fd_allocate),
    Row("fd_close", "i", files.fd_close),
    Row("fd_datasync", "i", files.fd_datasync),
    Row("fd_fdstat_get", "ii", metadata.fd_fdstat_get),
    Row("fd_fdstat_set_flags", "ii", metadata.fd_fdstat_set_flags),
    Row("fd_fdstat_set_rights", "ill", metadata.fd_fdstat_set_rights),
    Row("fd_filestat_get", "ii", metadata.fd_filestat_get),
    Row("fd_filestat_set_size", "il", metadata.fd_filestat_set_size),
    Row("fd_filestat_set_times", "illi", metadata.fd_filestat_set_times),
    Row("fd_pread", "iiili", files.fd_pread),
    Row("fd_prestat_get", "ii", files.fd_prestat_get),
    Row("fd_prestat_dir_name", "iii", files.fd_prestat_dir_name),
    Row("fd_pwrite", "iiili", files.fd_pwrite),
    Row("fd_read", "iiii", files.fd_read),
    Row("fd_readdir", "iiili", directory.fd_readdir),
    Row("fd_renumber", "ii", files.fd_renumber),
    Row("fd_seek", "isii", files.fd_seek),
    Row("fd_sync", "i", files.fd_sync),
    Row("fd_tell", "ii", files.fd_tell),
    Row("fd_write", "iiii", files.fd_write),
    Row("path_create_directory", "iii", paths.path_create_directory),
    Row("path_filestat_get", "iiiii", paths.path_filestat_get),
    Row("path_filestat_set_times", "iiiilli", paths.path_filestat_set_times),
    Row("path_link", "iiiiiii", paths.path_link),
    Row("path_open", "iiiiillii", paths.path_open),
    Row("path_readlink", "iiiiii", paths.path_readlink),
    Row("path_remove_directory", "iii", paths.path_remove_directory),
    Row("path_rename", "iiiiii", paths.path_rename),
    Row("path_symlink", "iiiii", paths.path_symlink),
    Row("path_unlink_file", "iii", paths.path_unlink_file),
    Row("poll_oneoff", "iiii", poll.poll_oneoff),
    Row("proc_exit", "i", process.proc_exit),
    Row("proc_raise", "i", process.proc_raise),
    Row("random_get", "ii", process.random_get),
    Row("sched_yield", "", process.sched_yield),
    Row("sock_accept", "iii", sockets.sock_accept),
    Row("sock_accept", "ii", sockets.sock_accept_v1),
    Row("sock_bind", "iii", sockets.sock_bind),
    Row("sock_connect", "iii", sockets.sock_connect),
    Row("sock_getaddrinfo", "iiiiiiii", resolver.sock_getaddrinfo),
    Row("sock_getlocaladdr", "iii", sockets.sock_getlocaladdr),
    Row("sock_getlocaladdr", "iiii", sockets.sock_getlocaladdr_v1),
    Row("sock_getpeeraddr", "iii", sockets.sock_getpeeraddr),
    Row("sock_getpeeraddr", "iiii", sockets.sock_getpeeraddr_v1),
    Row("sock_getsockopt", "iiiii", sockets.sock_getsockopt),
    Row("sock_listen", "ii", sockets.sock_listen),
    Row("sock_open", "iii", sockets.sock_open),
    Row("sock_recv", "iiiiii", sockets.sock_recv),
    Row("sock_recv_from", "iiiiiiii", sockets.sock_recv_from),
    Row("sock_recv_from", "iiiiiii", sockets.sock_recv_from_v1),
    Row("sock_send", "iiiii", sockets.sock_send),
    Row("sock_send_to", "iiiiiii", sockets.sock_send_to),
    Row("sock_setsockopt", "iiiii", sockets.sock_setsockopt),
    Row("sock_shutdown", "ii", sockets.sock_shutdown),
)
"""A name that stands here twice has two types: a module gets the function of the type that it asks
for, and the first one is what others see."""

_NO_MEMORY = memoryview(bytearray())
"""What a module without a memory has: every pointer is wrong."""


def _failed(error: Exception) -> int:
    """The errno for an exception: other exceptions are this package's mistakes."""
    if isinstance(error, WasiError):
        return error.errno
    if isinstance(error, OSError):
        return errno_of(error)
    if isinstance(error, OverflowError):
        return Errno.INVAL  # an offset or a size that the system has no type for
    return Errno.FAULT


def make_body(row: Row) -> Callable[..., int | None]:
    """The body of a row's host function: `body(wasi, memory, ...)`."""
    body: Callable[..., int | None] = _body_factory(row.parameters)(row.handler)
    body.__name__ = row.name
    return body


@functools.cache
def _body_factory(parameters: str) -> Callable[..., Any]:
    """What makes a body for a handler: compiled once for all functions with these parameters."""
    names = [f"a{i}" for i in range(len(parameters))]
    values = [f"{name}{_AS_UNSIGNED[kind]}" for name, kind in zip(names, parameters, strict=True)]
    source = (
        "def make(handler):\n"
        f"    def body({', '.join(['wasi', 'memory', *names])}):\n"
        "        try:\n"
        "            if memory is None:\n"
        "                view = no_memory\n"
        "            else:\n"
        "                view = memory._content()\n"
        "                wasi.core = memory._core\n"
        f"            handler({', '.join(['wasi', 'view', *values])})\n"
        "        except (WasiError, OSError, OverflowError, StructError) as error:\n"
        "            return int(failed(error))\n"
        "        return 0\n"
        "    return body\n"
    )
    namespace: dict[str, Any] = {
        "no_memory": _NO_MEMORY,
        "failed": _failed,
        "WasiError": WasiError,
        "StructError": struct.error,
    }
    exec(compile(source, "<wasi function>", "exec"), namespace)  # our own text
    make: Callable[..., Any] = namespace["make"]
    return make
