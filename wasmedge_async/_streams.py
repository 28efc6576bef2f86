"""Byte streams over pipes: the parent's ends of a spawned program's standard streams.

Nothing is read before somebody asks for it, so the pipe is the only buffer: a program that writes
faster than it is read waits in its `write`, at the kernel's word, and one that reads slower than
it is sent to makes `send` wait. What `lines()` has read beyond the line it gave stays in the
stream, for whichever method is called next.

Every operation lets the event loop take one turn, before it moves any bytes: an endless writer
does not keep other tasks waiting, and a cancelled task has moved nothing. With a byte there at
once the turn is 1 or 2 µs, a tenth of what reading 64 KiB takes; a clock or a counter of bytes
that decides when a turn is due costs as much.
"""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar, overload

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    EndOfStream,
)
from anyio.abc import ByteReceiveStream, ByteSendStream

__all__ = ["LineTooLong", "ReceiveStream", "SendStream"]

_CHUNK = 64 * 1024

# The most that one read asks for: a pipe holds no more, and `os.read` allocates what it asks for.
_MOST = 1 << 20

# Lines that are given from what is at hand before the event loop takes a turn.
_LINES_PER_TURN = 64

_Line = TypeVar("_Line")


class LineTooLong(DelimiterNotFound):
    """A line is longer than `lines()` was told to accept.

    Nothing is lost: `receive()`, or `lines()` with a larger `max_line`, goes on with this line.

    Attributes:
        max_line: the limit, in bytes.
    """

    def __init__(self, max_line: int) -> None:
        super().__init__(max_line)
        self.args = (max_line,)
        self.max_line = max_line

    def __str__(self) -> str:
        return (
            f"a line is longer than {self.max_line} bytes: lines(max_line=...) raises the limit, "
            "receive() reads on without lines"
        )


