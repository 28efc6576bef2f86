"""System calls that Python's `os` does not have, or not with the arguments needed here."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from struct import Struct
from typing import ClassVar

from ..native import libc

__all__ = ["O_PATH", "UTIME_NOW", "UTIME_OMIT", "fallocate", "getdents", "openat2", "utimensat"]

O_PATH = os.O_PATH
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

_SYS_OPENAT2 = 437  # the same on all architectures
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_AT_EMPTY_PATH = 0x1000


class _OpenHow(ctypes.Structure):
    _fields_: ClassVar = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


class _Timespec(ctypes.Structure):
    _fields_: ClassVar = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


_library = libc.library()

# Prototypes of their own: the library object is shared, and others declare functions in it.
_syscall = ctypes.CFUNCTYPE(
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_char_p,
    ctypes.POINTER(_OpenHow),
    ctypes.c_size_t,
    use_errno=True,
)(("syscall", _library))
_utimensat = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_Timespec * 2),
    ctypes.c_int,
    use_errno=True,
)(("utimensat", _library))
_fallocate = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64, use_errno=True
)(("fallocate64", _library))
_getdents64 = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, use_errno=True
)(("getdents64", _library))


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def openat2(directory: int, path: bytes, flags: int, mode: int) -> int:
    """Open a path that must stay beneath a directory, without magic links (see proc(5)).

    Raises:
        OSError: EXDEV when it leads outside; EAGAIN when the kernel could not be sure, because
            something was renamed meanwhile; ENOSYS or EPERM where there is no such call.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    descriptor = _syscall(_SYS_OPENAT2, directory, path, how, ctypes.sizeof(how))
    if descriptor < 0:
        raise _failed()
    return int(descriptor)


def utimensat(descriptor: int, accessed: int, modified: int) -> None:
    """Set the times of what a descriptor names, which may be one of O_PATH.

    A time is in nanoseconds since 1970, or UTIME_NOW or UTIME_OMIT, negated.
    """
    times = (_Timespec * 2)()
    for place, time in zip(times, (accessed, modified), strict=True):
        if time < 0:
            place.nanoseconds = -time
        else:
            place.seconds, place.nanoseconds = divmod(time, 1_000_000_000)
    if _utimensat(descriptor, b"", times, _AT_EMPTY_PATH) != 0:
        raise _failed()


def fallocate(descriptor: int, offset: int, length: int) -> None:
    """Reserve room in a file, which grows where that is behind its end.

    `os.posix_fallocate` writes into every block where the file system cannot do this, which takes
    as long as the guest likes.

    Raises:
        OSError: EOPNOTSUPP among others.
    """
    if _fallocate(descriptor, 0, offset, length) != 0:
        raise _failed()


_ENTRY = Struct("<QqHB")  # inode, offset of the next entry, size of this one, type; then the name
_PORTION = 1 << 15


def getdents(directory: int, offset: int) -> Iterator[tuple[int, int, int, bytes]]:
    """The entries of a directory from an offset on: (next offset, inode, DT_ type, name).

    Offsets are the kernel's own (telldir), so that they stay valid while entries come and go.
    """
    os.lseek(directory, offset, os.SEEK_SET)
    portion = ctypes.create_string_buffer(_PORTION)
    while (size := _getdents64(directory, portion, _PORTION)) > 0:
        data = portion.raw[:size]
        at = 0
        while at < size:
            inode, following, length, kind = _ENTRY.unpack_from(data, at)
            name = data[at + _ENTRY.size : at + length]
            yield following, inode, kind, name[: name.index(b"\0")]
            at += length
    if size < 0:
        raise _failed()
