"""Opening paths so that nothing outside a directory can be reached.

The kernel does it where it can: `openat2` with RESOLVE_BENEATH refuses `..` above the directory,
absolute paths, and symbolic links to either, also those that are put in while it walks. Where there
is no such call (or a filter forbids it), the path is walked here, one descriptor after the other:
no step follows a link by itself, and `..` goes back to the descriptor it came from. No path is ever
put together as text, so that nothing can change between a check and its use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from .abi import Errno, WasiError
from .linux import O_PATH, openat2

__all__ = ["open_beneath", "open_parent", "open_walking"]

_MOST_LINKS = 40  # as in the kernel (path_resolution(7))
_MOST_FOLDERS = 256  # that a walk holds open: the path of a guest can have thousands
_ATTEMPTS = 100

Opener = Callable[[int, bytes, int, int], int]


def open_beneath(directory: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open a path beneath a directory; the caller closes the descriptor.

    Args:
        directory: the system's descriptor of it.
        path: relative to it; symbolic links count from where they are.
        flags: of open(2); with O_NOFOLLOW, a link at the end is not followed.
        mode: of a file that is made.

    Raises:
        WasiError: PERM when the path leads outside.
        OSError: what the system says.
    """
    global _opener
    if _opener is None:
        _opener = _choose()
    return _opener(directory, path, flags, mode)


def _choose() -> Opener:
    """What this system allows."""
    here = os.open("/", O_PATH | os.O_DIRECTORY)
    try:
        os.close(openat2(here, b".", O_PATH, 0))
    except OSError:
        return open_walking
    finally:
        os.close(here)
    return open_by_kernel


_opener: Opener | None = None


def open_by_kernel(directory: int, path: bytes, flags: int, mode: int) -> int:
    """`open_beneath` by one call of openat2(2)."""
    for _ in range(_ATTEMPTS):
        try:
            return openat2(directory, path, flags, mode)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise WasiError(Errno.PERM) from None
            if error.errno != errno.EAGAIN:
                raise
            # Something was renamed or mounted meanwhile, and `..` could have led outside.
    return open_walking(directory, path, flags, mode)


def open_walking(directory: int, path: bytes, flags: int, mode: int) -> int:
    """`open_beneath`, descriptor by descriptor."""
    walk = _Walk(directory, path)
    try:
        return walk.open(flags | os.O_CLOEXEC, mode)
    finally:
        walk.close()


class _Walk:
    """A path on its way: the directories above, and the names that are left."""

    def __init__(self, directory: int, path: bytes) -> None:
        self._above = [directory]  # the first is the caller's
        self._left: list[bytes] = []
        self._links = 0
        self._push(path)

    def close(self) -> None:
        for descriptor in self._above[1:]:
            os.close(descriptor)

    def _push(self, path: bytes) -> None:
        """Put the names of a path in front of those that are left."""
        if path.startswith(b"/"):
            raise WasiError(Errno.PERM)
        if not path:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        names = [name for name in path.split(b"/") if name]
        if path.endswith(b"/"):
            names.append(b".")  # what is in front must be a directory
        self._left += reversed(names)

    def _enter(self, name: bytes) -> None:
        """Go on through a name that is not the last: a directory, a link, or `.` or `..`."""
        if name == b".":
            return
        if name == b"..":
            if len(self._above) == 1:
                raise WasiError(Errno.PERM)
            os.close(self._above.pop())
            return
        if len(self._above) > _MOST_FOLDERS:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        there = os.open(name, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._above[-1])
        kind = os.fstat(there).st_mode
        if stat.S_ISDIR(kind):
            self._above.append(there)
            return
        try:
            if not stat.S_ISLNK(kind):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._follow(os.readlink(b"", dir_fd=there))
        finally:
            os.close(there)

    def _follow(self, target: bytes) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._push(target)

    def open(self, flags: int, mode: int) -> int:
        """Walk to the end, and open what is there."""
        while True:
            while len(self._left) > 1:
                self._enter(self._left.pop())
            name = self._left.pop()
            if name in (b".", b".."):
                self._enter(name)
                return os.open(b".", flags & ~os.O_NOFOLLOW, mode, dir_fd=self._above[-1])
            if flags & os.O_NOFOLLOW or (flags & os.O_CREAT and flags & os.O_EXCL):
                return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self._above[-1])
            target = self._target(name)
            if target is not None:
                self._follow(target)
                continue
            descriptor = self._open_no_link(name, flags, mode)
            if descriptor is not None:
                return descriptor
            self._follow(name)  # a link has come there meanwhile: look again

    def _target(self, name: bytes) -> bytes | None:
        """Where a link leads; None for what is no link, or not there."""
        try:
            return os.readlink(name, dir_fd=self._above[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def _open_no_link(self, name: bytes, flags: int, mode: int) -> int | None:
        """Open the last name; None when it is a link."""
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self._above[-1])
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise
        # With O_PATH, a link itself is opened.
        if flags & O_PATH and stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor


def open_parent(directory: int, path: bytes, dots: Errno) -> tuple[int, bytes]:
    """Open the directory in which the last name of a path is, for functions that take a name.

    Returns the descriptor, which the caller closes, and the name, with one slash behind it if the
    path had one: the system's functions know what that means. It is never `.` or `..`, which could
    be outside.

    Raises:
        WasiError: PERM when the path leads outside; `dots` when it ends in `.` or `..`.
        OSError: what the system says.
    """
    if path.startswith(b"/"):
        raise WasiError(Errno.PERM)
    stripped = path.rstrip(b"/")
    parent, _, name = stripped.rpartition(b"/")
    if name in (b".", b".."):
        os.close(open_beneath(directory, path, O_PATH | os.O_DIRECTORY))
        raise WasiError(dots)
    if stripped != path:
        name += b"/"
    return open_beneath(directory, parent or b".", O_PATH | os.O_DIRECTORY), name
