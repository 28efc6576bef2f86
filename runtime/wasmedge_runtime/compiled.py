"""Modules as loaded machine code: from this process, from the cache on disk, or compiled now."""

from __future__ import annotations

import array
import logging
import threading
import time
import weakref

import msgpack

from . import cache
from .codegen.context import ContextLayout
from .codegen.module import ModuleTranslator, Variant, thunk_names
from .module import AST
from .native import elf
from .native.code import CodeRegion, LoadedCode

_log = logging.getLogger("wasmedge")

_LEVEL = 2
"""LLVM's optimisation level for code that runs at once."""

_LARGEST_OPTIMISED = 100_000
"""Lines of IR of a function beyond which its module is not optimised at all: at any level above 0,
LLVM's code generator needs quadratic time for a function's size."""

_lock = threading.RLock()  # a signal handler may come here while its thread compiles
_loaded: weakref.WeakValueDictionary[str, CompiledModule] = weakref.WeakValueDictionary()
_known: weakref.WeakKeyDictionary[AST, dict[Variant, CompiledModule]] = weakref.WeakKeyDictionary()
"""What was found for an AST, as long as it lives: the next instance does not hash its bytes."""


class CompiledModule:
    """The code of one module in one variant; instances share it and keep it alive."""

    def __init__(self, ast: AST, variant: Variant, code: LoadedCode, segments: list[bytes]) -> None:
        self.variant = variant
        self.code = code
        self.layout = ContextLayout(ast)
        self.segments = [array.array("H", segment) for segment in segments]
        """Opcodes of each run of instructions, when gas is measured."""
        thunks = thunk_names(ast, self.layout)
        self.entries = [
            (code.address(f"f{index}"), code.address(thunks[ast.function_types[index]]))
            for index in self.layout.referenced
        ]
        """Code and thunk of each function that has a record, in the order of the records."""


def compiled_module(ast: AST, variant: Variant) -> CompiledModule:
    """The code for a validated module. Compiles only what no process has compiled before."""
    variants = _known.setdefault(ast, {})
    found = variants.get(variant)
    if found is None:
        found = variants[variant] = _find(ast, variant)
    return found


def _find(ast: AST, variant: Variant) -> CompiledModule:
    name = cache.key("module", cache.machine(), _LEVEL, *map(int, variant), ast.digest)
    found = _loaded.get(name)
    if found is None:
        # What is in the cache does not wait for what another thread compiles; should two threads
        # load the same entry, the first one's is used.
        made = _from_cache(ast, variant, name)
        if made is None:
            with _lock:
                found = _loaded.get(name)
                made = found or _from_cache(ast, variant, name) or _compile(ast, variant, name)
        found = _loaded.setdefault(name, made)
    return found


def _from_cache(ast: AST, variant: Variant, name: str) -> CompiledModule | None:
    entry = cache.load(name)
    if entry is None:
        return None
    try:
        data, segments = msgpack.unpackb(entry)
        module = CompiledModule(ast, variant, CodeRegion.get().load(data), segments)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException, elf.ObjectError) as error:
        _log.warning("cache entry %s is not usable: %s", name, error)
        return None
    _log.debug("code of %d bytes from the cache", len(data))
    return module


def _compile(ast: AST, variant: Variant, name: str) -> CompiledModule:
    from .codegen.llvm import compile_object

    translator = ModuleTranslator(ast, variant)
    text = translator.text()
    started = time.perf_counter()
    level = _LEVEL if translator.largest_function <= _LARGEST_OPTIMISED else 0
    data = compile_object(text, level)
    _log.debug("compiled in %.1f ms to %d bytes", (time.perf_counter() - started) * 1e3, len(data))
    segments = [array.array("H", run).tobytes() for run in translator.segments]
    cache.store(name, msgpack.packb([data, segments]))
    return CompiledModule(ast, variant, CodeRegion.get().load(data), segments)
