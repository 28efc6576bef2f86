"""Standard input, output and error of a program."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from . import abi
from .abi import FileType
from .descriptors import MOST_WRITTEN, Descriptor

if TYPE_CHECKING:
    from .state import Wasi

    class Reads(Protocol):
        """A file object without a descriptor, to read from."""

        def read(self, size: int, /) -> bytes: ...

    class Writes(Protocol):
        """A file object without a descriptor, to write to."""

        def write(self, data: bytes, /) -> int | None: ...


__all__ = ["DEVNULL", "Stream", "open_stream"]

Stream: TypeAlias = """
    int | bytes | bytearray | memoryview | str | os.PathLike[str] | IO[Any] | Reads | Writes | None
"""
"""None (the stream of this process), a path, a file object, a descriptor, content, or DEVNULL."""

DEVNULL = -3
"""That of `subprocess`, whose import would take as long as that of all streams here."""

_PORTION = 1 << 20

_OBJECT_RIGHTS = abi.FD_READ | abi.FD_WRITE | abi.POLL_FD_READWRITE | abi.FD_FILESTAT_GET


# A stream is read or appended to: what a log had before, and when somebody else's file was changed,
# is not the guest's, also where the system would allow it.
_NO_STREAM_RIGHTS = abi.FD_ALLOCATE | abi.FD_FILESTAT_SET_SIZE | abi.FD_FILESTAT_SET_TIMES


class _ObjectStream(Descriptor):
    """A file object of Python without a descriptor of the system, such as `io.BytesIO`."""

    def __init__(self, file: Any, rights: int) -> None:
        self.fd = -1
        self.flags = 0
        self.readonly = False
        self.name = None
        self.shared = True
        self.filetype = FileType.UNKNOWN
        self.waits = False
        self.rights = self._configured_rights = rights & _OBJECT_RIGHTS
        self.inheriting = 0
        self._file = file

    def restart(self) -> None:
        self.flags, self.rights, self.inheriting = 0, self._configured_rights, 0

    def status(self) -> os.stat_result:
        """C libraries ask for it before they buffer a stream; it is as little as `DEVNULL`."""
        return os.stat(os.devnull)

    def read(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        for piece in pieces:
            if len(piece):
                data = self._file.read(min(len(piece), _PORTION))
                piece[: len(data)] = data
                return len(data)
        return 0

    def write(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        total = 0
        for piece in pieces:
            for start in range(0, len(piece), _PORTION):
                data = piece[start : start + _PORTION].tobytes()
                taken = self._file.write(data)
                total += len(data) if taken is None else taken
                if (taken is not None and taken < len(data)) or total >= MOST_WRITTEN:
                    return total
                wasi.check_interrupted()
        return total


class _Content(_ObjectStream):
    """Input that is given as a whole, and read from its beginning again by each run."""

    def __init__(self, content: bytes | bytearray | memoryview, rights: int) -> None:
        super().__init__(io.BytesIO(content), rights)

    def restart(self) -> None:
        super().restart()
        self._file.seek(0)


def open_stream(number: int, stream: Stream) -> Descriptor | None:
    """The descriptor for standard stream 0, 1 or 2.

    None when the stream is to be that of this process, which has none.

    Raises:
        TypeError: it is none of the things that a stream can be.
        OSError: the file cannot be opened.
    """
    rights = abi.ALL_RIGHTS & ~(abi.FD_WRITE if number == 0 else abi.FD_READ) & ~_NO_STREAM_RIGHTS
    if stream is None:
        try:
            return Descriptor(os.dup(number), rights, shared=True)
        except OSError:
            return None
    if isinstance(stream, (bytes, bytearray, memoryview)):
        if number:
            raise TypeError(
                "bytes can be read only: pass an io.BytesIO() as stdout or stderr "
                "to collect what is written"
            )
        return _Content(stream, rights)
    if isinstance(stream, int):
        if stream == DEVNULL:
            return Descriptor(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), rights, shared=True)
        return Descriptor(os.dup(stream), rights, shared=True)
    if isinstance(stream, (str, os.PathLike)):
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC if number else os.O_RDONLY
        return Descriptor(os.open(stream, flags | os.O_CLOEXEC, 0o666), rights, shared=True)
    return _open_file(number, stream, rights)


def _open_file(number: int, file: Any, rights: int) -> Descriptor:
    """A file object: by its descriptor, if it has one, else by its methods."""
    if not hasattr(file, "write" if number else "read"):
        raise TypeError(
            f"a stream is None, a path, a file object, {'' if number else 'bytes, '}"
            f"a file descriptor or DEVNULL, not {type(file).__name__}"
        )
    try:
        fd = file.fileno()
    except (AttributeError, OSError):
        if isinstance(file, io.TextIOBase):
            raise TypeError(
                f"a stream carries bytes: use a binary file object, not {type(file).__name__}"
            ) from None
        return _ObjectStream(file, rights)
    if number:
        file.flush()  # what was written before comes before
    return Descriptor(os.dup(fd), rights, shared=True)
