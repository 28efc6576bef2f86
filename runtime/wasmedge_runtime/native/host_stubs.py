"""Stubs of host functions: one per function type, made when first needed, kept for good.

A stub depends on nothing but the type, so that all host functions of a type, in all Stores, share
it; the types are those of the embedder's own functions, so their number is bounded by its code.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from .. import cache
from ..types import FunctionType
from .code import CodeRegion, LoadedCode

_lock = threading.Lock()
_stubs: dict[FunctionType, int] = {}
_objects: list[LoadedCode] = []


def host_stubs(kinds: Iterable[FunctionType]) -> list[int]:
    """The address of the stub for each type. Missing ones are compiled together."""
    kinds = list(kinds)
    with _lock:
        missing = [kind for kind in dict.fromkeys(kinds) if kind not in _stubs]
        if missing:
            code = CodeRegion.get().load(_object(missing))
            _objects.append(code)
            for number, kind in enumerate(missing):
                _stubs[kind] = code.address(f"host.{number}")
        return [_stubs[kind] for kind in kinds]


def _object(kinds: list[FunctionType]) -> bytes:
    name = cache.key("host stubs", cache.machine(), *map(str, kinds))
    data = cache.load(name)
    if data is None:
        from ..codegen.llvm import compile_object
        from ..codegen.module import host_stub_module

        data = compile_object(host_stub_module(kinds), 2)
        cache.store(name, data)
    return data
