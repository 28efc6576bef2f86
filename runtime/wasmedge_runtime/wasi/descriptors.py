"""What the guest's file descriptors stand for, and the table of them."""

from __future__ import annotations

import os
import resource
import select
from array import array
from typing import TYPE_CHECKING

from . import abi
from .abi import Errno, FileType, WasiError, filetype_of_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .state import Wasi

__all__ = ["Descriptor", "DescriptorTable"]

POLLIN, POLLOUT = select.POLLIN, select.POLLOUT


class Descriptor:
    """One open file, directory or stream; it owns a descriptor of the operating system.

    Args:
        fd: the system's descriptor, which is closed with this object.
        rights: what functions may be called on it, as far as they apply to its type.
        inheriting: the rights of what is opened through it, a directory.
        flags: fdflags.
        readonly: nothing may be changed through it: a directory whose content is not the guest's.
        name: under which a preopened directory is known to the guest.
        shared: others have the same open file, so that its flags are not the guest's to change.
    """

    def __init__(
        self,
        fd: int,
        rights: int,
        inheriting: int = 0,
        flags: int = 0,
        readonly: bool = False,
        name: bytes | None = None,
        shared: bool = False,
    ) -> None:
        self.fd = fd
        self.flags = flags
        self.readonly = readonly
        self.name = name
        self.shared = shared
        self.filetype = filetype_of_mode(os.fstat(fd).st_mode)
        self.waits = self.filetype not in (FileType.REGULAR_FILE, FileType.DIRECTORY)
        """Whether it has to be ready before it is read or written. Streams can block for the
        system: others may have the same open file, so that it cannot be made non-blocking."""
        if self.filetype is FileType.DIRECTORY:
            rights &= abi.DIRECTORY_RIGHTS
        else:
            inheriting = 0
            # Programs take a character device that cannot seek for a terminal.
            rights &= abi.STREAM_RIGHTS if os.isatty(fd) else abi.FILE_RIGHTS
        self.rights = rights
        self.inheriting = inheriting
        self._polls: dict[int, select.poll] = {}
        self.positions = array("q", [0])
        """Of a directory: the system's position behind each entry that was read. Cookies are
        indices of it: the guest's C library has 32 bits for them, and the system uses 64."""

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            os.close(self.fd)
            self.fd = -1

    def require(self, right: int) -> None:
        """Raise unless it has a right: as POSIX does for a directory, and for a file that is not
        open for reading or writing; NOTCAPABLE otherwise."""
        missing = right & ~self.rights
        if not missing:
            return
        if self.filetype is FileType.DIRECTORY and missing & ~abi.DIRECTORY_RIGHTS:
            raise WasiError(Errno.ISDIR)
        if missing & (abi.FD_READ | abi.FD_WRITE):
            raise WasiError(Errno.BADF)
        raise WasiError(Errno.NOTCAPABLE)

    def status(self) -> os.stat_result:
        """What the system knows about it."""
        return os.fstat(self.fd)

    def read(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        """Fill memory with what comes next; the number of bytes, 0 at the end."""
        if not pieces:
            return 0  # what nobody can interrupt must not wait: the module may have no memory
        if self.waits and not self.ready(POLLIN):
            self.wait(wasi, POLLIN)
        while True:
            try:
                return os.readv(self.fd, pieces)
            except BlockingIOError:
                self.wait(wasi, POLLIN)

    def write(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        """Write memory; the number of bytes that were taken.

        A pipe that is ready for some bytes blocks until it has taken all of them; the signals of
        an interruption end that early.
        """
        if not pieces:
            return 0
        if self.waits and not self.ready(POLLOUT):
            self.wait(wasi, POLLOUT)
        if self.shared and self.waits and self.flags & abi.FDFLAGS_NONBLOCK:
            pieces = _first(pieces, select.PIPE_BUF)  # as much as never blocks when it is ready
        while True:
            try:
                return os.writev(self.fd, pieces)
            except BlockingIOError:
                self.wait(wasi, POLLOUT)

    def ready(self, events: int) -> bool:
        """Whether it can be read or written at once."""
        poll = self._polls.get(events)
        if poll is None:
            poll = self._polls[events] = select.poll()
            poll.register(self.fd, events)
        return bool(poll.poll(0))

    def wait(self, wasi: Wasi, events: int) -> None:
        """Wait until it is ready, or raise AGAIN when the guest does not want to wait."""
        if self.flags & abi.FDFLAGS_NONBLOCK:
            raise WasiError(Errno.AGAIN)
        wasi.wait({self.fd: events})


def _first(pieces: Sequence[memoryview], most: int) -> list[memoryview]:
    """The first bytes of pieces."""
    first = []
    for piece in pieces:
        first.append(piece[:most])
        most -= len(first[-1])
        if not most:
            break
    return first


def _most_descriptors() -> int:
    """Half of what this process may open, so that a guest never takes the last one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else min(soft // 2, 1 << 16)


class DescriptorTable:
    """The guest's descriptors by their numbers."""

    def __init__(self) -> None:
        self._open: dict[int, Descriptor] = {}
        self._most = _most_descriptors()
        self._lowest = 0  # no number below is free

    def __getitem__(self, number: int) -> Descriptor:
        """The descriptor of a number; WasiError BADF when there is none."""
        try:
            return self._open[number]
        except KeyError:
            raise WasiError(Errno.BADF) from None

    def put(self, number: int, descriptor: Descriptor) -> None:
        """Give a descriptor a number; what had it is closed."""
        self._open[number] = descriptor

    def check_room(self) -> None:
        """Raise MFILE when the guest has as many descriptors as it may have."""
        if len(self._open) >= self._most:
            raise WasiError(Errno.MFILE)

    def add(self, descriptor: Descriptor) -> int:
        """Give a descriptor the lowest number that is free."""
        self.check_room()
        number = self._lowest
        while number in self._open:
            number += 1
        self._open[number] = descriptor
        self._lowest = number + 1
        return number

    def pop(self, number: int) -> Descriptor:
        """Take a descriptor out; WasiError BADF when there is none."""
        descriptor = self[number]
        del self._open[number]
        self._lowest = min(self._lowest, number)
        return descriptor
