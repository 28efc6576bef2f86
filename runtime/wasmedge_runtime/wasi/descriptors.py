"""What the guest's file descriptors stand for, and the table of them."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import stat
import weakref
from array import array
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import ErrCode, WasmEdgeError
from . import abi
from .abi import Errno, FileType, WasiError, filetype_of_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .state import Wasi

__all__ = ["MOST_WRITTEN", "Descriptor", "DescriptorTable", "above_standard", "behind"]

POLLIN, POLLOUT = select.POLLIN, select.POLLOUT

MOST_WRITTEN = 0x7FFFF000
"""Bytes in one call, as of write(2): pieces may overlap, and be terabytes together."""

_NO_NOWAIT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESPIPE)
"""What kernels answer to RWF_NOWAIT where they do not have it, for a kind of file or at all."""

_WITHOUT_OTHER_END = (FileType.REGULAR_FILE, FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE)
"""Nobody notices when one of these is closed, unless it is a terminal."""


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

    closing_is_seen = False
    """Whether it is an end of something whose other end notices when it is closed."""

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
        self.fd = above_standard(fd)
        self.flags = flags
        self.readonly = readonly
        self.name = name
        self.shared = shared
        self.filetype = filetype_of_mode(os.fstat(self.fd).st_mode)
        self.waits = self.filetype not in (FileType.REGULAR_FILE, FileType.DIRECTORY)
        """Whether it has to be ready before it is read or written. Streams can block for the
        system: others may have the same open file, so that it cannot be made non-blocking."""
        self._nowait = shared and self.waits
        """Whether each call asks the system not to wait: being ready is not enough, because others
        may take the input, or the room, before this program does."""
        if self.filetype is FileType.DIRECTORY:
            rights &= abi.DIRECTORY_RIGHTS
        else:
            inheriting = 0
            terminal = os.isatty(self.fd)
            # Programs take a character device that cannot seek for a terminal.
            rights &= abi.STREAM_RIGHTS if terminal else abi.FILE_RIGHTS
            self.closing_is_seen = terminal or self.filetype not in _WITHOUT_OTHER_END
        self.rights = rights
        self.inheriting = inheriting
        self._polls: dict[int, select.poll] = {}
        self.positions = array("q", [0])
        """Of a directory: the system's position behind each entry that was read. Cookies are
        indices of it: the guest's C library has 32 bits for them, and the system uses 64."""
        self._configured = (flags, rights, inheriting)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            os.close(self.fd)
            self.fd = -1

    def restart(self) -> None:
        """Forget what a program changed that used it, but for the position in a file."""
        self.flags, self.rights, self.inheriting = self._configured
        del self.positions[1:]

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
        while True:
            try:
                if self._nowait and (size := self._try(os.preadv, pieces)) is not None:
                    return size
                if self.waits and not self.ready(POLLIN):
                    self.wait(wasi, POLLIN)
                return os.readv(self.fd, pieces)
            except BlockingIOError:
                self.wait(wasi, POLLIN)

    def write(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        """Write memory; the number of bytes that were taken.

        A stream takes all of them, as one that blocks does, unless the guest does not want to wait.
        """
        if not pieces:
            return 0
        wanted = min(sum(map(len, pieces)), MOST_WRITTEN)
        total = 0
        while True:
            try:
                size = self._write_some(wasi, pieces)
            except BlockingIOError:
                if total and self.flags & abi.FDFLAGS_NONBLOCK:
                    return total
                self.wait(wasi, POLLOUT)
                continue
            except OSError:
                if total:
                    return total  # the next call meets the error again
                raise
            total += size
            if not size or total >= wanted or not (self.shared and self.waits):
                return total
            wasi.check_interrupted()
            pieces = behind(pieces, size)

    def _write_some(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        """Write what there is room for."""
        if self._nowait and (size := self._try(os.pwritev, pieces)) is not None:
            return size
        nonblock = self.flags & abi.FDFLAGS_NONBLOCK
        if self.waits and not self.ready(POLLOUT):
            if nonblock:
                raise BlockingIOError
            self.wait(wasi, POLLOUT)
        if self.shared and self.waits and nonblock:
            pieces = _first(pieces, select.PIPE_BUF)  # as much as never blocks when it is ready
        return os.writev(self.fd, pieces)

    def _try(
        self,
        transfer: Callable[[int, Sequence[memoryview], int, int], int],
        pieces: Sequence[memoryview],
    ) -> int | None:
        """Read or write at the current position without waiting.

        None when the system cannot for this file. Then it has got, where possible, an open file of
        its own that does not block.

        Raises:
            BlockingIOError: nothing can be transferred now.
        """
        try:
            return transfer(self.fd, pieces, -1, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in _NO_NOWAIT:
                raise
        self._nowait = self._open_again()
        return None

    def _open_again(self) -> bool:
        """Give a named pipe or a terminal an open file of its own, which does not block.

        Returns:
            Whether that may be possible later, because a pipe has nobody at its other end now.
        """
        status = os.fstat(self.fd)
        if not (stat.S_ISFIFO(status.st_mode) or os.isatty(self.fd)) or status.st_rdev == _PTMX:
            return False
        mode = fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_ACCMODE
        flags = mode | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            opened = os.open(f"/proc/self/fd/{self.fd}", flags)
        except OSError as error:  # without rights to open it, or without /proc
            return error.errno == errno.ENXIO  # nobody reads it
        try:
            # A pipe without writers is at its end for who has seen one only. Asked when the new
            # one is open: it sees those that come from now on.
            poll = select.poll()
            poll.register(self.fd, 0)
            if poll.poll(0):
                return True
            os.dup2(opened, self.fd, inheritable=False)
        finally:
            os.close(opened)
        return False

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


_PTMX = os.makedev(5, 2)
"""The main side of a terminal: opening it makes another terminal."""


def above_standard(fd: int) -> int:
    """The same open file under a number above those of the standard streams; `fd` is closed when
    it is one of these, which this process has without having the stream: `print` would write into
    the guest's file."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def behind(pieces: Sequence[memoryview], done: int) -> list[memoryview]:
    """What is left of pieces of which the first bytes are done with."""
    left = []
    for piece in pieces:
        if done < len(piece):
            left.append(piece[done:])
        done = max(done - len(piece), 0)
    return left


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
    """The guest's descriptors by their numbers.

    Args:
        configured: those that a program begins with.
    """

    def __init__(self, configured: Mapping[int, Descriptor] = MappingProxyType({})) -> None:
        self._open = dict(configured)
        self._originals: dict[int, Descriptor] | None = None
        """What `restart` goes back to, once it has been called. Before, a pipe that the program
        closes is closed: others may wait for its end."""
        self._configured = {
            number: weakref.ref(descriptor) if descriptor.closing_is_seen else descriptor
            for number, descriptor in configured.items()
        }
        self._most = _most_descriptors()
        self._lowest = 0  # no number below is free

    def __getitem__(self, number: int) -> Descriptor:
        """The descriptor of a number; WasiError BADF when there is none."""
        try:
            return self._open[number]
        except KeyError:
            raise WasiError(Errno.BADF) from None

    def restart(self) -> None:
        """Begin anew with the configured descriptors; others are closed.

        Raises:
            WasmEdgeError: RuntimeError, one of them was closed before this was called first, which
                others have seen.
        """
        originals = self._originals
        if originals is None:
            originals = self._originals = self._take_originals()
        for descriptor in originals.values():
            descriptor.restart()
        if self._open != originals:
            self._open = originals.copy()
            self._lowest = 0

    def _take_originals(self) -> dict[int, Descriptor]:
        originals = {}
        for number, kept in self._configured.items():
            descriptor = kept() if isinstance(kept, weakref.ref) else kept
            if descriptor is None:
                raise WasmEdgeError(
                    ErrCode.RuntimeError,
                    f"cannot restart: the program has closed its descriptor {number}, a stream "
                    "that others have the other end of; call restart() before the first run, too, "
                    "which keeps it open, or init_wasi() instead",
                )
            originals[number] = descriptor
        return originals

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
