"""Which code belongs to a module: the same for all its instances in this process."""

from __future__ import annotations

import threading
import weakref

from .codegen.context import Variant
from .configure import CompilationMode
from .log import logger
from .module import AST
from .tiers.module import CompiledModule
from .tiers.status import Progress

_Key = tuple[Variant, CompilationMode]

_lock = threading.RLock()  # a signal handler may come here while its thread is here
_loaded: weakref.WeakValueDictionary[tuple[bytes, _Key], CompiledModule] = (
    weakref.WeakValueDictionary()
)
_known: weakref.WeakKeyDictionary[AST, dict[_Key, CompiledModule]] = weakref.WeakKeyDictionary()
"""What was found for an AST, as long as it lives: the next instance does not hash its bytes."""


def compiled_module(
    ast: AST,
    variant: Variant,
    mode: CompilationMode,
    progress: Progress | None = None,
) -> CompiledModule:
    """The code of a validated module: what was in its file, if that fits. Compiles only in the mode
    that optimises first, and only what no process has compiled before."""
    known = _known.setdefault(ast, {})
    found = known.get((variant, mode))
    if found is None:
        precompiled = ast.precompiled
        if precompiled is not None and (misfit := precompiled.misfit(variant)) is not None:
            logger.warning("the compiled code of a module is not used: %s", misfit)
            precompiled = None
        with _lock:
            digest = ast.digest if precompiled is None else precompiled.digest
            name = digest, (variant, mode)
            found = _loaded.get(name)
            if found is None:
                found = _loaded[name] = CompiledModule(ast, variant, mode, precompiled)
            else:
                found.adopt(ast)
            known[variant, mode] = found
    if mode == CompilationMode.OPTIMIZED:
        found.complete(progress)
    return found
