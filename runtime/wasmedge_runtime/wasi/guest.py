"""Reading and writing what pointers of the guest name: every range is checked.

A pointer that leads outside the memory ends the call with FAULT: as `WasiError` from here, as
`struct.error` from `Struct.unpack_from` and `pack_into`, which check by themselves. Pointers and
lengths are unsigned (the import object masks them), so that none counts from the end.
"""

from __future__ import annotations

from .abi import PAIR, Errno, WasiError

__all__ = ["IOV_MAX", "PATH_MAX", "buffers", "path", "window"]

IOV_MAX = 1024
"""As many pieces go to the system in one call; what is left over makes a short read or write."""

PATH_MAX = 4096
"""What the kernel takes, the final zero included: longer paths are refused before they are read."""


def window(memory: memoryview, pointer: int, length: int) -> memoryview:
    """The `length` bytes at `pointer`, not copied."""
    end = pointer + length
    if end > len(memory):
        raise WasiError(Errno.FAULT)
    return memory[pointer:end]


def buffers(memory: memoryview, pointer: int, count: int) -> list[memoryview]:
    """The pieces that an array of `count` iovecs names, the first `IOV_MAX` of them."""
    size = len(memory)
    if pointer + 8 * count > size:
        raise WasiError(Errno.FAULT)
    pieces = []
    for at in range(pointer, pointer + 8 * min(count, IOV_MAX), 8):
        start, length = PAIR.unpack_from(memory, at)
        if start + length > size:
            raise WasiError(Errno.FAULT)
        pieces.append(memory[start : start + length])
    return pieces


def path(memory: memoryview, pointer: int, length: int) -> bytes:
    """A path as the guest gives it: bytes without a final zero.

    Raises:
        WasiError: FAULT; NAMETOOLONG; INVAL for a zero inside; NOENT for an empty one.
    """
    if length >= PATH_MAX:
        raise WasiError(Errno.NAMETOOLONG)
    text = window(memory, pointer, length).tobytes()
    if not text:
        raise WasiError(Errno.NOENT)
    if b"\0" in text:
        raise WasiError(Errno.INVAL)
    return text
