"""Reading, writing and moving around in open files: the `fd_` functions for content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import abi
from .abi import PRESTAT, U32, U64, Errno, WasiError
from .guest import buffers, window
from .linux import fallocate

if TYPE_CHECKING:
    from .state import Wasi


def fd_read(wasi: Wasi, memory: memoryview, fd: int, iovs: int, count: int, read: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_READ)
    U32.pack_into(memory, read, descriptor.read(wasi, buffers(memory, iovs, count)))


def fd_write(wasi: Wasi, memory: memoryview, fd: int, iovs: int, count: int, written: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_WRITE)
    U32.pack_into(memory, written, descriptor.write(wasi, buffers(memory, iovs, count)))


def fd_pread(
    wasi: Wasi, memory: memoryview, fd: int, iovs: int, count: int, offset: int, read: int
) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_READ | abi.FD_SEEK)
    U32.pack_into(memory, read, os.preadv(descriptor.fd, buffers(memory, iovs, count), offset))


def fd_pwrite(
    wasi: Wasi, memory: memoryview, fd: int, iovs: int, count: int, offset: int, written: int
) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_WRITE | abi.FD_SEEK)
    U32.pack_into(memory, written, os.pwritev(descriptor.fd, buffers(memory, iovs, count), offset))


_WHENCE = {
    abi.WHENCE_SET: os.SEEK_SET,
    abi.WHENCE_CUR: os.SEEK_CUR,
    abi.WHENCE_END: os.SEEK_END,
}


def fd_seek(
    wasi: Wasi, memory: memoryview, fd: int, offset: int, whence: int, position: int
) -> None:
    descriptor = wasi.table[fd]
    if whence not in _WHENCE:
        raise WasiError(Errno.INVAL)
    # Asking where one is needs the right to tell only.
    asking = whence == abi.WHENCE_CUR and offset == 0
    descriptor.require(abi.FD_TELL if asking else abi.FD_SEEK)
    U64.pack_into(memory, position, os.lseek(descriptor.fd, offset, _WHENCE[whence]))


def fd_tell(wasi: Wasi, memory: memoryview, fd: int, position: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_TELL)
    U64.pack_into(memory, position, os.lseek(descriptor.fd, 0, os.SEEK_CUR))


# By the number of witx, which is not that of Linux.
_ADVICE = (
    os.POSIX_FADV_NORMAL,
    os.POSIX_FADV_SEQUENTIAL,
    os.POSIX_FADV_RANDOM,
    os.POSIX_FADV_WILLNEED,
    os.POSIX_FADV_DONTNEED,
    os.POSIX_FADV_NOREUSE,
)


def fd_advise(
    wasi: Wasi, memory: memoryview, fd: int, offset: int, length: int, advice: int
) -> None:
    descriptor = wasi.table[fd]
    if advice >= len(_ADVICE):
        raise WasiError(Errno.INVAL)
    descriptor.require(abi.FD_ADVISE)
    os.posix_fadvise(descriptor.fd, offset, length, _ADVICE[advice])


def fd_allocate(wasi: Wasi, memory: memoryview, fd: int, offset: int, length: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_ALLOCATE)
    fallocate(descriptor.fd, offset, length)


def fd_sync(wasi: Wasi, memory: memoryview, fd: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_SYNC)
    os.fsync(descriptor.fd)


def fd_datasync(wasi: Wasi, memory: memoryview, fd: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_DATASYNC)
    os.fdatasync(descriptor.fd)


def fd_close(wasi: Wasi, memory: memoryview, fd: int) -> None:
    wasi.table.pop(fd)


def fd_renumber(wasi: Wasi, memory: memoryview, fd: int, to: int) -> None:
    # Both must be open: a guest does not choose numbers.
    wasi.table[fd], wasi.table[to]
    if fd != to:
        wasi.table.put(to, wasi.table.pop(fd))


def fd_prestat_get(wasi: Wasi, memory: memoryview, fd: int, result: int) -> None:
    PRESTAT.pack_into(memory, result, 0, len(_preopened_name(wasi, fd)))


def fd_prestat_dir_name(wasi: Wasi, memory: memoryview, fd: int, place: int, length: int) -> None:
    name = _preopened_name(wasi, fd)
    if length < len(name):
        raise WasiError(Errno.NAMETOOLONG)
    window(memory, place, len(name))[:] = name


def _preopened_name(wasi: Wasi, fd: int) -> bytes:
    # Programs ask for 3, 4, ... until they get BADF.
    name = wasi.table[fd].name
    if name is None:
        raise WasiError(Errno.BADF)
    return name
