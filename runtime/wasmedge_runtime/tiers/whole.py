"""All units of a module, made for a file instead of for this process."""

from __future__ import annotations

import logging
import threading

from .. import cache
from ..codegen.context import ContextLayout, Target, Variant
from ..configure import CompilerOptimizationLevel
from ..module import AST
from ..native.elf import ObjectError
from . import optimizer
from .plan import Plan
from .status import CodeState, CodeStatus, Progress
from .unit import UnitCode, compile_unit, given_up_name, load_unit, store_unit, unit_name

_log = logging.getLogger("wasmedge")


class WholeModule:
    """The code of a validated module, which helpers make by `optimizer.Work`.

    Units that are in the cache, because a program or this class had them made at the same level,
    are not made again.
    """

    def __init__(self, ast: AST, variant: Variant, target: Target) -> None:
        self.variant = variant
        self.target = target
        self.plan = Plan(ast)
        self.optimizing = False
        self.calls = [0] * len(self.plan.optimized)
        self.last_needed = 0.0
        self._ast = ast
        self._layout = ContextLayout(ast)
        self._units: dict[int, UnitCode] = {}
        self._given_up: set[int] = set()
        self._compiled = False
        self._lock = threading.Lock()

    def make(self, progress: Progress | None) -> list[UnitCode]:
        """All units, in order; several processes make what is missing.

        What is too much for LLVM is compiled without optimisation, and the log says so.

        Raises:
            WasmEdgeError: a function is beyond a limit of the translator.
        """
        for number in range(len(self.calls)):
            unit = load_unit(self.name(number))
            if unit is not None:
                self._units[number] = unit
            elif cache.contains(given_up_name(self.name(number))):
                self._given_up.add(number)
        missing = self.missing()
        if len(missing) == 1:
            unit = self._compile(missing[0], self.target)
            store_unit(self.name(missing[0]), unit)
            self._units[missing[0]] = unit
        elif missing:
            self._compiled = True
            optimizer.finish(self, progress)
        for number in sorted(self._given_up):
            functions = self.plan.optimized[number]
            _log.warning(
                "%d functions from number %d are compiled without optimisation",
                len(functions),
                functions.start,
            )
            plain = self.target._replace(level=CompilerOptimizationLevel.O0)
            self._units[number] = self._compile(number, plain)
        return [self._units[number] for number in range(len(self.calls))]

    def ir(self) -> list[str]:
        """What LLVM gets to compile, for each unit."""
        from ..codegen.unit import UnitTranslator  # only who asks for it needs it here

        return [
            UnitTranslator(self._ast, self.variant, self._layout, functions).text(self.target.level)
            for functions in self.plan.optimized
        ]

    def _compile(self, number: int, target: Target) -> UnitCode:
        self._compiled = True
        functions = self.plan.optimized[number]
        return compile_unit(self._ast, self.variant, self._layout, target, functions)

    # What helpers need.

    def source(self) -> AST:
        """The module."""
        return self._ast

    def name(self, number: int) -> str:
        """The name of a unit's entry in the cache."""
        return unit_name(self._ast.digest, self.variant, number, self.target)

    def missing(self) -> list[int]:
        """The units that are to be made."""
        with self._lock:
            return sorted(set(range(len(self.calls))) - set(self._units) - self._given_up)

    def install(self, number: int, unit: UnitCode) -> None:
        """Take a unit that a helper made.

        Raises:
            ObjectError: it is another one.
        """
        if unit.functions != list(self.plan.optimized[number]):
            raise ObjectError("it has other functions")
        with self._lock:
            self._units[number] = unit

    def give_up(self, number: int) -> None:
        """Take notice that helpers could not make a unit."""
        with self._lock:
            self._given_up.add(number)

    @property
    def status(self) -> CodeStatus:
        """How far it has come."""
        with self._lock:
            done = sum(len(self.plan.optimized[number]) for number in self._units)
        state = CodeState.OPTIMIZING if self.optimizing else CodeState.OPTIMIZED
        return CodeStatus(state, len(self._ast.bodies), 0, done, not self._compiled)
