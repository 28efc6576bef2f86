"""The content of a memory as a file without a name, mapped copy-on-write by instances."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence

from . import libc

_MFD_NOEXEC_SEAL = 0x0008  # since Linux 6.3; os does not name it
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Image:
    """What is in some parts of a memory.

    It is sealed: nothing can change it any more, and no access to a mapping of it can fail because
    it became shorter. A mapping does not need the image, which goes with its last holder.

    Args:
        extents: where the parts begin and end in the memory, in ascending order; multiples of the
            system's page size.
        pieces: (offset in the memory, content) within one of them; later ones win. All else is 0,
            and takes memory only when it is read.

    Raises:
        OSError: the system has no such files, or no room or no descriptor for one.
    """

    __slots__ = ("_descriptor", "_start", "extents")

    def __init__(
        self, extents: Sequence[tuple[int, int]], pieces: Iterable[tuple[int, memoryview]]
    ) -> None:
        self.extents = tuple(extents)
        self._start = start = self.extents[0][0]
        end = self.extents[-1][1]
        self._descriptor = -1
        self._descriptor = descriptor = _create()
        os.ftruncate(descriptor, end - start)
        with open(descriptor, "wb", closefd=False) as file:
            for offset, content in pieces:
                file.seek(offset - start)
                file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)

    def map_at(self, base: int) -> None:
        """Put it into the memory that begins at an address, in the place of what is there: some of
        the parts when it fails.

        Raises:
            OSError: the system refuses.
        """
        for start, end in self.extents:
            libc.map_file(base + start, end - start, self._descriptor, start - self._start)

    def read(self) -> list[tuple[int, bytes]]:
        """The parts: offset in the memory, and content."""
        with open(self._descriptor, "rb", closefd=False) as file:
            parts = []
            for start, end in self.extents:
                file.seek(start - self._start)
                parts.append((start, file.read(end - start)))
            return parts

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _create() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("wasm-memory", flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create("wasm-memory", flags)
