"""Memory instances (specification 4.2.8)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .closable import Closable
from .errors import ErrCode, WasmEdgeError
from .native.image import Image
from .native.layout import MemoryRecord
from .native.reservation import Reservation
from .native.support import support
from .types import Limit, MemoryType

if TYPE_CHECKING:
    from .core import StoreCore

PAGE_BYTES = 65536
_MAX_PAGES = 65536

GUARDED_BYTES = (8 << 30) + PAGE_BYTES
"""What an access can reach: a 32-bit address plus a 32-bit offset plus the widest value. With this
much reserved, generated code needs no bounds checks."""


class Memory(Closable):
    """A linear memory, made by the host or by a module (specification 4.2.8).

    Offsets and lengths are in bytes. Guest code of another thread may change the content meanwhile.

    Args:
        memory_type: the size in pages of 64 KiB, and how far it may grow.

    Raises:
        WasmEdgeError: InvalidLimit or InvalidMemPages for a type that is not valid, RuntimeError
            when the system has no room for it. Every method: RuntimeError after `close()`.
    """

    def __init__(self, memory_type: MemoryType) -> None:
        limit = memory_type.limit
        if limit.max is not None and limit.max < limit.min:
            raise WasmEdgeError(ErrCode.InvalidLimit)
        if max(limit.min, limit.max or 0) > _MAX_PAGES:
            raise WasmEdgeError(ErrCode.InvalidMemPages)
        self._declared_max = limit.max
        most = _MAX_PAGES if limit.max is None else limit.max
        self._reservation, reserved = _reserve(limit.min, most)
        self.guarded = self._reservation.size >= GUARDED_BYTES
        """Whether guest code may rely on faults instead of checks."""
        self._record = MemoryRecord(
            self._reservation.base, limit.min * PAGE_BYTES, min(most, reserved)
        )
        self.record_address = ctypes.addressof(self._record)
        """Of the `layout.MemoryRecord`, for generated code."""
        self.base = self._reservation.base
        """Address of the first byte; it never changes."""
        self.reset_bytes = limit.min * PAGE_BYTES
        """The size that a reset takes it back to."""
        self._view: memoryview | None = None
        self._grown_views: list[weakref.ref[Any]] = []
        """What views of more than `reset_bytes` are views of, as long as there are any; after a
        checkpoint also others."""
        self._resetting = False
        self.mapped: tuple[tuple[int, int], ...] = ()
        """From where to where content is mapped into it: what else it has is zero after a reset."""
        self._core: StoreCore | None = None

    @property
    def reserved_bytes(self) -> int:
        """How much address space it has, beyond its size."""
        return self._reservation.size

    @property
    def byte_size(self) -> int:
        """The current size in bytes, also after `close()`."""
        return int(self._record.bytes)

    def restrict(self, pages: int) -> None:
        """Let it grow to `pages` at most (`Configure.max_memory_page`)."""
        self._record.max_pages = min(self._record.max_pages, pages)

    def bind(self, core: StoreCore) -> None:
        """Make it part of a Store; raises when it belongs to another one."""
        if self._core is core:
            return
        core.check_free(self)
        self._core = core
        core.add_memory(self)

    def map_image(self, image: Image) -> None:
        """Let an image be its content, now and after each reset, where the image is.

        Raises:
            WasmEdgeError: RuntimeError when the system refuses.
        """
        try:
            image.map_at(self.base)
        except OSError as error:
            raise WasmEdgeError(
                ErrCode.RuntimeError, f"cannot map the initial data of a memory: {error}"
            ) from error
        self.mapped = image.extents

    @property
    def memory_type(self) -> MemoryType:
        """The current size as the minimum, and the declared maximum, in pages."""
        return MemoryType(Limit(self.page_size, self._declared_max))

    @property
    def page_size(self) -> int:
        """The current size in pages of 64 KiB."""
        self._check_open()
        return self.byte_size // PAGE_BYTES

    def grow_page(self, n: int) -> None:
        """Add `n` pages of zeros.

        Raises:
            WasmEdgeError: MemoryOutOfBounds when that passes the maximum or the system refuses;
                the size stays as it was.
            TypeError, ValueError: `n` is not an int of 0 or more.
        """
        self._check_open()
        _check_unsigned("number of pages", n)
        if n > _MAX_PAGES or support().memory_grow(self.record_address, n) < 0:
            raise WasmEdgeError(
                ErrCode.MemoryOutOfBounds,
                f"out of bounds memory access: cannot grow from {self.page_size} by {n} pages, "
                f"the limit is {self._record.max_pages}",
            )

    def get_data(self, offset: int, length: int) -> bytes:
        """Copy `length` bytes at `offset` out.

        Raises:
            WasmEdgeError: MemoryOutOfBounds.
            TypeError, ValueError: an argument is not an int of 0 or more.
        """
        return self._part(offset, length).tobytes()

    def set_data(
        self, data: bytes | bytearray | memoryview, offset: int, length: int | None = None
    ) -> None:
        """Copy `data`, or its first `length` bytes, to `offset`.

        Raises:
            WasmEdgeError: MemoryOutOfBounds; nothing is written then.
            ValueError: `length` is more than there is, or `offset` is negative.
            TypeError: `data` is no buffer, or `offset` not an int.
        """
        source = memoryview(data).cast("B")
        if length is not None:
            if not 0 <= length <= len(source):
                raise ValueError(
                    f"length {length} is outside the data, which has {len(source)} bytes"
                )
            source = source[:length]
        part = self._part(offset, len(source))
        if source:
            part[:] = source

    def view(self) -> memoryview:
        """The current content, writable and without a copy.

        The view keeps its memory valid, also after `close()`; it does not see later growth. It sees
        what `ModuleInstance.reset` does, which is refused while a view of a grown memory is alive.
        """
        self._check_open()
        return self._content()[:]

    def _content(self) -> memoryview:
        """All of the current content. Kept: each size is a ctypes type, which takes time to make,
        and which only the cycle collector frees."""
        view = self._view
        if view is None or len(view) != self._record.bytes:
            view = self._view = self._new_view()
        return view

    def _new_view(self) -> memoryview:
        while True:
            # What a reset takes away must not be seen any more once it has looked for views. A lock
            # would not do: signal handlers and finalizers may come here in the middle of a reset.
            size = self.reset_bytes if self._resetting else self.byte_size
            view = self._reservation.view(size)
            if size <= self.reset_bytes:
                return view
            self._grown_views.append(weakref.ref(view.obj, self._grown_views.remove))
            if not self._resetting and size <= self._record.bytes:
                return view

    def _seen_bytes(self) -> int:
        """How long the longest of `_grown_views` is."""
        found = [reference() for reference in list(self._grown_views)]
        return max((len(array) for array in found if array is not None), default=0)

    def _part(self, offset: int, length: int) -> memoryview:
        self._check_open()
        _check_unsigned("offset", offset)
        _check_unsigned("length", length)
        content = self._content()  # once: another thread may grow or reset the memory
        if offset + length > len(content):
            raise WasmEdgeError(
                ErrCode.MemoryOutOfBounds,
                f"out of bounds memory access: {length} bytes at {offset}, "
                f"the memory has {len(content)}",
            )
        return content[offset : offset + length]


def reset_memories(memories: Sequence[Memory]) -> None:
    """Give memories, which no guest uses meanwhile, the size of `reset_bytes`, and zeros as their
    content or the image that is mapped there.

    Raises:
        WasmEdgeError: RuntimeError when there are views of what a memory has grown by, then before
            anything is changed; or when the system refuses.
    """
    try:
        for memory in memories:
            memory._resetting = True
            if memory.byte_size > memory.reset_bytes:
                memory._view = None
            if memory._grown_views and memory._seen_bytes() > memory.reset_bytes:
                raise WasmEdgeError(
                    ErrCode.RuntimeError,
                    f"cannot take a memory back to {memory.reset_bytes} bytes while there is a "
                    "view of it that is longer: release() the view, or let go of it, before",
                )
        reset = support().memory_reset
        for memory in memories:
            if reset(memory.record_address, memory.reset_bytes) < 0:
                raise WasmEdgeError(
                    ErrCode.RuntimeError, "the system refuses to take a memory's pages back"
                )
    finally:
        for memory in memories:
            memory._resetting = False


def _check_unsigned(what: str, value: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{what} must not be negative: {value}")


def _reserve(minimum: int, maximum: int) -> tuple[Reservation, int]:
    """Address space for a memory, guarded if possible, and how many pages fit into it."""
    try:
        return Reservation(GUARDED_BYTES, minimum * PAGE_BYTES), _MAX_PAGES
    except OSError:
        pass
    # Little address space (a limit of the process, or many memories): smaller, with checks.
    pages = maximum
    while True:
        try:
            return Reservation(pages * PAGE_BYTES, minimum * PAGE_BYTES), pages
        except OSError as error:
            if pages <= minimum:
                raise WasmEdgeError(
                    ErrCode.RuntimeError,
                    f"no room for a memory of {minimum} pages: {error}",
                ) from error
        pages = max(minimum, pages // 2)
