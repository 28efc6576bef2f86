"""Code that depends on nothing but a function type: made when first needed, kept for good.

A *thunk* enters wasm functions of the type from slots; a *host stub* stands for host functions of
the type where wasm calls them. All functions of a type, in all modules and Stores, share them.
Their number is bounded by what the embedder calls and offers itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from .. import cache
from ..log import log_stage
from ..types import FunctionType
from .code import load_or_make


class TypeStubs(NamedTuple):
    """Addresses of the code of one function type."""

    thunk: int
    host: int


_lock = threading.RLock()  # a signal handler may come here while its thread compiles
_stubs: dict[FunctionType, TypeStubs] = {}


def type_stubs(kind: FunctionType) -> TypeStubs:
    """The code of a type."""
    found = _stubs.get(kind)
    if found is None:
        prepare([kind])
        found = _stubs[kind]
    return found


def prepare(kinds: Iterable[FunctionType]) -> None:
    """Make the code of several types, at once: each run of the compiler takes a while to begin."""
    with _lock:
        missing = [kind for kind in dict.fromkeys(kinds) if kind not in _stubs]
        if not missing:
            return
        name = cache.key("type stubs", cache.machine(), *map(str, missing))
        code = load_or_make(name, lambda: _object(missing))
        for number, kind in enumerate(missing):
            _stubs[kind] = TypeStubs(
                code.address(f"thunk.{number}"), code.address(f"host.{number}")
            )


def _object(kinds: list[FunctionType]) -> bytes:
    from ..codegen.llvm import compile_object
    from ..codegen.unit import type_stubs_module

    started = time.perf_counter()
    data = compile_object(type_stubs_module(kinds), 0)
    log_stage(f"compiled the stubs of {len(kinds)} function types", started)
    return data
