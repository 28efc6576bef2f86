"""Where machine code lives: one reserved region, guest bodies in one part, everything else behind.

One region gives the signal handlers a single range to compare the program counter with, keeps every
object within reach of the small code model, and lets a closed module give its memory back. Pages
are writable while an object is linked and executable afterwards, never both.
"""

from __future__ import annotations

import array
import bisect
import ctypes
import logging
import platform
import threading
from collections import deque
from collections.abc import Callable, Mapping

from .. import cache
from . import elf, libc
from .code_image import ALIGNMENT, ALLOWED_EXTERNALS, EXECUTE, WRITE, CodeImage, numbers

_log = logging.getLogger("wasmedge")

_IS_X86 = platform.machine() in ("x86_64", "AMD64")

_REGION_SIZES = (1 << 30, 1 << 28, 1 << 26) if _IS_X86 else (1 << 26,)
"""Bytes for guest code, the first that the system grants; half as much follows for the rest, and an
eighth for function tables. A call on AArch64 reaches 128 MiB, one on x86-64 2 GiB."""


class _Area:
    """First-fit allocation of whole pages from one address range."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.end = start + size
        self._free = [(start, size)]
        """Start and size, in order; replaced as a whole. Threads take turns by the region's lock,
        but a signal handler may come here in the middle of either method."""

    def allocate(self, size: int) -> int:
        size = libc.page_ceil(size)
        while True:
            before = self._free
            index = next((i for i, (_, free) in enumerate(before) if free >= size), None)
            if index is None:
                raise MemoryError(
                    "the region for compiled code is full; close modules that are not needed"
                )
            start, free = before[index]
            rest = [(start + size, free - size)] if free > size else []
            after = [*before[:index], *rest, *before[index + 1 :]]
            if self._free is before:
                self._free = after
                return start

    def free(self, start: int, size: int) -> None:
        size = libc.page_ceil(size)
        while True:
            before = self._free
            after = before.copy()
            index = bisect.bisect(after, (start, 0))
            after.insert(index, (start, size))
            for at in (index, index - 1):
                if 0 <= at < len(after) - 1:
                    (a, n), (b, m) = after[at : at + 2]
                    if a + n == b:
                        after[at : at + 2] = [(a, n + m)]
            if self._free is before:
                self._free = after
                return


class _Block:
    __slots__ = ("area", "size", "start", "writable")

    def __init__(self, area: _Area, start: int, size: int, writable: bool = False) -> None:
        self.area = area
        self.start = start
        self.size = size
        self.writable = writable


class DataBlock:
    """Zeroed memory in reach of the code; given back with its last holder."""

    def __init__(self, region: CodeRegion, block: _Block) -> None:
        self._region = region
        self._block = block
        self.address = block.start

    def __del__(self) -> None:
        self._region.free([self._block])


class CodeRegion:
    """The region of this process; `CodeRegion.get()` reserves it on first use."""

    _instance: CodeRegion | None = None
    _lock = threading.RLock()

    def __init__(self) -> None:
        self._garbage: deque[_Block] = deque()
        for size in _REGION_SIZES:
            try:
                base = libc.reserve(size + size // 2 + size // 8)
            except OSError as error:
                failure = error
                continue
            self.guest = _Area(base, size)
            self.support = _Area(base + size, size // 2)
            self.data = _Area(base + size + size // 2, size // 8)
            return
        raise MemoryError(f"cannot reserve address space for compiled code: {failure}")

    @classmethod
    def get(cls) -> CodeRegion:
        if cls._instance is None:
            with cls._lock:
                if cls._instance is None:
                    region = cls()
                    if cls._instance is None:  # no signal handler has been here meanwhile
                        cls._instance = region
        return cls._instance

    def allocate(self, size: int) -> DataBlock:
        """Writable memory in reach of the code."""
        with self._lock:
            self._collect()
            block = _Block(self.data, self.data.allocate(size), size, True)
        try:
            protection = libc.PROT_READ | libc.PROT_WRITE
            libc.protect(block.start, libc.page_ceil(size), protection)
        except BaseException:
            self.free([block])
            raise
        return DataBlock(self, block)

    def load(
        self,
        data: bytes,
        variables: Mapping[str, int] | None = None,
        trusted_externals: tuple[str, ...] = (),
    ) -> LoadedCode:
        """Place and link an object file. Raises `elf.ObjectError` for one that is not acceptable.

        `variables` has the addresses of what the object may refer to, in reach of the region. Only
        the engine's own support object may have writable data and call functions of the C library
        beyond arithmetic; it names those in `trusted_externals`.
        """
        obj = elf.parse(data)
        variables = variables or {}
        stubs = [name for name in obj.undefined if name not in variables]
        for name in stubs:
            if name not in ALLOWED_EXTERNALS and name not in trusted_externals:
                raise elf.ObjectError(f"code refers to {name!r}, which is not allowed")
        if any(s.writable for s in obj.sections.values()) and not trusted_externals:
            raise elf.ObjectError("code with writable data is not allowed")
        groups: dict[tuple[bool, bool], list[elf.Section]] = {}
        for section in obj.sections.values():
            groups.setdefault((section.is_guest, section.writable), []).append(section)
        if stubs:
            groups.setdefault((False, False), [])

        blocks: list[_Block] = []
        try:
            self._place(obj, groups, variables, stubs, blocks)
        except BaseException:
            self.free(blocks)
            raise
        return LoadedCode(self, blocks, obj.defined())

    def _place(
        self,
        obj: elf.ObjectFile,
        groups: dict[tuple[bool, bool], list[elf.Section]],
        variables: Mapping[str, int],
        stubs: list[str],
        blocks: list[_Block],
    ) -> None:
        """Give sections their addresses in new blocks, and fill those."""
        stub_start = 0
        with self._lock:
            self._collect()
            for (guest, writable), sections in groups.items():
                size = 0
                for section in sections:
                    size = -(-size // section.alignment) * section.alignment
                    section.address = size
                    size += section.size
                stub_offset = -(-size // elf.STUB_BYTES) * elf.STUB_BYTES
                if not guest and not writable:
                    size = stub_offset + len(stubs) * elf.STUB_BYTES
                area = self.guest if guest else self.support
                block = _Block(area, area.allocate(size), size, writable)
                blocks.append(block)
                for section in sections:
                    section.address += block.start
                if not guest and not writable:
                    stub_start = block.start + stub_offset
        externals = {name: stub_start + index * elf.STUB_BYTES for index, name in enumerate(stubs)}
        images = obj.link({**variables, **externals})
        for block in blocks:
            protection = libc.PROT_READ | libc.PROT_WRITE
            libc.protect(block.start, libc.page_ceil(block.size), protection)
        for number, section in obj.sections.items():
            ctypes.memmove(section.address, bytes(images[number]), section.size)
        for name, address in externals.items():
            stub = elf.jump_stub(_IS_X86, libc.function_address(name))
            ctypes.memmove(address, stub, len(stub))
        for block in blocks:
            if not block.writable:
                protection = libc.PROT_READ | libc.PROT_EXEC
                libc.protect(block.start, libc.page_ceil(block.size), protection)
        for block in blocks:
            flush_instruction_cache(block.start, block.size)

    def load_image(self, data: bytes | memoryview, image: CodeImage) -> LoadedImage:
        """Place the code of a module that was linked ahead and found good by `code_image.check`;
        `data` is the file that it is in.
        """
        with self._lock:
            self._collect()
            # All of it among the guest code: signal handlers may take for such what is not
            # executed, or has no effects that could be half done.
            size = image.length + max(ALIGNMENT - libc.PAGE_BYTES, 0)
            block = _Block(self.guest, self.guest.allocate(size), size)
        try:
            start = -(-block.start // ALIGNMENT) * ALIGNMENT
            self._fill(start, data, image)
        except BaseException:
            self.free([block])
            raise
        return LoadedImage(self, block, start, image)

    def _fill(self, start: int, data: bytes | memoryview, image: CodeImage) -> None:
        read_write = libc.PROT_READ | libc.PROT_WRITE
        libc.protect(start, libc.page_ceil(image.length), read_write)
        view = memoryview(data)
        for segment in image.segments:
            content = view[segment.offset : segment.offset + segment.filled]
            target = (ctypes.c_char * segment.filled).from_address(start + segment.address)
            memoryview(target).cast("B")[:] = content
        for name, at in image.externals:
            ctypes.c_uint64.from_address(start + at).value = libc.function_address(name)
        for segment in image.segments:
            if not segment.flags & WRITE and segment.length:
                access = libc.PROT_EXEC if segment.flags & EXECUTE else 0
                size = libc.page_ceil(segment.length)
                libc.protect(start + segment.address, size, libc.PROT_READ | access)
        flush_instruction_cache(start, image.length)

    def free(self, blocks: list[_Block]) -> None:
        """Give blocks back: now, or when another load comes if the region is in use.

        The garbage collector calls it, at any moment, whatever locks this thread holds: it must
        not wait.
        """
        self._garbage.extend(blocks)
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        while True:
            try:
                block = self._garbage.popleft()
            except IndexError:
                return
            size = libc.page_ceil(block.size)
            libc.protect(block.start, size, libc.PROT_NONE)
            libc.discard(block.start, size)
            block.area.free(block.start, block.size)


class LoadedCode:
    """An object in executable memory. Its pages go back when the last holder lets go of it."""

    def __init__(
        self, region: CodeRegion, blocks: list[_Block], symbols: dict[str, tuple[int, int]]
    ) -> None:
        self._region = region
        self._blocks = blocks
        self.symbols = symbols
        self._starts: list[tuple[int, int, str]] | None = None

    def keep(self) -> LoadedCode:
        """Never give the pages back: signal handlers, and what runs when a thread ends, are there
        until the process is gone."""
        self._blocks = []
        return self

    def address(self, name: str) -> int:
        """Where a function or a variable of the object lies."""
        return self.symbols[name][0]

    def symbol_at(self, address: int) -> str | None:
        """Name of the function that contains an address, or None."""
        if self._starts is None:
            self._starts = sorted((a, size, name) for name, (a, size) in self.symbols.items())
        index = bisect.bisect_right(self._starts, (address, 1 << 64, "")) - 1
        if index >= 0:
            start, size, name = self._starts[index]
            if start <= address < start + size:
                return name
        return None

    def __del__(self) -> None:
        blocks, self._blocks = self._blocks, []
        if blocks:
            self._region.free(blocks)


class LoadedImage:
    """The code of a whole module in executable memory, given back with its last holder."""

    def __init__(self, region: CodeRegion, block: _Block, start: int, image: CodeImage) -> None:
        self._region = region
        self._block = block
        self._image = image
        self._start = start
        self.address = start + image.header
        """Of the module's header, with the function table behind it."""

    def functions(self) -> array.array[int]:
        """The addresses of the module's own functions."""
        start = self._start
        return array.array("Q", [start + at for at in numbers(self._image.addresses)])

    def function_at(self, address: int) -> int | None:
        """Which own function contains an address, or None."""
        at = address - self._start
        starts, sizes = numbers(self._image.addresses), numbers(self._image.sizes)
        for own, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            if start <= at < start + size:
                return own
        return None

    def __del__(self) -> None:
        self._region.free([self._block])


def load_or_make(
    name: str, make: Callable[[], bytes], trusted_externals: tuple[str, ...] = ()
) -> LoadedCode:
    """Code that is never given back: from the cache, or made now if what is there does not link."""
    region = CodeRegion.get()
    data = cache.load(name)
    if data is not None:
        try:
            return region.load(data, trusted_externals=trusted_externals).keep()
        except elf.ObjectError as error:
            _log.warning("cache entry %s is not usable: %s", name, error)
    data = make()
    cache.store(name, data)
    return region.load(data, trusted_externals=trusted_externals).keep()


def flush_instruction_cache(start: int, size: int) -> None:
    """Let the processor see new code; x86-64 does so by itself."""
    if _IS_X86:
        return
    library = ctypes.CDLL("libgcc_s.so.1")
    library.__clear_cache(ctypes.c_void_p(start), ctypes.c_void_p(start + size))
