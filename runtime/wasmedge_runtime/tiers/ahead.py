"""All that processes need to run a module, made ahead and put into the cache.

For a process that never runs the module: see `wasmedge_pool.compiler`.
"""

from __future__ import annotations

from collections.abc import Iterable

from .. import cache
from ..codegen.context import Variant
from ..compiled import compiled_module
from ..configure import CompilationMode, Configure
from ..loader import Loader
from ..memory import Memory
from ..module import AST
from ..native.type_stubs import prepare, type_stubs
from ..types import ExternType, FunctionType
from ..validator import Validator
from . import optimizer
from .status import CodeStatus, Progress

_MOST_STUBS = 64
"""Types of exports whose stubs are made: each is an entry, and a millisecond's work."""


class Ahead:
    """A module whose code is made that is not in the cache.

    Args:
        data: the module.
        config: the options with which it will be run.

    Raises:
        LoadError, ValidationError: the module is refused.
    """

    def __init__(self, data: bytes, config: Configure) -> None:
        ast = Loader(config).load_content(data, "the pool's module")
        Validator(config).validate(ast)
        self._ast = ast
        # The mode that waits for nothing: what is missing is asked for below.
        self._module = compiled_module(ast, _variant(ast, config), CompilationMode.TIERED)

    def make(self, background: bool, lasting: bool, progress: Progress) -> CodeStatus:
        """Make all of it.

        Args:
            background: whether helpers get only the time that nobody else needs.
            lasting: see `optimizer.Team`.
            progress: told now and then how far it has come.
        """
        module = self._module
        with cache.announce(module.announcement):
            _make_stubs(self._ast)
            module.check_stored()
            if module.plan.is_small:
                module.complete(None)
            else:
                # Helpers even for a single unit: what is too much for LLVM ends one of them.
                optimizer.finish(module, progress, background, lasting)
            return module.status

    def want(self, digest: bytes, functions: Iterable[int]) -> None:
        """Take notice, while it is made, that processes that run the module need some functions."""
        if digest == self._module.digest and not self._module.plan.is_small:
            for function in functions:
                self._module.want(function)


def _variant(ast: AST, config: Configure) -> Variant:
    """Which code instances will ask for."""
    guarded = True
    for kind in ast.memory_types:
        memory = Memory(kind)  # reserves address space, as each instance will
        guarded = guarded and memory.guarded
        memory.close()
    return Variant(
        guarded, config.statistics_instruction_counting, config.statistics_cost_measuring
    )


def _make_stubs(ast: AST) -> None:
    """In the groups in which instantiation and calls will ask for them."""
    prepare(wanted.type for wanted in ast.imports if isinstance(wanted.type, FunctionType))
    called = [export.index for export in ast.exports if export.kind == ExternType.FUNCTION]
    if ast.start is not None:
        called.insert(0, ast.start)
    for kind in list(dict.fromkeys(ast.function_types[index] for index in called))[:_MOST_STUBS]:
        type_stubs(kind)
