"""What is known about open files, and changing it: `fd_fdstat_*`, `fd_filestat_*`."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from . import abi
from .abi import FDSTAT, FILESTAT, Errno, WasiError, filetype_of_mode
from .linux import UTIME_NOW, UTIME_OMIT, utimensat

if TYPE_CHECKING:
    from .abi import FileType
    from .state import Wasi

__all__ = ["put_filestat", "set_times"]


def fd_fdstat_get(wasi: Wasi, memory: memoryview, fd: int, result: int) -> None:
    descriptor = wasi.table[fd]
    FDSTAT.pack_into(
        memory,
        result,
        descriptor.filetype,
        descriptor.flags,
        descriptor.rights,
        descriptor.inheriting,
    )


_CHANGEABLE = abi.FDFLAGS_APPEND | abi.FDFLAGS_NONBLOCK


def fd_fdstat_set_flags(wasi: Wasi, memory: memoryview, fd: int, flags: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_FDSTAT_SET_FLAGS)
    changed = flags ^ descriptor.flags
    if changed & ~_CHANGEABLE:
        raise WasiError(Errno.INVAL)  # synchronisation is chosen when a file is opened
    if changed & abi.FDFLAGS_APPEND:
        if descriptor.shared:
            raise WasiError(Errno.NOTSUP)  # the flag would change for others too
        status = fcntl.fcntl(descriptor.fd, fcntl.F_GETFL) & ~os.O_APPEND
        if flags & abi.FDFLAGS_APPEND:
            status |= os.O_APPEND
        fcntl.fcntl(descriptor.fd, fcntl.F_SETFL, status)
    descriptor.flags = flags


def fd_fdstat_set_rights(
    wasi: Wasi, memory: memoryview, fd: int, rights: int, inheriting: int
) -> None:
    descriptor = wasi.table[fd]
    # Rights can be given up, not taken.
    if rights & ~descriptor.rights or inheriting & ~descriptor.inheriting:
        raise WasiError(Errno.NOTCAPABLE)
    descriptor.rights = rights
    descriptor.inheriting = inheriting


def put_filestat(
    memory: memoryview, place: int, status: os.stat_result, filetype: FileType | None = None
) -> None:
    """Write a `filestat`. Times before 1970 have no form: they become 0."""
    FILESTAT.pack_into(
        memory,
        place,
        status.st_dev,
        status.st_ino,
        filetype_of_mode(status.st_mode) if filetype is None else filetype,
        status.st_nlink,
        status.st_size,
        max(status.st_atime_ns, 0),
        max(status.st_mtime_ns, 0),
        max(status.st_ctime_ns, 0),
    )


def fd_filestat_get(wasi: Wasi, memory: memoryview, fd: int, result: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_FILESTAT_GET)
    put_filestat(memory, result, descriptor.status(), descriptor.filetype)


def fd_filestat_set_size(wasi: Wasi, memory: memoryview, fd: int, size: int) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_FILESTAT_SET_SIZE)
    os.ftruncate(descriptor.fd, size)


def fd_filestat_set_times(
    wasi: Wasi, memory: memoryview, fd: int, accessed: int, modified: int, flags: int
) -> None:
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_FILESTAT_SET_TIMES)
    if descriptor.readonly:
        raise WasiError(Errno.ROFS)
    set_times(descriptor.fd, accessed, modified, flags)


def set_times(fd: int, accessed: int, modified: int, flags: int) -> None:
    """Set times as fstflags say; WasiError INVAL when they contradict each other."""
    if flags >= 1 << 4:
        raise WasiError(Errno.INVAL)
    utimensat(
        fd,
        _time(accessed, flags & abi.FST_ATIM, flags & abi.FST_ATIM_NOW),
        _time(modified, flags & abi.FST_MTIM, flags & abi.FST_MTIM_NOW),
    )


def _time(time: int, given: int, now: int) -> int:
    if given and now:
        raise WasiError(Errno.INVAL)
    return time if given else -UTIME_NOW if now else -UTIME_OMIT
