"""What `spawn(stdin=, stdout=, stderr=)` accepts, as descriptors for the program and our ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import IO, Any, Self, TypeAlias

from wasmedge_async._streams import ReceiveStream, SendStream

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Stdio", "Stream"]

Stream: TypeAlias = "int | bytes | bytearray | memoryview | str | os.PathLike[str] | IO[Any] | None"
"""PIPE, None (the stream of this process), a path, a file object with a descriptor, a descriptor,
DEVNULL; content for stdin; STDOUT for stderr."""

# Output moves as fast through this as through the 1 MiB that is the most, and a sixth faster than
# through the 64 KiB a pipe begins with. What all pipes of a user hold is limited (to 64 MiB), and
# beyond that every new one is tiny.
_PIPE_SIZE = 256 * 1024

# Content that is copied before the event loop takes a turn: 0.3 ms.
_PORTION = 1 << 20

_NAMES = ("stdin", "stdout", "stderr")


class Stdio:
    """Owns what was opened for the standard streams of one program.

    ::

        stdio = await Stdio.open(stdin, stdout, stderr)
        try:
            ...  # send stdio.child to the worker
        except BaseException:
            stdio.close()
            raise
        stdio.close_child()

    Attributes:
        child: the descriptors 0, 1 and 2 of the program, not inherited by processes.
        stdin, stdout, stderr: our ends of pipes; None where the stream is something else.
    """

    def __init__(self) -> None:
        self.child: list[int] = []
        self.stdin: SendStream | None = None
        self.stdout: ReceiveStream | None = None
        self.stderr: ReceiveStream | None = None
        self._emptied: list[int] = []  # files that the program starts to write

    @classmethod
    async def open(cls, stdin: Stream = PIPE, stdout: Stream = PIPE, stderr: Stream = PIPE) -> Self:
        """Open the streams of a program. Nothing stays open, and no file is emptied, if it fails.

        Waits only while it copies content of more than 1 MiB.

        Raises:
            TypeError, ValueError: it is none of the things that a stream can be.
            OSError: a file cannot be opened.
        """
        self = cls()
        try:
            if isinstance(stdin, (bytes, bytearray, memoryview)):
                self.child.append(await _content(stdin))
            else:
                self._open(0, stdin)
            self._open(1, stdout)
            self._open(2, stderr)
            for fd in self._emptied:
                os.ftruncate(fd, 0)
        except BaseException:
            self.close()
            raise
        return self

    def close_child(self) -> None:
        """Close the program's descriptors; it has its own copies. Idempotent."""
        while self.child:
            os.close(self.child.pop())

    def close(self) -> None:
        """Close everything, our ends too. Idempotent."""
        self.close_child()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _open(self, number: int, stream: Stream) -> None:
        name = _NAMES[number]
        if stream is None:
            self.child.append(_inherited(number))
        elif isinstance(stream, int):
            self._open_number(number, stream)
        elif isinstance(stream, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes can be read only: leave {name}=PIPE and read process.{name}")
        elif isinstance(stream, (str, os.PathLike)):
            self._open_path(number, stream)
        else:
            self.child.append(os.dup(_descriptor(number, stream)))

    def _open_number(self, number: int, stream: int) -> None:
        if stream == PIPE:
            self._open_pipe(number)
        elif stream == STDOUT:
            if number != 2:
                raise ValueError(f"STDOUT is for stderr: {_NAMES[number]} cannot be it")
            self.child.append(os.dup(self.child[1]))
        elif stream == DEVNULL:
            self.child.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        elif stream < 0:
            raise ValueError(f"{_NAMES[number]}={stream} is no descriptor: they are 0 or more")
        else:
            self.child.append(os.dup(stream))

    def _open_pipe(self, number: int) -> None:
        reading, writing = os.pipe()  # O_CLOEXEC
        _enlarge(writing)
        if number == 0:
            self.child.append(reading)
            self.stdin = SendStream(writing)
        else:
            self.child.append(writing)
            if number == 1:
                self.stdout = ReceiveStream(reading)
            else:
                self.stderr = ReceiveStream(reading)

    def _open_path(self, number: int, path: str | os.PathLike[str]) -> None:
        if Path(path).is_fifo():
            raise ValueError(
                f"{_NAMES[number]}={path!r} is a named pipe, and opening one waits for its other "
                "end: open it (in a thread) and pass the descriptor"
            )
        flags = os.O_CREAT | os.O_WRONLY if number else os.O_RDONLY
        # O_NONBLOCK: other things may wait in `open` too, and the event loop would with them.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        self.child.append(fd)
        os.set_blocking(fd, True)
        if number and os.path.isfile(fd):
            self._emptied.append(fd)


def _descriptor(number: int, file: Any) -> int:
    """The descriptor of a file object, whose buffered output is written first."""
    name = _NAMES[number]
    if not hasattr(file, "write" if number else "read"):
        raise TypeError(
            f"{name} is PIPE, DEVNULL, None, a path, a file object, a file descriptor"
            f"{' or bytes' if number == 0 else ''}, not {type(file).__name__}"
        )
    try:
        fd: int = file.fileno()
    except (AttributeError, OSError):
        fix = (
            "pass its bytes, or leave stdin=PIPE and send to process.stdin"
            if number == 0
            else f"leave {name}=PIPE and read process.{name}"
        )
        raise TypeError(
            f"{name} goes to another process, and this {type(file).__name__} has no descriptor: "
            f"{fix}"
        ) from None
    if number:
        file.flush()
    return fd


def _inherited(number: int) -> int:
    """This process's own stream, or nothing where it has none."""
    try:
        return os.dup(number)
    except OSError:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def _enlarge(pipe: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # this user's pipes hold too much already
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


async def _content(content: bytes | bytearray | memoryview) -> int:
    """A file without a name that holds the content: no size of it makes anybody wait."""
    sealed = hasattr(os, "memfd_create")
    if sealed:
        fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        with memoryview(content) as view, view.cast("B") as data:
            start = 0
            while start < len(data):
                if start:
                    await asyncio.sleep(0)
                start += os.write(fd, data[start : start + _PORTION])
        os.lseek(fd, 0, os.SEEK_SET)
        if sealed:
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd
