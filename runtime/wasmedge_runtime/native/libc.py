"""The C library through ctypes: typed, with errors raised as OSError."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x02, 0x10, 0x20, 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_longlong,
]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_mprotect = _libc.mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MADV_DONTNEED = 4


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def reserve(size: int) -> int:
    """Reserve `size` bytes of address space without access; OSError when there is none."""
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    address = _mmap(None, size, PROT_NONE, flags, -1, 0)
    if address is None or address == _MAP_FAILED:
        raise _error("mmap")
    return int(address)


def map_file(address: int, size: int, descriptor: int, offset: int) -> None:
    """Put a copy-on-write mapping of a part of a file in the place of what is mapped there."""
    flags = _MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE
    if _mmap(address, size, PROT_READ | PROT_WRITE, flags, descriptor, offset) != address:
        raise _error("mmap")


def protect(address: int, size: int, protection: int) -> None:
    if _mprotect(address, size, protection) != 0:
        raise _error("mprotect")


def release(address: int, size: int) -> None:
    if _munmap(address, size) != 0:
        raise _error("munmap")


def discard(address: int, size: int) -> None:
    """Give the pages back to the system; anonymous ones read as zero afterwards."""
    if _madvise(address, size, _MADV_DONTNEED) != 0:
        raise _error("madvise")


def function_address(name: str) -> int:
    """Address of a C library function, for code that LLVM generates."""
    try:
        function = getattr(_libc, name)
    except AttributeError:
        function = getattr(ctypes.CDLL("libm.so.6"), name)
    address = ctypes.cast(function, ctypes.c_void_p).value
    if address is None:
        raise OSError(f"the C library has no {name}")
    return address


def library() -> ctypes.CDLL:
    """The C library itself, for callers that declare further functions."""
    return _libc


def page_ceil(size: int) -> int:
    """`size` rounded up to whole pages of the operating system."""
    return -(-size // PAGE_BYTES) * PAGE_BYTES
