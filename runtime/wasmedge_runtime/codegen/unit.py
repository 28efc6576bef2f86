"""Functions of a module as LLVM IR: the unit that is compiled at once, and what it shares."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence

from ..configure import CompilerOptimizationLevel
from ..errors import ErrCode, WasmEdgeError
from ..limits import MAX_MOVED_VALUES
from ..module import AST
from ..native.layout import HELPERS
from ..native.support_ir import ATTRIBUTES
from ..types import FunctionType

# The emitters of irregular instructions register themselves when they are imported.
from . import constants, control, lanes, memory, numeric, references  # noqa: F401
from .calls import host_stub, thunk
from .context import ContextLayout, Variant
from .function import FunctionTranslator
from .numeric import opaque_constant
from .rules import Rules, make_rules

_STACK_POINTER = {"x86_64": "rsp", "aarch64": "sp"}

_SHARED = """
@functions = external hidden global ptr
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
attributes #0 = {{{{ {ATTRIBUTES} {{size}} "probe-stack"="inline-asm" }}}}
attributes #1 = {{{{ {ATTRIBUTES} {{size}} }}}}
attributes #2 = {{{{ {ATTRIBUTES} {{size}} cold noinline noreturn }}}}
attributes #3 = {{{{ {ATTRIBUTES} "probe-stack"="inline-asm" noinline optnone }}}}
!0 = !{{{{}}}}
!1 = !{{{{!"{_STACK_POINTER.get(platform.machine(), "sp")}"}}}}
!2 = !{{{{!"branch_weights", i32 1, i32 1048575}}}}
"""

_SIZE_ATTRIBUTES = {
    CompilerOptimizationLevel.Os: "optsize",
    CompilerOptimizationLevel.Oz: "minsize optsize",
}
"""What tells LLVM's passes to prefer small code; they are those of -O2."""


class UnitTranslator:
    """Translates some functions of a validated module, which become one object file.

    Functions of the unit call each other directly, those of other units through the module's
    function table: the symbol `functions`, an array of the current code of every own function.
    `admit` is asked whether a function that one of them calls becomes part of the unit.
    """

    def __init__(
        self,
        ast: AST,
        variant: Variant,
        layout: ContextLayout,
        functions: Sequence[int],
        admit: Callable[[int], bool] | None = None,
    ) -> None:
        self.ast = ast
        self.variant = variant
        self.layout = layout
        self.functions = list(functions)
        """Their indices in the function index space."""
        self.used: set[str] = set()
        """Names of the lowering's functions that the bodies call."""
        self.runs: list[list[bytes]] = []
        """Per function, when gas is measured: the opcodes of each run of instructions, as 16-bit
        numbers. A run costs their sum."""
        self.largest_function = 0
        """Lines of IR of the largest body, roughly."""
        self.rules: Rules = make_rules()
        self._moved_values = 0
        self._here = set(functions)
        self._admit = admit

    def is_here(self, index: int) -> bool:
        """Whether a function that is called is part of this unit, from now on perhaps."""
        if index in self._here:
            return True
        if self._admit is None or not self._admit(index):
            return False
        self.functions.append(index)
        self._here.add(index)
        return True

    def move(self, values: int) -> None:
        """Note that an instruction passes several values.

        Raises:
            WasmEdgeError: the unit has passed its limit: it would take gigabytes to compile.
        """
        self._moved_values += values
        if self._moved_values > MAX_MOVED_VALUES:
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

    def text(self, level: CompilerOptimizationLevel = CompilerOptimizationLevel.O2) -> str:
        """The unit as LLVM IR, in which only small code at a level for it leaves a trace of the
        level. Takes time in proportion to its code."""
        bodies = []
        for index in self.functions:  # which may grow
            self.runs.append([])
            bodies.append(FunctionTranslator(self, index).translate())
        trap = _SHARED.format(trap=self.helper_offset("trap"))
        attributes = _ATTRIBUTES.format(size=_SIZE_ATTRIBUTES.get(level, ""))
        return "\n".join([*bodies, *lowering_functions(self.used), trap, attributes])


def lowering_functions(used: set[str]) -> list[str]:
    """The text of the lowering's functions that are called."""
    return [numeric.FUNCTIONS[name] for name in sorted(used)]


def type_stubs_module(kinds: Sequence[FunctionType]) -> str:
    """The code that depends on a type of functions alone, as a module of its own: for each type,
    the thunk `thunk.N` and the stub of host functions `host.N`."""
    parts = []
    for number, kind in enumerate(kinds):
        parts += [thunk(f"thunk.{number}", kind), host_stub(f"host.{number}", kind)]
    return "\n".join([*parts, _ATTRIBUTES.format(size="")])
