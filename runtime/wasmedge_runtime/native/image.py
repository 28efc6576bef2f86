"""The initial content of a memory as a file without a name, mapped copy-on-write by instances."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable

from . import libc

_MFD_NOEXEC_SEAL = 0x0008  # since Linux 6.3; os does not name it
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Image:
    """The bytes `start` to `end` of a memory, both multiples of the system's page size.

    It is sealed: nothing can change it any more, and no access to a mapping of it can fail because
    it became shorter. A mapping does not need the image, which goes with its last holder.

    Args:
        pieces: (offset in the memory, content) within these bytes; later ones win. All else is 0.

    Raises:
        OSError: the system has no such files, or no room or no descriptor for one.
    """

    __slots__ = ("_descriptor", "end", "start")

    def __init__(self, start: int, end: int, pieces: Iterable[tuple[int, memoryview]]) -> None:
        self.start = start
        self.end = end
        self._descriptor = -1
        self._descriptor = descriptor = _create()
        os.ftruncate(descriptor, end - start)
        with open(descriptor, "wb", closefd=False) as file:
            for offset, content in pieces:
                file.seek(offset - start)
                file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)

    def map_at(self, base: int) -> None:
        """Put it into the memory that begins at an address, in the place of what is there.

        Raises:
            OSError: the system refuses.
        """
        libc.map_file(base + self.start, self.end - self.start, self._descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _create() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("wasm-memory", flags | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create("wasm-memory", flags)
