"""The module as records: what the loader reads and the validator completes.

Core specification 2.5. Function bodies stay slices of the file and are decoded where they are
validated and translated; nothing here knows the binary format.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from wasmedge_runtime.closable import Closable
from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.errors import ErrCode
from wasmedge_runtime.types import (
    ExportType,
    ExternalValue,
    ExternType,
    FunctionType,
    GlobalType,
    ImportType,
    MemoryType,
    RefType,
    TableType,
)

if TYPE_CHECKING:
    from wasmedge_runtime.precompiled import Precompiled

Immediate: TypeAlias = int | bytes | tuple[int, ...] | None

ConstExpr: TypeAlias = tuple[tuple[int, Immediate], ...]
"""A constant expression as (opcode, immediate) pairs, without its final `end`.

Integers are signed, floats are their bits as an unsigned int, v128 is 16 bytes.
"""

ACTIVE = 0
PASSIVE = 1
DECLARATIVE = 2


class Import(NamedTuple):
    """One import; `type_index` is the function type's index, -1 for other kinds."""

    module: str
    name: str
    kind: ExternType
    type: ExternalValue
    type_index: int


class Export(NamedTuple):
    """One export: the entry `index` of the index space of its kind, under a name."""

    name: str
    kind: ExternType
    index: int  # type: ignore[assignment]  # the specification's word; tuple.index is not missed


class GlobalDefinition(NamedTuple):
    """A global of the module itself, with its initial value."""

    type: GlobalType
    init: ConstExpr


class ElementSegment(NamedTuple):
    """References for a table. `mode` is ACTIVE, PASSIVE or DECLARATIVE; only an active segment
    has a table and an offset."""

    mode: int
    table: int
    offset: ConstExpr | None
    ref_type: RefType
    init: Sequence[ConstExpr]


class DataSegment(NamedTuple):
    """Bytes `start` to `end` of the file, for a memory. `mode` is ACTIVE or PASSIVE; only an
    active segment has a memory and an offset."""

    mode: int
    memory: int
    offset: ConstExpr | None
    start: int
    end: int


class Body(NamedTuple):
    """A function body as offsets in the file: from `start` (its local declarations), first
    instruction at `code`, to `end` (after the final `end`). `locals` are runs of
    (count, value type code), parameters not included."""

    start: int
    end: int
    code: int
    locals: tuple[tuple[int, int], ...]


class CustomSection(NamedTuple):
    """A custom section: its contents are the bytes `start` to `end` of the file, name excluded."""

    name: str
    start: int
    end: int


class AST(Closable):
    """A loaded module.

    The attributes are for the engine; `list_imports` and `list_exports` are the public part.
    """

    def __init__(self, data: bytes, proposals: frozenset[Proposal]) -> None:
        self.data = data
        """The whole file, which bodies, data segments and custom sections are slices of."""
        self.proposals = proposals
        """What was switched on when it was loaded; validation allows nothing beyond it."""
        self.uses: dict[Proposal, tuple[ErrCode, str, int]] = {}
        """The proposals that everything but the bodies needs: error code, what needs it first,
        and where in the file that is."""

        self.types: list[FunctionType] = []
        self.imports: list[Import] = []
        self.functions: list[int] = []
        """The type index of each function defined in the module."""
        self.tables: list[TableType] = []
        self.memories: list[MemoryType] = []
        self.globals: list[GlobalDefinition] = []
        self.exports: list[Export] = []
        self.start: int | None = None
        self.elements: list[ElementSegment] = []
        self.data_count: int | None = None
        self.data_segments: list[DataSegment] = []
        self.bodies: list[Body] = []
        self.customs: list[CustomSection] = []
        self.item_offsets: dict[int, list[int]] = {}
        """Section id to where its items stand in the file, for error messages."""

        # The index spaces: imports first, then the module's own.
        self.function_types: list[FunctionType] = []
        self.function_type_indices: list[int] = []
        self.table_types: list[TableType] = []
        self.memory_types: list[MemoryType] = []
        self.global_types: list[GlobalType] = []
        self.imported_functions = 0
        self.imported_tables = 0
        self.imported_memories = 0
        self.imported_globals = 0

        # What validation finds out for those who come after it.
        self.validated = False
        self.select_types: list[dict[int, int]] = []
        """Per body: the offset of each reachable `select` without a type, to its operands' type."""
        self.declared_functions: set[int] = set()
        """Functions that can be referenced (`refs` of the specification, 3.4.10)."""

        self.precompiled: Precompiled | None = None
        """Code for it that was in its file and may be used."""

        self._function_names: dict[int, str] | None = None

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of the file, by which compiled code is found."""
        return hashlib.sha256(self.data).digest()

    @property
    def function_names(self) -> dict[int, str]:
        """Function names of the name section by index; what is damaged there is left out."""
        if self._function_names is None:
            # Here, because most modules are never asked.
            from wasmedge_runtime.binary.names import function_names

            self._function_names = function_names(self)
        return self._function_names

    def list_imports(self) -> list[ImportType]:
        """What the module needs, in the order of the file.

        Raises WasmEdgeError after `close`.
        """
        self._check_open()
        return [ImportType(i.kind, i.module, i.name, i.type) for i in self.imports]

    def list_exports(self) -> list[ExportType]:
        """What the module offers, in the order of the file.

        An export of something that does not exist is left out: that is for the validator to
        refuse. Raises WasmEdgeError after `close`.
        """
        self._check_open()
        spaces: dict[ExternType, Sequence[ExternalValue]] = {
            ExternType.FUNCTION: self.function_types,
            ExternType.TABLE: self.table_types,
            ExternType.MEMORY: self.memory_types,
            ExternType.GLOBAL: self.global_types,
        }
        return [
            ExportType(e.kind, e.name, spaces[e.kind][e.index])
            for e in self.exports
            if e.index < len(spaces[e.kind])
        ]
