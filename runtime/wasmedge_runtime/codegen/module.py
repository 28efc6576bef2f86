"""A whole module as LLVM IR: its functions, the thunks into them, and what they share."""

from __future__ import annotations

import logging
import platform
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import ErrCode, WasmEdgeError
from ..limits import MAX_MOVED_VALUES
from ..module import AST
from ..native.layout import HELPERS
from ..native.support_ir import ATTRIBUTES
from ..types import FunctionType

# The emitters of irregular instructions register themselves when they are imported.
from . import constants, control, lanes, memory, numeric, references  # noqa: F401
from .calls import host_stub, thunk
from .context import ContextLayout
from .function import FunctionTranslator
from .numeric import opaque_constant
from .rules import Rules, make_rules

_log = logging.getLogger("wasmedge")

_STACK_POINTER = {"x86_64": "rsp", "aarch64": "sp"}

_SHARED = """
define internal void @trap(ptr %c, i32 %code) #2 {{
%act = load ptr, ptr %c
%helpers.p = getelementptr i8, ptr %c, i64 8
%helpers = load ptr, ptr %helpers.p
%trap.p = getelementptr i8, ptr %helpers, i64 {trap}
%trap = load ptr, ptr %trap.p
call void %trap(ptr %act, i32 %code)
unreachable
}}
"""

# disable-tail-calls: otherwise LLVM turns runaway recursion into an endless loop.
# probe-stack: a large frame touches each of its pages in order, so it cannot step over the guard.
_ATTRIBUTES = f"""
attributes #0 = {{ {ATTRIBUTES} "probe-stack"="inline-asm" }}
attributes #1 = {{ {ATTRIBUTES} }}
attributes #2 = {{ {ATTRIBUTES} cold noinline noreturn }}
attributes #3 = {{ {ATTRIBUTES} "probe-stack"="inline-asm" noinline optnone }}
!0 = !{{}}
!1 = !{{!"{_STACK_POINTER.get(platform.machine(), "sp")}"}}
!2 = !{{!"branch_weights", i32 1, i32 1048575}}
"""


class Variant(NamedTuple):
    """Which code is generated from a module; part of every cache key."""

    guarded: bool
    """Memory accesses rely on reserved address space and signal handlers; otherwise each one is
    compared with the size, and loops look for interruptions."""
    counting: bool
    gas: bool


@dataclass(slots=True)
class ModuleTranslator:
    """Translates a validated module; `text()` gives LLVM IR."""

    ast: AST
    variant: Variant
    layout: ContextLayout = field(init=False)
    used: set[str] = field(default_factory=set)
    """Names of the lowering's functions that the bodies call."""
    segments: list[tuple[int, ...]] = field(default_factory=list)
    """Opcodes of each run of instructions, when gas is measured; the run's cost is their sum."""
    largest_function: int = 0
    """Lines of IR of the largest body, roughly."""
    rules: Rules = field(default_factory=make_rules)
    moved_values: int = 0
    _referenced: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self.layout = ContextLayout(self.ast)
        self._referenced = frozenset(self.layout.referenced)

    def is_referenced(self, index: int) -> bool:
        """Whether a function can be reached from outside its own object."""
        return index in self._referenced

    def add_segment(self, run: list[int]) -> int:
        self.segments.append(tuple(run))
        return len(self.segments) - 1

    def move(self, values: int) -> None:
        """Note that an instruction passes several values.

        Raises:
            WasmEdgeError: the module has passed its limit: it would take gigabytes to compile.
        """
        self.moved_values += values
        if self.moved_values > MAX_MOVED_VALUES:
            raise WasmEdgeError(
                ErrCode.RuntimeError,
                f"too much code: calls and branches pass more than {MAX_MOVED_VALUES:,} values",
            )

    @staticmethod
    def helper_offset(name: str) -> int:
        return HELPERS.index(name) * 8

    @staticmethod
    def opaque_zero(ir_type: str) -> str:
        return opaque_constant(ir_type, 0)

    def text(self) -> str:
        """The whole module. Takes time in proportion to its code."""
        started = time.perf_counter()
        first = self.ast.imported_functions
        functions = [
            FunctionTranslator(self, first + number).translate()
            for number in range(len(self.ast.bodies))
        ]
        thunks = [thunk(name, kind) for kind, name in self.thunks().items()]
        trap = _SHARED.format(trap=self.helper_offset("trap"))
        parts = [*functions, *thunks, *lowering_functions(self.used), trap, _ATTRIBUTES]
        _log.debug(
            "translated %d functions in %.1f ms",
            len(functions),
            (time.perf_counter() - started) * 1e3,
        )
        return "\n".join(parts)

    def thunks(self) -> dict[FunctionType, str]:
        """The name of the thunk for each type of function that can be called from outside."""
        return thunk_names(self.ast, self.layout)


def thunk_names(ast: AST, layout: ContextLayout) -> dict[FunctionType, str]:
    """One thunk for each function type of the functions that have a record."""
    kinds = dict.fromkeys(ast.function_types[index] for index in layout.referenced)
    return {kind: f"thunk.{number}" for number, kind in enumerate(kinds)}


def lowering_functions(used: set[str]) -> list[str]:
    """The text of the lowering's functions that are called."""
    return [numeric.FUNCTIONS[name] for name in sorted(used)]


def host_stub_module(kind: FunctionType) -> str:
    """The stub `host` of host functions of a type, as a module of its own."""
    return host_stub("host", kind) + _ATTRIBUTES
