"""A module's sections: core specification 5.5.

Each section has one method of `ModuleParser`; `_SECTIONS` says which, and in what order they come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wasmedge_runtime import limits
from wasmedge_runtime.binary.expressions import const_expr
from wasmedge_runtime.binary.reader import Reader, load_error, over
from wasmedge_runtime.binary.types import TypeReader
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import MESSAGES, ErrCode, LoadError, ValidationError
from wasmedge_runtime.features import remedy
from wasmedge_runtime.module import (
    ACTIVE,
    AST,
    DECLARATIVE,
    PASSIVE,
    Body,
    ConstExpr,
    CustomSection,
    DataSegment,
    ElementSegment,
    Export,
    GlobalDefinition,
    Import,
)
from wasmedge_runtime.opcodes import REF_FUNC
from wasmedge_runtime.types import ExternalValue, ExternType, FunctionType, RefType

MAGIC = b"\0asm"
VERSION = b"\1\0\0\0"

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL = range(7)
EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT, TAG = range(7, 14)


class _Section(NamedTuple):
    """What comes how; sections of lower rank come first (5.5.16)."""

    name: str
    rank: int
    parse: Callable[[ModuleParser], None]


class ModuleParser:
    """Fills an AST from its bytes. One parser reads one module.

    `parse` raises LoadError for what is malformed or beyond a cap, and ValidationError for what
    has no place in the AST: an initializer that is not constant, a function of unknown type.
    """

    def __init__(self, data: bytes, proposals: frozenset[Proposal]) -> None:
        self.ast = AST(data, proposals)
        self.reader = Reader(data, 0, len(data))
        self.types = TypeReader(self.reader, self.ast)
        self._total_locals = 0
        self._total_elements = 0
        # Runs of locals, each kept once: two bytes of the file are one.
        self._runs: dict[tuple[int, int], tuple[int, int]] = {}
        self._code_offset: int | None = None
        self._data_offset: int | None = None

    def parse(self) -> AST:
        """Read the whole module."""
        ast, reader = self.ast, self.reader
        size = len(ast.data)
        if size > limits.MAX_MODULE_SIZE:
            cap = over("bytes", size, limits.MAX_MODULE_SIZE)
            raise load_error(ErrCode.IllegalGrammar, 0, cap)
        self._preamble()
        rank = 0
        while reader.pos < size:
            offset = reader.pos
            number = reader.byte()
            section = _SECTIONS.get(number)
            if section is None:
                details = str(number)
                if number == TAG:
                    proposal = remedy(Proposal.EXCEPTION_HANDLING)
                    details += f": the tag section needs the proposal {proposal}"
                message = f"{MESSAGES[ErrCode.MalformedSection]} {details}"
                raise LoadError(ErrCode.MalformedSection, message, offset)
            length = reader.u32()
            if length > size - reader.pos:
                details = f"a section of {length} bytes where {size - reader.pos} are left"
                raise load_error(ErrCode.NameSizeOutOfBounds, offset, details)
            if number != CUSTOM:
                if section.rank <= rank:
                    details = f"the {section.name} section is out of place"
                    raise load_error(ErrCode.JunkSection, offset, details)
                rank = section.rank
            reader.end = reader.pos + length
            section.parse(self)
            if reader.pos != reader.end:
                left = reader.end - reader.pos
                details = f"{left} bytes of the {section.name} section are left over"
                raise load_error(ErrCode.SectionSizeMismatch, reader.pos, details)
            reader.end = size
        self._check_lengths()
        return ast

    def _preamble(self) -> None:
        for expected, code in (
            (MAGIC, ErrCode.MalformedMagic),
            (VERSION, ErrCode.MalformedVersion),
        ):
            offset = self.reader.pos
            found = self.ast.data[offset : offset + 4]
            self.reader.skip(4)
            if found != expected:
                raise load_error(code, offset, found.hex(" "))

    def _check_lengths(self) -> None:
        ast, end = self.ast, len(self.ast.data)
        if len(ast.bodies) != len(ast.functions):
            details = f"{len(ast.functions)} functions, {len(ast.bodies)} bodies"
            offset = end if self._code_offset is None else self._code_offset
            raise load_error(ErrCode.IncompatibleFuncCode, offset, details)
        if ast.data_count is not None and ast.data_count != len(ast.data_segments):
            details = f"{ast.data_count} announced, {len(ast.data_segments)} there"
            offset = end if self._data_offset is None else self._data_offset
            raise load_error(ErrCode.IncompatibleDataCount, offset, details)

    def _items(self, section: int, what: str, limit: int) -> range:
        """Begin a vector of items, whose offsets `_item` notes."""
        self._offsets = self.ast.item_offsets[section] = []
        return range(self.reader.count(what, limit))

    def _item(self) -> int:
        offset = self.reader.pos
        self._offsets.append(offset)
        return offset

    def _check_space(self, what: str, size: int, limit: int) -> None:
        if size > limit:
            cap = over(f"{what}, imports included", size, limit)
            raise load_error(ErrCode.IllegalGrammar, self.reader.pos, cap)

    def _custom(self) -> None:
        offset = self.reader.pos
        name = self.reader.name()
        if len(self.ast.customs) == limits.MAX_CUSTOM_SECTIONS:
            cap = over("custom sections", len(self.ast.customs) + 1, limits.MAX_CUSTOM_SECTIONS)
            raise load_error(ErrCode.IllegalGrammar, offset, cap)
        self.ast.customs.append(CustomSection(name, self.reader.pos, self.reader.end))
        self.reader.pos = self.reader.end

    def _types(self) -> None:
        for _ in self._items(TYPE, "types", limits.MAX_TYPES):
            self._item()
            self.ast.types.append(self.types.function_type())

    def _imports(self) -> None:
        ast, reader = self.ast, self.reader
        for _ in self._items(IMPORT, "imports", limits.MAX_IMPORTS):
            self._item()
            module, name = reader.name(), reader.name()
            offset = reader.pos
            kind = self._extern_kind(ErrCode.MalformedImportKind)
            type_index = -1
            imported: ExternalValue
            match kind:
                case ExternType.FUNCTION:
                    type_index = reader.u32()
                    imported = self._function(type_index, offset + 1)
                    ast.imported_functions += 1
                case ExternType.TABLE:
                    imported = self.types.table_type()
                    ast.table_types.append(imported)
                    ast.imported_tables += 1
                case ExternType.MEMORY:
                    imported = self.types.memory_type()
                    ast.memory_types.append(imported)
                    ast.imported_memories += 1
                case ExternType.GLOBAL:
                    imported = self.types.global_type()
                    ast.global_types.append(imported)
                    ast.imported_globals += 1
            ast.imports.append(Import(module, name, kind, imported, type_index))

    def _extern_kind(self, code: ErrCode) -> ExternType:
        offset = self.reader.pos
        kind = self.reader.byte()
        if kind > ExternType.GLOBAL:
            details = f"{kind:#04x}"
            if kind == 4:
                proposal = remedy(Proposal.EXCEPTION_HANDLING)
                details = f"a tag needs the proposal {proposal}"
            raise load_error(code, offset, details)
        return ExternType(kind)

    def _function(self, type_index: int, offset: int) -> FunctionType:
        ast = self.ast
        if type_index >= len(ast.types):
            # A rule of validation, but without its type a function has no place in the AST.
            code = ErrCode.InvalidFuncTypeIdx
            raise ValidationError(code, f"{MESSAGES[code]} {type_index}", offset)
        function_type = ast.types[type_index]
        ast.function_types.append(function_type)
        ast.function_type_indices.append(type_index)
        return function_type

    def _functions(self) -> None:
        ast, reader = self.ast, self.reader
        items = self._items(FUNCTION, "functions", limits.MAX_FUNCTIONS)
        self._check_space("functions", ast.imported_functions + len(items), limits.MAX_FUNCTIONS)
        for _ in items:
            offset = self._item()
            type_index = reader.u32()
            self._function(type_index, offset)
            ast.functions.append(type_index)

    def _tables(self) -> None:
        ast = self.ast
        items = self._items(TABLE, "tables", limits.MAX_TABLES)
        self._check_space("tables", ast.imported_tables + len(items), limits.MAX_TABLES)
        for _ in items:
            self._item()
            ast.tables.append(self.types.table_type())
        ast.table_types += ast.tables

    def _memories(self) -> None:
        ast = self.ast
        items = self._items(MEMORY, "memories", limits.MAX_MEMORIES)
        self._check_space("memories", ast.imported_memories + len(items), limits.MAX_MEMORIES)
        for _ in items:
            self._item()
            ast.memories.append(self.types.memory_type())
        ast.memory_types += ast.memories

    def _globals(self) -> None:
        ast = self.ast
        items = self._items(GLOBAL, "globals", limits.MAX_GLOBALS)
        self._check_space("globals", ast.imported_globals + len(items), limits.MAX_GLOBALS)
        for _ in items:
            self._item()
            global_type = self.types.global_type()
            ast.globals.append(GlobalDefinition(global_type, self._const_expr()))
            ast.global_types.append(global_type)

    def _const_expr(self) -> ConstExpr:
        return const_expr(self.reader, self.types)

    def _exports(self) -> None:
        for _ in self._items(EXPORT, "exports", limits.MAX_EXPORTS):
            self._item()
            name = self.reader.name()
            kind = self._extern_kind(ErrCode.MalformedExportKind)
            self.ast.exports.append(Export(name, kind, self.reader.u32()))

    def _start(self) -> None:
        self.ast.item_offsets[START] = [self.reader.pos]
        self.ast.start = self.reader.u32()

    def _elements(self) -> None:
        for _ in self._items(ELEMENT, "element segments", limits.MAX_SEGMENTS):
            offset = self._item()
            self.ast.elements.append(self._element_segment(offset))

    def _element_segment(self, offset: int) -> ElementSegment:
        """One segment (5.5.12), whose flags say: bit 0 not active, bit 1 the table is given (or,
        when not active, declarative), bit 2 expressions instead of function indices."""
        reader = self.reader
        flags = reader.u32()
        if flags > 7:
            raise load_error(ErrCode.IllegalGrammar, offset, f"element segment {flags=}")
        mode = ACTIVE if not flags & 1 else DECLARATIVE if flags & 2 else PASSIVE
        if mode == DECLARATIVE:
            self._need(Proposal.REFERENCE_TYPES, "a declarative element segment", offset)
        elif flags:
            what = "a passive element segment" if mode == PASSIVE else f"element segment {flags=}"
            self._need(Proposal.BULK_MEMORY_OPERATIONS, what, offset)
        table = reader.u32() if flags & 3 == 2 else 0
        segment_offset = self._const_expr() if mode == ACTIVE else None
        ref_type = RefType.FUNCREF
        if flags & 3:
            if flags & 4:
                ref_type = self.types.ref_type()
            else:
                self._element_kind()
        at_count = reader.pos
        count = reader.count("elements", limits.MAX_TABLE_ELEMENTS)
        self._total_elements += count
        if self._total_elements > limits.MAX_TABLE_ELEMENTS:
            cap = over("elements in all", self._total_elements, limits.MAX_TABLE_ELEMENTS)
            raise load_error(ErrCode.IllegalGrammar, at_count, cap)
        if flags & 4:
            init = [self._const_expr() for _ in range(count)]
        else:
            # Ten million of them may name the same few functions.
            references: dict[int, ConstExpr] = {}
            init = []
            for _ in range(count):
                index = reader.u32()
                expr = references.get(index)
                if expr is None:
                    expr = references[index] = ((REF_FUNC, index),)
                init.append(expr)
        return ElementSegment(mode, table, segment_offset, ref_type, init)

    def _element_kind(self) -> None:
        offset = self.reader.pos
        kind = self.reader.byte()
        if kind != 0:
            raise load_error(ErrCode.MalformedElemType, offset, f"{kind:#04x}")

    def _need(self, proposal: Proposal, what: str, offset: int) -> None:
        self.types.need(proposal, what, ErrCode.IllegalGrammar, offset)

    def _data_count(self) -> None:
        offset = self.reader.pos
        self._need(Proposal.BULK_MEMORY_OPERATIONS, "the data count section", offset)
        self.ast.data_count = self.reader.u32()

    def _code(self) -> None:
        ast, reader = self.ast, self.reader
        self._code_offset = reader.pos
        count = reader.count("bodies", limits.MAX_FUNCTIONS)
        if count > len(ast.functions):
            details = f"{len(ast.functions)} functions, {count} bodies"
            raise load_error(ErrCode.IncompatibleFuncCode, self._code_offset, details)
        section_end = reader.end
        for index in range(count):
            offset = reader.pos
            size = reader.u32()
            start = reader.pos
            if size > section_end - start:
                raise reader.unexpected_end()
            if size > limits.MAX_BODY_SIZE:
                cap = over("bytes of a function body", size, limits.MAX_BODY_SIZE)
                raise load_error(ErrCode.IllegalGrammar, offset, cap)
            reader.end = start + size
            params = len(ast.function_types[ast.imported_functions + index].parameters)
            locals_ = self._locals(params)
            ast.bodies.append(Body(start, reader.end, reader.pos, locals_))
            reader.pos = reader.end
            reader.end = section_end

    def _locals(self, params: int) -> tuple[tuple[int, int], ...]:
        reader = self.reader
        offset = reader.pos
        runs = []
        total = params
        for _ in range(reader.count("runs of locals", limits.MAX_LOCALS)):
            count = reader.u32()
            total += count
            if total > limits.MAX_LOCALS:
                cap = over("parameters and locals", total, limits.MAX_LOCALS)
                raise load_error(ErrCode.TooManyLocals, offset, cap)
            run = count, int(self.types.val_type())
            if count:
                runs.append(self._runs.setdefault(run, run))
        self._total_locals += total
        if self._total_locals > limits.MAX_TOTAL_LOCALS:
            cap = over("locals in all functions", self._total_locals, limits.MAX_TOTAL_LOCALS)
            raise load_error(ErrCode.TooManyLocals, offset, cap)
        return tuple(runs)

    def _data(self) -> None:
        reader = self.reader
        self._data_offset = reader.pos
        for _ in self._items(DATA, "data segments", limits.MAX_SEGMENTS):
            offset = self._item()
            flags = reader.u32()
            if flags > 2:
                raise load_error(ErrCode.IllegalGrammar, offset, f"data segment {flags=}")
            mode = PASSIVE if flags == 1 else ACTIVE
            if flags:
                what = "a passive data segment" if mode == PASSIVE else f"data segment {flags=}"
                self._need(Proposal.BULK_MEMORY_OPERATIONS, what, offset)
            memory = reader.u32() if flags == 2 else 0
            segment_offset = self._const_expr() if mode == ACTIVE else None
            start = reader.skip(reader.u32())
            self.ast.data_segments.append(
                DataSegment(mode, memory, segment_offset, start, reader.pos)
            )


_SECTIONS = {
    CUSTOM: _Section("custom", 0, ModuleParser._custom),
    TYPE: _Section("type", 1, ModuleParser._types),
    IMPORT: _Section("import", 2, ModuleParser._imports),
    FUNCTION: _Section("function", 3, ModuleParser._functions),
    TABLE: _Section("table", 4, ModuleParser._tables),
    MEMORY: _Section("memory", 5, ModuleParser._memories),
    GLOBAL: _Section("global", 6, ModuleParser._globals),
    EXPORT: _Section("export", 7, ModuleParser._exports),
    START: _Section("start", 8, ModuleParser._start),
    ELEMENT: _Section("element", 9, ModuleParser._elements),
    DATA_COUNT: _Section("data count", 10, ModuleParser._data_count),
    CODE: _Section("code", 11, ModuleParser._code),
    DATA: _Section("data", 12, ModuleParser._data),
}