class _PipeEnd:
    """One end of a pipe, and the one task that waits for it."""

    _verb: str  # of the operation, for `BusyResourceError`

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd  # -1 when closed
        self._closed = False
        self._busy = False
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._closed else f'fd={self._fd}'}>"

    def __del__(self) -> None:
        # No warning: the `Process` warns, unless it was told to end.
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)

    async def aclose(self) -> None:
        """Close the stream, from any task: what waits in it raises `anyio.ClosedResourceError`.

        Idempotent.
        """
        self.close()
        await asyncio.sleep(0)

    def close(self) -> None:
        """Do what `aclose()` does, at once."""
        self._closed = True
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        waiter = self._waiter
        # A loop that is closed has let go of the descriptor, and wakes nobody.
        if waiter is not None and not (loop := waiter.get_loop()).is_closed():
            self._disarm(loop, fd)
            _wake(waiter)
        os.close(fd)

    def _enter(self) -> None:
        """Begin an operation; `_busy` is to be cleared at its end."""
        if self._closed:
            raise ClosedResourceError
        if self._busy:
            raise BusyResourceError(self._verb)
        self._busy = True

    async def _ready(self) -> None:
        """Wait until the pipe can be read or written, is broken, or is closed here."""
        loop = asyncio.get_running_loop()
        fd = self._fd
        waiter = self._waiter = loop.create_future()
        try:
            self._arm(loop, fd, waiter)
            await waiter
        finally:
            self._waiter = None
            if self._fd == fd:
                self._disarm(loop, fd)

    def _arm(self, loop: asyncio.AbstractEventLoop, fd: int, waiter: asyncio.Future[None]) -> None:
        raise NotImplementedError

    def _disarm(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        raise NotImplementedError


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class ReceiveStream(_PipeEnd, ByteReceiveStream):
    """What a program writes: `async for chunk in stream` gives bytes until the program closes it.

    One task at a time may read; a second one gets `anyio.BusyResourceError`. Cancelling a task
    that reads loses nothing. The descriptor is closed at the end of the stream, or by `aclose()`.
    """

    _verb = "receiving from"

    def __init__(self, fd: int) -> None:
        """Take over the reading end of a pipe."""
        super().__init__(fd)
        self._buffer = bytearray()  # read, and not yet given
        self._searched = 0  # bytes of the buffer that are known to have no newline

    def close(self) -> None:
        super().close()
        self._buffer.clear()
        self._searched = 0

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        """Return what is there, at most `max_bytes` bytes (1 or more); waits while there is none.

        Raises:
            anyio.EndOfStream: the program has closed its end, and all was read.
            anyio.ClosedResourceError: the stream was closed, before or meanwhile.
            anyio.BusyResourceError: another task reads.
            ValueError: `max_bytes` is less than 1.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be 1 or more, not {max_bytes}")
        self._enter()
        try:
            await asyncio.sleep(0)
            if self._buffer:
                return self._take(max_bytes)
            return await self._read(min(max_bytes, _MOST))
        finally:
            self._busy = False

    @overload
    def lines(
        self, encoding: str = "utf-8", errors: str = "strict", max_line: int = 16 << 20
    ) -> AsyncIterator[str]: ...

    @overload
    def lines(
        self, encoding: None, errors: str = "strict", max_line: int = 16 << 20
    ) -> AsyncIterator[bytes]: ...

    def lines(
        self, encoding: str | None = "utf-8", errors: str = "strict", max_line: int = 16 << 20
    ) -> AsyncIterator[str] | AsyncIterator[bytes]:
        r"""Iterate over lines, without their newline: `async for line in stream.lines()`.

        A line ends with `\n` only; a `\r` before it stays. The last line needs no newline. Leaving
        the loop loses nothing: a later `lines()` or `receive()` goes on behind the last line given.

        Args:
            encoding: of the text, one in which a newline is the byte 10; None gives bytes.
            errors: what to do with bytes that are no text, as for `bytes.decode`.
            max_line: the longest line to accept, in bytes, 1 or more: it bounds the memory that
                the program can make this process use, to a few times as much.

        Raises:
            ValueError, LookupError: an argument is wrong. Raised here, and while iterating:
            LineTooLong: a line is longer than `max_line`; it stays in the stream.
            UnicodeDecodeError: a line is no text, with `errors="strict"`; it stays in the stream.
            anyio.ClosedResourceError, anyio.BusyResourceError: as `receive()`.
        """
        if max_line < 1:
            raise ValueError(f"max_line must be 1 or more, not {max_line}")
        if encoding is None:
            return _Lines[bytes](self, max_line, bytes)
        if "\n".encode(encoding) != b"\n":
            raise ValueError(
                f"lines cannot be found in {encoding}, where a newline is not the byte 10: "
                "use anyio.streams.text.TextReceiveStream"
            )
        codecs.lookup_error(errors)
        return _Lines[str](self, max_line, lambda line: line.decode(encoding, errors))

    async def _fetch(self) -> None:
        """Read up to the end of the stream, into the buffer."""
        self._enter()
        try:
            while await self._fill():
                pass
        finally:
            self._busy = False

    async def _fill(self) -> bool:
        """Read a portion into the buffer; False at the end of the stream."""
        await asyncio.sleep(0)
        try:
            self._buffer += await self._read(_CHUNK)
        except EndOfStream:
            return False
        return True

    def _take_all(self) -> bytes:
        return self._take(len(self._buffer))

    def _take(self, size: int) -> bytes:
        """Remove the first bytes from the buffer."""
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = max(self._searched - size, 0)
        return data

    async def _read(self, size: int) -> bytes:
        while self._fd >= 0:
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:
                await self._ready()
            except OSError as error:
                raise BrokenResourceError from error
            else:
                if data:
                    return data
                self._close_descriptor()
        if self._closed:
            raise ClosedResourceError
        raise EndOfStream

    def _arm(self, loop: asyncio.AbstractEventLoop, fd: int, waiter: asyncio.Future[None]) -> None:
        loop.add_reader(fd, _wake, waiter)

    def _disarm(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        loop.remove_reader(fd)


class _Lines(Generic[_Line]):
    """The iterator of `ReceiveStream.lines`.

    No asynchronous generator: one that is left early is finished by a task of its own, whenever
    it is collected. All state that matters is the stream's.
    """

    def __init__(
        self, stream: ReceiveStream, max_line: int, convert: Callable[[bytearray], _Line]
    ) -> None:
        self._stream = stream
        self._max_line = max_line
        self._convert = convert
        self._given = 0

    def __aiter__(self) -> _Lines[_Line]:
        return self

    async def __anext__(self) -> _Line:
        stream = self._stream
        buffer = stream._buffer
        self._given += 1
        if stream._busy or stream._closed or self._given % _LINES_PER_TURN == 0:
            end = await self._find()
        else:
            end = buffer.find(b"\n", stream._searched)
            if end < 0:
                end = await self._find()
        if end > self._max_line:
            raise LineTooLong(self._max_line)
        line = self._convert(buffer[:end])
        del buffer[: end + 1]
        stream._searched = 0
        return line

    async def _find(self) -> int:
        """Where the first line in the buffer ends; reads until it does, or is too long."""
        stream = self._stream
        buffer = stream._buffer
        stream._enter()
        try:
            await asyncio.sleep(0)
            while (end := buffer.find(b"\n", stream._searched)) < 0:
                stream._searched = len(buffer)
                if len(buffer) > self._max_line:
                    return len(buffer)
                if not await stream._fill():
                    if not buffer:
                        raise StopAsyncIteration
                    return len(buffer)
            return end
        finally:
            stream._busy = False


class SendStream(_PipeEnd, ByteSendStream):
    """What a program reads. Close it, and the program has read all there is.

    One task at a time may send; a second one gets `anyio.BusyResourceError`.
    """

    _verb = "sending to"

    def __init__(self, fd: int) -> None:
        """Take over the writing end of a pipe."""
        super().__init__(fd)
        self._sent = 0

    @property
    def bytes_sent(self) -> int:
        """How many bytes the pipe has taken: after a cancelled `send`, how far it had come."""
        return self._sent

    async def send(self, item: bytes) -> None:
        """Write all of the bytes; waits while the pipe is full.

        A `send` that is cancelled, or fails, may have written a part: see `bytes_sent`.

        Raises:
            anyio.BrokenResourceError: the program has ended, or has closed its end.
            anyio.ClosedResourceError: the stream was closed, before or meanwhile.
            anyio.BusyResourceError: another task sends.
        """
        self._enter()
        try:
            await asyncio.sleep(0)
            with memoryview(item) as view, view.cast("B") as data:
                await self._write(data)
        finally:
            self._busy = False

    async def _write(self, data: memoryview) -> None:
        start = 0
        while start < len(data):
            if self._closed:
                raise ClosedResourceError
            try:
                written = os.write(self._fd, data[start:])
            except BlockingIOError:
                written = 0
            except OSError as error:
                raise BrokenResourceError from error
            self._sent += written
            start += written
            if start < len(data):
                await self._ready()  # the pipe is full

    def _arm(self, loop: asyncio.AbstractEventLoop, fd: int, waiter: asyncio.Future[None]) -> None:
        loop.add_writer(fd, _wake, waiter)

    def _disarm(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        loop.remove_writer(fd)
