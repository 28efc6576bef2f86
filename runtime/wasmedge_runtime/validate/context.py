"""What function bodies are validated against: core specification 3.1.1."""

from __future__ import annotations

from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.module import AST
from wasmedge_runtime.types import FunctionType, ValMut


class Context:
    """A module's index spaces as plain codes, which compare and copy quickly."""

    def __init__(self, ast: AST, proposals: frozenset[Proposal]) -> None:
        self.proposals = proposals
        codes: dict[FunctionType, tuple[list[int], list[int]]] = {}
        for function_type in ast.types:
            if function_type not in codes:
                params = [int(t) for t in function_type.parameters]
                codes[function_type] = params, [int(t) for t in function_type.returns]
        self.types = [codes[function_type] for function_type in ast.types]
        """Parameters and results of each function type."""
        self.functions = [codes[function_type] for function_type in ast.function_types]
        """The same of each function."""
        self.tables = [int(table.ref_type) for table in ast.table_types]
        self.has_memory = bool(ast.memory_types)
        self.globals = [(int(g.val_type), g.mutability is ValMut.VAR) for g in ast.global_types]
        """Type and mutability of each global."""
        self.elements = [int(segment.ref_type) for segment in ast.elements]
        self.data_count = ast.data_count
        self.references = ast.declared_functions
        """Functions that `ref.func` may name."""
