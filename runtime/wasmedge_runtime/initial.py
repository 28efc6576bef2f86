"""What every instance of a module starts from: globals, element segments, data (4.5.4).

All that does not differ between instances is worked out once, and shared by those that run the
same code. An instance is brought back to its start by the same means.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from . import convert
from .codegen.context import CELL_BYTES
from .errors import ErrCode, Trap
from .memory import PAGE_BYTES, reset_memories
from .module import ACTIVE, AST, DECLARATIVE, PASSIVE, ConstExpr, ElementSegment
from .native import libc
from .native.image import Image
from .native.support import support
from .opcodes import (
    F32_CONST,
    F64_CONST,
    GLOBAL_GET,
    I32_CONST,
    I64_CONST,
    REF_FUNC,
    V128_CONST,
)
from .types import RefType, ValMut, ValType

if TYPE_CHECKING:
    from .codegen.context import ContextLayout
    from .global_ import Global
    from .instance import ModuleInstance
    from .memory import Memory
    from .table import Table
    from .tiers.module import CompiledModule

_COPIED_BYTES = 1 << 12
_COPIED_PIECES = 4
"""Data up to this size, in no more segments than this, is copied: an image saves nothing there."""

_SPARSE = 4
_SPARSE_BYTES = 1 << 20
"""An image may be this many times as large as what is in it, and this much larger: all of it takes
memory when it is read."""


class _Elements(NamedTuple):
    """An active or passive element segment."""

    number: int
    mode: int
    table: int
    offset: ConstExpr | None
    offsets: array.array[int]
    """For references to own functions, where their records are in the vmctx; else 0."""
    others: list[tuple[int, int, int]]
    """References that `offsets` has no room for: position, and the instruction that gives it."""


class _Data(NamedTuple):
    """A data segment: its bytes are at `address`."""

    number: int
    memory: int
    offset: ConstExpr | None
    address: int
    length: int


class _Content(NamedTuple):
    """All that is initialised of an own memory, when nothing can go wrong with it."""

    memory: int
    pieces: list[tuple[int, int, int]]
    """Offset in the memory, address and length; in the order of the segments."""
    start: int
    end: int
    """Whole pages of the system around all of it."""

    @property
    def deserves_image(self) -> bool:
        filled = sum(length for _, _, length in self.pieces)
        few = len(self.pieces) <= _COPIED_PIECES and filled <= _COPIED_BYTES
        return not few and self.end - self.start <= _SPARSE * filled + _SPARSE_BYTES


class InitialState:
    """What the instances of one module start from. Made by `initial_state`."""

    def __init__(self, ast: AST, layout: ContextLayout) -> None:
        # It must not hold the AST: what holds this is alive as long as the AST is.
        self._imported_tables = ast.imported_tables
        self._imported_memories = ast.imported_memories
        self._words = layout.element_segment(0)
        self._words_end = layout.records
        self._cells = layout.global_cell(ast.imported_globals)
        self._values, self._other_globals = _global_values(ast)
        self.extern_globals = [
            index
            for index, kind in enumerate(ast.global_types)
            if index >= ast.imported_globals and kind.val_type == ValType.EXTERNREF
        ]
        self._elements = [
            _elements(ast, layout, number, segment)
            for number, segment in enumerate(ast.elements)
            if segment.mode != DECLARATIVE
        ]
        self._bytes = ast.data  # what the addresses point into
        self._address = ctypes.cast(ctypes.c_char_p(ast.data), ctypes.c_void_p).value or 0
        segments = [
            (d.mode, _Data(n, d.memory, d.offset, self._address + d.start, d.end - d.start))
            for n, d in enumerate(ast.data_segments)
        ]
        self._passive_data = [data for mode, data in segments if mode == PASSIVE]
        self._active_data = [data for mode, data in segments if mode == ACTIVE]
        self._contents = _contents(ast, self._active_data)
        self._images: dict[int, Image | None] = {}
        self._used = False
        self._self_contained = _is_self_contained(ast)

    # Instantiation.

    def apply(self, instance: ModuleInstance) -> bytes:
        """Initialise a new instance, up to its start function; gives what `reset` needs.

        Raises:
            Trap: a segment does not fit; what came before it has been done.
        """
        core = instance.core
        ctypes.memmove(instance.context + self._cells, self._values, len(self._values))
        for index, opcode, immediate in self._other_globals:
            cell = instance.global_address(index)
            if opcode == REF_FUNC:
                ctypes.c_uint64.from_address(cell).value = instance.record_address(immediate)
            else:
                ctypes.memmove(cell, instance.global_address(immediate), CELL_BYTES)
        for index in self.extern_globals:
            core.extern_holders.add(instance.global_at(index))
        for segment in self._elements:
            self._place_elements(instance, segment)
        for data in self._passive_data:
            instance.set_data_segment(data.number, data.address, data.length)
        if self._contents is None:
            for data in self._active_data:
                _copy_checked(instance, data)
        else:
            for content in self._contents:
                self._fill(instance.memories[content.memory], content, self._used)
        self._used = True
        return self.words_of(instance)

    def _place_elements(self, instance: ModuleInstance, segment: _Elements) -> None:
        count = len(segment.offsets)
        if segment.mode == PASSIVE:
            at = instance.add_element_segment(segment.number, count)
        else:
            table = instance.tables[segment.table]
            index = _offset(instance, segment.offset)
            table.check_segment(index, count)
            at = table.address(index)
        offsets = segment.offsets.buffer_info()[0]
        support().place_references(at, offsets, count, instance.context)
        for position, opcode, immediate in segment.others:
            if opcode == REF_FUNC:
                handle = instance.record_address(immediate)
            else:
                handle = ctypes.c_uint64.from_address(instance.global_address(immediate)).value
            ctypes.c_uint64.from_address(at + 8 * position).value = handle

    def _fill(self, memory: Memory, content: _Content, again: bool) -> None:
        """Put the data into a memory that is zero; `again` when that will have been worth an
        image, which costs as much as copying."""
        image = self._image(content) if again else None
        if image is not None:
            memory.map_image(image)
            return
        base = memory.base
        for offset, address, length in content.pieces:
            ctypes.memmove(base + offset, address, length)

    def _image(self, content: _Content) -> Image | None:
        try:
            return self._images[content.memory]
        except KeyError:
            pass
        image = None
        if content.deserves_image:
            data = memoryview(self._bytes)
            pieces = (
                (offset, data[address - self._address :][:length])
                for offset, address, length in content.pieces
            )
            # Out of descriptors, or forbidden: then data is copied.
            with contextlib.suppress(OSError):
                image = Image([(content.start, content.end)], pieces)
        return self._images.setdefault(content.memory, image)

    # Back to the start.

    def own_memories(self, instance: ModuleInstance) -> list[Memory]:
        """Those of its memories that it does not import."""
        return instance.memories[self._imported_memories :]

    def own_tables(self, instance: ModuleInstance) -> list[Table]:
        """Those of its tables that it does not import."""
        return instance.tables[self._imported_tables :]

    def words_of(self, instance: ModuleInstance) -> bytes:
        """Own globals, and where segments are or that they have been dropped."""
        return ctypes.string_at(instance.context + self._words, self._words_end - self._words)

    def put_words(self, instance: ModuleInstance, words: bytes) -> None:
        """Bring back what `words_of` gave."""
        ctypes.memmove(instance.context + self._words, words, len(words))

    def reference_holders(self, instance: ModuleInstance) -> list[Table | Global]:
        """The own tables and globals, which have kept alive what references from outside refer to;
        none of them where such references may have left the instance again."""
        if not self._self_contained:
            return []
        return [*self.own_tables(instance), *instance.own_globals()]

    def reset(self, instance: ModuleInstance, words: bytes) -> list[Any]:
        """Bring an instance back to where `apply` left it, which gave `words`.

        Gives what the instance kept alive and no longer needs to. Callers see to it that the Store
        runs no call, and call the start function.

        Raises:
            WasmEdgeError: as `reset_memories`.
        """
        reset_memories(self.own_memories(instance))
        for table in self.own_tables(instance):
            table.reset()
        self.put_words(instance, words)
        for segment in self._elements:
            if segment.mode == ACTIVE and segment.table >= self._imported_tables:
                self._place_elements(instance, segment)
        if self._contents is None:
            for data in self._active_data:
                if data.memory >= self._imported_memories:
                    _copy_checked(instance, data)
        else:
            for content in self._contents:
                memory = instance.memories[content.memory]
                if not memory.mapped:
                    self._fill(memory, content, True)
        # Last, when no old reference is left anywhere: an exception of a signal handler may come
        # between any two steps.
        return [owner for part in self.reference_holders(instance) for owner in part.forget()]


_states: weakref.WeakKeyDictionary[CompiledModule, InitialState] = weakref.WeakKeyDictionary()


def initial_state(compiled: CompiledModule, ast: AST) -> InitialState:
    """What instances of a module start from; the same as long as its code is in use."""
    found = _states.get(compiled)
    if found is None:
        found = _states.setdefault(compiled, InitialState(ast, compiled.layout))
    return found


def _global_values(ast: AST) -> tuple[bytes, list[tuple[int, int, int]]]:
    """The cells of the own globals, and those (index, instruction) that an instance decides."""
    cells = bytearray(len(ast.globals) * CELL_BYTES)
    others = []
    for number, definition in enumerate(ast.globals):
        ((opcode, immediate),) = definition.init
        at = number * CELL_BYTES
        if opcode in (REF_FUNC, GLOBAL_GET):
            others.append((ast.imported_globals + number, opcode, cast(int, immediate)))
        elif opcode == V128_CONST:
            cells[at : at + 16] = cast(bytes, immediate)
        elif opcode in (F32_CONST, F64_CONST):
            cells[at : at + 8] = cast(int, immediate).to_bytes(8, "little")
        elif opcode in (I32_CONST, I64_CONST):
            bits = convert.to_bits(immediate, definition.type.val_type)
            cells[at : at + 8] = bits.to_bytes(8, "little")
    return bytes(cells), others  # a null reference is 0


def _elements(ast: AST, layout: ContextLayout, number: int, segment: ElementSegment) -> _Elements:
    offsets = array.array("Q", bytes(8 * len(segment.init)))
    others = []
    for position, expression in enumerate(segment.init):
        ((opcode, immediate),) = expression
        index = cast(int, immediate)
        if opcode == REF_FUNC and index >= ast.imported_functions:
            offsets[position] = layout.function_record(index)
        elif opcode in (REF_FUNC, GLOBAL_GET):
            others.append((position, opcode, index))
    return _Elements(number, segment.mode, segment.table, segment.offset, offsets, others)


def _contents(ast: AST, segments: list[_Data]) -> list[_Content] | None:
    """What the active segments make of the own memories. None unless that is known beforehand, and
    certain to work: then each segment has to be looked at in its turn."""
    pieces: dict[int, list[tuple[int, int, int]]] = {}
    for segment in segments:
        if segment.memory < ast.imported_memories:
            return None
        ((opcode, immediate),) = cast(ConstExpr, segment.offset)
        offset = cast(int, immediate) & 0xFFFFFFFF
        size = ast.memory_types[segment.memory].limit.min * PAGE_BYTES
        if opcode == GLOBAL_GET or offset + segment.length > size:
            return None
        if segment.length:
            piece = (offset, segment.address, segment.length)
            pieces.setdefault(segment.memory, []).append(piece)
    page = libc.PAGE_BYTES
    return [
        _Content(
            memory,
            found,
            min(offset for offset, _, _ in found) // page * page,
            libc.page_ceil(max(offset + length for offset, _, length in found)),
        )
        for memory, found in pieces.items()
    ]


def _is_self_contained(ast: AST) -> bool:
    """Whether function references can leave an instance only through tables and globals that
    others import from it: no call, and nothing that it imports, can carry one."""
    return not (
        any(ValType.FUNCREF in (*kind.parameters, *kind.returns) for kind in ast.types)
        or any(kind.ref_type == RefType.FUNCREF for kind in ast.table_types[: ast.imported_tables])
        or any(
            kind.val_type == ValType.FUNCREF and kind.mutability == ValMut.VAR
            for kind in ast.global_types[: ast.imported_globals]
        )
    )


def _offset(instance: ModuleInstance, expression: ConstExpr | None) -> int:
    """Where an active segment goes."""
    ((opcode, immediate),) = cast(ConstExpr, expression)
    if opcode == GLOBAL_GET:
        cell = instance.global_address(cast(int, immediate))
        return ctypes.c_uint32.from_address(cell).value
    return cast(int, immediate) & 0xFFFFFFFF


def _copy_checked(instance: ModuleInstance, data: _Data) -> None:
    memory = instance.memories[data.memory]
    offset = _offset(instance, data.offset)
    if offset + data.length > memory.byte_size:
        raise Trap(
            ErrCode.MemoryOutOfBounds,
            f"out of bounds memory access: data segment {data.number} does not fit: "
            f"{data.length} bytes at {offset}, the memory has {memory.byte_size}",
        )
    ctypes.memmove(memory.base + offset, data.address, data.length)
