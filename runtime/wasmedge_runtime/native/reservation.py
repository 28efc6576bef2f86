"""Reserved address space that becomes accessible in steps and never moves: memories and tables."""

from __future__ import annotations

import ctypes

from . import libc


class Reservation:
    """`size` bytes of address space, the first `committed` of which can be read and written.

    Released when the last holder lets go of it, so views into it keep it alive.
    Raises OSError when the address space is not to be had.
    """

    __slots__ = ("__weakref__", "base", "size")

    def __init__(self, size: int, committed: int = 0) -> None:
        self.size = libc.page_ceil(max(size, 1))
        self.base = 0
        self.base = libc.reserve(self.size)
        if committed:
            self.commit(committed)

    def commit(self, size: int) -> None:
        """Make the first `size` bytes accessible."""
        libc.protect(self.base, libc.page_ceil(size), libc.PROT_READ | libc.PROT_WRITE)

    def view(self, size: int) -> memoryview:
        """A writable view of the first bytes; it holds the reservation."""
        array = (ctypes.c_ubyte * size).from_address(self.base)
        array._reservation = self  # type: ignore[attr-defined]  # ctypes does not own this memory
        return memoryview(array).cast("B")

    def __del__(self) -> None:
        if self.base:
            libc.release(self.base, self.size)
