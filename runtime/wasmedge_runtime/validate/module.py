"""A module as a whole, without its bodies: core specification 3.4 and 3.2."""

from __future__ import annotations

from wasmedge_runtime import limits
from wasmedge_runtime.binary.sections import (
    DATA,
    ELEMENT,
    EXPORT,
    GLOBAL,
    IMPORT,
    MEMORY,
    START,
    TABLE,
    TYPE,
)
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import MESSAGES, ErrCode, ValidationError
from wasmedge_runtime.features import needs, remedy
from wasmedge_runtime.module import ACTIVE, AST
from wasmedge_runtime.types import (
    ExternType,
    FunctionType,
    GlobalType,
    Limit,
    MemoryType,
    TableType,
    ValMut,
    ValType,
)
from wasmedge_runtime.validate.constant import check_constant

_UNKNOWN = {
    ExternType.FUNCTION: ErrCode.InvalidFuncIdx,
    ExternType.TABLE: ErrCode.InvalidTableIdx,
    ExternType.MEMORY: ErrCode.InvalidMemoryIdx,
    ExternType.GLOBAL: ErrCode.InvalidGlobalIdx,
}


class ModuleValidator:
    """Checks everything but the bodies, and notes in the AST which functions can be referenced.

    All methods raise ValidationError.
    """

    def __init__(self, ast: AST, proposals: frozenset[Proposal]) -> None:
        self.ast = ast
        self.proposals = proposals

    def validate(self) -> None:
        """Check the module, section by section."""
        self._types()
        self._imports()
        self._tables()
        self._memories()
        self._globals()
        self._elements()
        self._data_segments()
        self._exports()
        self._start()

    def _error(self, code: ErrCode, details: str, section: int, index: int) -> ValidationError:
        """An error in the test suite's words, at an item of a section."""
        at = self.ast.item_offsets[section][index]
        return ValidationError(code, MESSAGES[code] + details, at)

    def _needs(
        self, proposal: Proposal, code: ErrCode, what: str, section: int, index: int
    ) -> None:
        """Refuse an item unless its proposal is on."""
        if proposal not in self.proposals:
            at = self.ast.item_offsets[section][index]
            raise ValidationError(code, needs(code, what, proposal), at)

    def _types(self) -> None:
        for index, function_type in enumerate(self.ast.types):
            if len(function_type.returns) > 1:
                what = f"a function with {len(function_type.returns)} results"
                self._needs(Proposal.MULTI_VALUE, ErrCode.InvalidResultArity, what, TYPE, index)

    def _imports(self) -> None:
        tables = memories = 0
        for index, entry in enumerate(self.ast.imports):
            match entry.type:
                case TableType():
                    self._table(entry.type, tables, IMPORT, index)
                    tables += 1
                case MemoryType():
                    self._memory(entry.type, memories, IMPORT, index)
                    memories += 1
                case GlobalType() if entry.type.mutability is ValMut.VAR:
                    self._mutable("import", IMPORT, index)
                case _:  # functions were checked with their types
                    pass

    def _mutable(self, direction: str, section: int, index: int) -> None:
        proposal, code = Proposal.IMPORT_EXPORT_MUT_GLOBALS, ErrCode.InvalidMut
        self._needs(proposal, code, f"the {direction} of a mutable global", section, index)

    def _tables(self) -> None:
        for index, table_type in enumerate(self.ast.tables):
            self._table(table_type, self.ast.imported_tables + index, TABLE, index)

    def _table(self, table_type: TableType, number: int, section: int, index: int) -> None:
        if number > 0:
            proposal = Proposal.REFERENCE_TYPES
            self._needs(proposal, ErrCode.MultiTables, "a second table", section, index)
        limit = table_type.limit
        for size, cap in (
            (limit.min, limits.MAX_TABLE_ELEMENTS),
            (limit.max or 0, limits.MAX_TABLE_SIZE),
        ):
            if size > cap:
                message = f"table size: {size} elements, and the limit is {cap}"
                at = self.ast.item_offsets[section][index]
                raise ValidationError(ErrCode.InvalidLimit, message, at)
        self._order(limit, section, index)

    def _memories(self) -> None:
        for index, memory_type in enumerate(self.ast.memories):
            self._memory(memory_type, self.ast.imported_memories + index, MEMORY, index)

    def _memory(self, memory_type: MemoryType, number: int, section: int, index: int) -> None:
        if number > 0:
            needed = f": a second memory needs the proposal {remedy(Proposal.MULTI_MEMORIES)}"
            raise self._error(ErrCode.MultiMemories, needed, section, index)
        limit = memory_type.limit
        for pages in (limit.min, limit.max or 0):
            if pages > limits.MAX_PAGES:
                raise self._error(ErrCode.InvalidMemPages, f", not {pages}", section, index)
        self._order(limit, section, index)

    def _order(self, limit: Limit, section: int, index: int) -> None:
        if limit.max is not None and limit.min > limit.max:
            details = f": {limit.min} and {limit.max}"
            raise self._error(ErrCode.InvalidLimit, details, section, index)

    def _globals(self) -> None:
        for index, definition in enumerate(self.ast.globals):
            at = self.ast.item_offsets[GLOBAL][index]
            check_constant(self.ast, definition.init, int(definition.type.val_type), at)

    def _elements(self) -> None:
        ast = self.ast
        for index, segment in enumerate(ast.elements):
            at = ast.item_offsets[ELEMENT][index]
            expected = int(segment.ref_type)
            # Long segments repeat few functions, whose expressions are one object each.
            for expr in dict.fromkeys(segment.init):
                check_constant(ast, expr, expected, at)
            if segment.mode != ACTIVE or segment.offset is None:
                continue
            if segment.table >= len(ast.table_types):
                details = f" {segment.table}"
                raise self._error(ErrCode.InvalidTableIdx, details, ELEMENT, index)
            table_type = ast.table_types[segment.table]
            if table_type.ref_type != segment.ref_type:
                details = f": {segment.ref_type} elements for a table of {table_type.ref_type}"
                raise self._error(ErrCode.TypeCheckFailed, details, ELEMENT, index)
            check_constant(ast, segment.offset, ValType.I32, at)

    def _data_segments(self) -> None:
        for index, segment in enumerate(self.ast.data_segments):
            if segment.mode != ACTIVE or segment.offset is None:
                continue
            if segment.memory >= len(self.ast.memory_types):
                details = f" {segment.memory}"
                raise self._error(ErrCode.InvalidMemoryIdx, details, DATA, index)
            at = self.ast.item_offsets[DATA][index]
            check_constant(self.ast, segment.offset, ValType.I32, at)

    def _exports(self) -> None:
        ast = self.ast
        sizes = {
            ExternType.FUNCTION: len(ast.function_types),
            ExternType.TABLE: len(ast.table_types),
            ExternType.MEMORY: len(ast.memory_types),
            ExternType.GLOBAL: len(ast.global_types),
        }
        names: set[str] = set()
        for index, export in enumerate(ast.exports):
            if export.index >= sizes[export.kind]:
                raise self._error(_UNKNOWN[export.kind], f" {export.index}", EXPORT, index)
            if export.name in names:
                raise self._error(ErrCode.DupExportName, f": {export.name!r}", EXPORT, index)
            names.add(export.name)
            if export.kind is ExternType.FUNCTION:
                ast.declared_functions.add(export.index)
            elif export.kind is ExternType.GLOBAL:
                global_type = ast.global_types[export.index]
                if global_type.mutability is ValMut.VAR:
                    self._mutable("export", EXPORT, index)

    def _start(self) -> None:
        ast = self.ast
        if ast.start is None:
            return
        if ast.start >= len(ast.function_types):
            raise self._error(ErrCode.InvalidFuncIdx, f" {ast.start}", START, 0)
        function_type = ast.function_types[ast.start]
        if function_type != FunctionType():
            raise self._error(ErrCode.InvalidStartFunc, f" of type {function_type}", START, 0)
