"""Where everything of a module instance lies in its vmctx.

A vmctx starts with `native.layout.ContextHeader`; the arrays behind it depend on the module alone,
so that generated code can use constant offsets and the same code serves every instance.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from ..configure import CompilerOptimizationLevel
from ..module import AST
from ..native.layout import ContextHeader, FunctionRecord, Segment
from ..opcodes import F32_CONST, F64_CONST, I32_CONST, I64_CONST, V128_CONST
from ..types import ValMut

_POINTER = 8
_CELL = 16
_RECORD = ctypes.sizeof(FunctionRecord)
_SEGMENT = ctypes.sizeof(Segment)

CELL_BYTES = _CELL
"""Width of a global's cell: a v128 fits."""


class Variant(NamedTuple):
    """Which code is generated from a module; part of every cache key."""

    guarded: bool
    """Memory accesses rely on reserved address space and signal handlers; otherwise each one is
    compared with the size, and loops look for interruptions."""
    counting: bool
    gas: bool


class Target(NamedTuple):
    """How well code is compiled, and for which processors; part of every cache key, too."""

    level: CompilerOptimizationLevel
    generic: bool = False
    """Only what `codegen.llvm.GENERIC_CPU` has, instead of what this machine's processor has."""


class ContextLayout:
    """Offsets in the vmctx of one module.

    ==================  =======================================================================
    memories            record address, base address (which never changes) of each memory
    tables              record address, base address of each table
    types               canonical number of each function type
    imported functions  address of the function record
    imported globals    address of the cell
    segments            element segments, then data segments (`layout.Segment`)
    globals             a cell for each global of the module itself
    records             a `layout.FunctionRecord` for each own function that can be referenced
    ==================  =======================================================================
    """

    def __init__(self, ast: AST) -> None:
        at = ctypes.sizeof(ContextHeader)
        self._memories = at
        at += len(ast.memory_types) * 2 * _POINTER
        self._tables = at
        at += len(ast.table_types) * 2 * _POINTER
        self._types = at
        at += len(ast.types) * _POINTER
        self._imported_functions = at
        at += ast.imported_functions * _POINTER
        self._imported_globals = at
        at += ast.imported_globals * _POINTER
        self._element_segments = at
        at += len(ast.elements) * _SEGMENT
        self._data_segments = at
        at += len(ast.data_segments) * _SEGMENT
        at = -(-at // _CELL) * _CELL
        self._globals = at
        self._first_global = ast.imported_globals
        at += len(ast.globals) * _CELL
        self.records = at
        """Offset of the first function record."""
        own = sorted(i for i in ast.declared_functions if i >= ast.imported_functions)
        if ast.start is not None and ast.start >= ast.imported_functions:
            own = sorted({*own, ast.start})
        self.referenced = own
        """Own functions that have a record, in the order of the records."""
        self._record_of = {index: at + n * _RECORD for n, index in enumerate(own)}
        at += len(own) * _RECORD
        self.size = at
        """Bytes of the whole vmctx."""

    def memory_record(self, index: int) -> int:
        return self._memories + index * 2 * _POINTER

    def memory_base(self, index: int) -> int:
        return self.memory_record(index) + _POINTER

    def table_record(self, index: int) -> int:
        return self._tables + index * 2 * _POINTER

    def table_base(self, index: int) -> int:
        return self.table_record(index) + _POINTER

    def type_number(self, index: int) -> int:
        return self._types + index * _POINTER

    def imported_function(self, index: int) -> int:
        return self._imported_functions + index * _POINTER

    def imported_global(self, index: int) -> int:
        return self._imported_globals + index * _POINTER

    def element_segment(self, index: int) -> int:
        return self._element_segments + index * _SEGMENT

    def data_segment(self, index: int) -> int:
        return self._data_segments + index * _SEGMENT

    def global_cell(self, index: int) -> int:
        """Offset of the cell of an own global, by its index in the index space."""
        return self._globals + (index - self._first_global) * _CELL

    def function_record(self, index: int) -> int:
        """Offset of the record of an own function that can be referenced."""
        return self._record_of[index]


def constant_global(ast: AST, index: int) -> tuple[int, object] | None:
    """The (opcode, immediate) of an own immutable global whose value is known at compile time."""
    own = index - ast.imported_globals
    if own < 0:
        return None
    definition = ast.globals[own]
    if definition.type.mutability == ValMut.VAR or len(definition.init) != 1:
        return None
    opcode, immediate = definition.init[0]
    if opcode in (I32_CONST, I64_CONST, F32_CONST, F64_CONST, V128_CONST):
        return opcode, immediate
    return None
