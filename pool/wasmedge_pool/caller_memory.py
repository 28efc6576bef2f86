"""The memory that a host function of the parent gets: that of the module which calls it.

It can be used during the call only, while the guest waits in the worker. A coroutine function
awaits its methods, like those of a `Memory`. A plain one has the answer at once, from the worker's
watchdog, which has nothing else to do then; for as long as that takes, the event loop waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmedge_pool.handles import (
    MEMORY_GROW,
    MEMORY_SIZE,
    check_bounds,
    check_unsigned,
    first_bytes,
    no_view,
)
from wasmedge_pool.messages import (
    ANSWER,
    ASK,
    GROW,
    PEEK,
    PIECE,
    POKE,
    REFUSAL,
    SIZE,
    Operate,
    ReadMemory,
    WriteMemory,
)
from wasmedge_pool.request import Request
from wasmedge_runtime.errors import ErrCode, WasmEdgeError

if TYPE_CHECKING:
    from wasmedge_pool.hosting import HostCallScope

__all__ = ["CALLER", "AwaitedCallerMemory", "CallerMemory"]

CALLER: Final = 0
"""The handle of the memory of whoever called the innermost open host function."""

_CODES: Final = frozenset(map(int, ErrCode))

_ANY_VM: Final = 1
"""Every worker has this VM; the handle says the rest."""


class AwaitedCallerMemory:
    """The caller's memory, for a coroutine function: as `Memory`, during the call only."""

    def __init__(self, scope: HostCallScope) -> None:
        self._scope = scope

    async def get_data(self, offset: int, length: int) -> bytes:
        """Read bytes; raises WasmEdgeError (MemoryOutOfBounds)."""
        check_unsigned("offset", offset)
        check_unsigned("length", length)
        request = Request(ReadMemory(0, _ANY_VM, CALLER, offset, length))
        request.want(length)
        await self._scope.ask(request)
        return await request.content()

    async def set_data(
        self, data: bytes | bytearray | memoryview, offset: int, length: int | None = None
    ) -> None:
        """Write bytes, or the first `length` of them; raises WasmEdgeError (MemoryOutOfBounds)."""
        check_unsigned("offset", offset)
        data = first_bytes(data, length)
        await self._scope.ask(Request(WriteMemory(0, _ANY_VM, CALLER, offset), data))

    async def get_page_size(self) -> int:
        """The memory's size in pages of 64 KiB."""
        (size,) = await self._scope.ask(Request(Operate(0, _ANY_VM, CALLER, MEMORY_SIZE, ())))
        return int(size)

    async def grow_page(self, n: int) -> None:
        """Grow by a number of pages; raises WasmEdgeError (MemoryOutOfBounds) past its limit."""
        check_unsigned("number of pages", n)
        await self._scope.ask(Request(Operate(0, _ANY_VM, CALLER, MEMORY_GROW, (n,))))

    def view(self) -> memoryview:
        """Not possible: the memory is another process's. Raises WasmEdgeError."""
        raise no_view()


class CallerMemory:
    """The caller's memory, for a plain function, during the call only."""

    def __init__(self, scope: HostCallScope) -> None:
        self._scope = scope

    def get_data(self, offset: int, length: int) -> bytes:
        """Read bytes; raises WasmEdgeError (MemoryOutOfBounds)."""
        check_unsigned("offset", offset)
        check_unsigned("length", length)
        if length <= PIECE:
            return self._ask(PEEK, offset, length, length)
        check_bounds(offset, length, self.page_size)  # of all the pieces, before the first
        return b"".join(
            self._ask(PEEK, start, size, size)
            for start in range(offset, offset + length, PIECE)
            for size in [min(PIECE, offset + length - start)]
        )

    def set_data(
        self, data: bytes | bytearray | memoryview, offset: int, length: int | None = None
    ) -> None:
        """Write bytes, or the first `length` of them; raises WasmEdgeError (MemoryOutOfBounds)."""
        check_unsigned("offset", offset)
        data = first_bytes(data, length)
        if len(data) > PIECE:
            check_bounds(offset, len(data), self.page_size)
        for start in range(0, len(data) or 1, PIECE):
            piece = data[start : start + PIECE]
            self._ask(POKE, offset + start, len(piece), 0, piece)

    @property
    def page_size(self) -> int:
        """The memory's size in pages of 64 KiB."""
        return int.from_bytes(self._ask(SIZE, 0, 0, 8), "big")

    def grow_page(self, n: int) -> None:
        """Grow by a number of pages; raises WasmEdgeError (MemoryOutOfBounds) past its limit."""
        check_unsigned("number of pages", n)
        self._ask(GROW, 0, n, 0)

    def view(self) -> memoryview:
        """Not possible: the memory is another process's. Raises WasmEdgeError."""
        raise no_view()

    def _ask(self, kind: int, offset: int, length: int, answer: int, data: bytes = b"") -> bytes:
        scope = self._scope
        scope.check_open()
        datagram = ASK.pack(kind, scope.number, offset, length) + data
        reply = scope.mailbox.ask_now(datagram)
        if reply[0] == ANSWER and len(reply) == answer + 1:
            return reply[1:]
        if reply[0] == REFUSAL and len(reply) > 1 and reply[1] in _CODES:
            raise WasmEdgeError(ErrCode(reply[1]), reply[2:].decode("utf-8", "replace"))
        scope.mailbox.kill("it broke the protocol, nonsense in answer to a host function")
        raise WasmEdgeError(ErrCode.RuntimeError, "the worker's answer makes no sense")
