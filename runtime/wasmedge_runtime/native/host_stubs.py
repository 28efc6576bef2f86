"""Stubs of host functions: one per function type, made when first needed, kept for good.

A stub depends on nothing but the type, so that all host functions of a type, in all Stores, share
it; the types are those of the embedder's own functions, so their number is bounded by its code.
"""

from __future__ import annotations

import threading

from .. import cache
from ..types import FunctionType
from .code import CodeRegion

_lock = threading.RLock()  # a signal handler may come here while its thread compiles
_stubs: dict[FunctionType, int] = {}


def host_stub(kind: FunctionType) -> int:
    """The address of the stub for a type."""
    with _lock:
        address = _stubs.get(kind)
        if address is None:
            code = CodeRegion.get().load(_object(kind)).keep()
            address = _stubs[kind] = code.address("host")
        return address


def _object(kind: FunctionType) -> bytes:
    name = cache.key("host stub", cache.machine(), str(kind))
    data = cache.load(name)
    if data is None:
        from ..codegen.llvm import compile_object
        from ..codegen.module import host_stub_module

        data = compile_object(host_stub_module(kind), 2)
        cache.store(name, data)
    return data
