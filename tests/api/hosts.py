"""A guest that calls host functions, and VMs with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.wat import wat
from wasmedge_async import VM, Configure, FunctionType, ImportObject, ValType
from wasmedge_async import Function as HostFunction

I32, EXTERNREF, FUNCREF = ValType.I32, ValType.EXTERNREF, ValType.FUNCREF

GUEST = """
(module
  (import "env" "number" (func $number (param i32) (result i32)))
  (import "env" "pair" (func $pair (result i32 f64)))
  (import "env" "nothing" (func $nothing))
  (import "env" "object" (func $object (param externref) (result externref)))
  (import "env" "function" (func $function (param funcref) (result funcref)))
  (memory (export "memory") 32)
  (data (i32.const 16) "hello")
  (table $objects (export "objects") 4 externref)
  (table $functions (export "functions") 4 funcref)
  (global $kept (export "kept_global") (mut externref) (ref.null extern))
  (global $count (export "count") (mut i32) (i32.const 0))
  (func (export "number") (param i32) (result i32) (call $number (local.get 0)))
  (func (export "twice") (param i32) (result i32) (call $number (call $number (local.get 0))))
  (func (export "pair") (result i32 f64) (call $pair))
  (func (export "nothing") (call $nothing))
  (func (export "object") (param externref) (result externref) (call $object (local.get 0)))
  (func (export "function") (param funcref) (result funcref) (call $function (local.get 0)))
  (func $identity (export "identity") (param i32) (result i32) (local.get 0))
  (func (export "identity_reference") (result funcref) (ref.func $identity))
  (func (export "add_one") (param i32) (result i32)
    (global.set $count (i32.add (global.get $count) (local.get 0))) (global.get $count))
  (func (export "trap") unreachable)
  (func (export "spin") (loop (br 0)))
  (func (export "keep") (param externref) (global.set $kept (local.get 0)))
  (func (export "kept") (result externref) (global.get $kept))
  (func (export "put") (param i32 externref)
    (table.set $objects (local.get 0) (local.get 1)))
  (func (export "get") (param i32) (result externref) (table.get $objects (local.get 0)))
  (func (export "put_function") (param i32 funcref)
    (table.set $functions (local.get 0) (local.get 1)))
  (func (export "call_indirect") (param i32 i32) (result i32)
    (call_indirect $functions (param i32) (result i32) (local.get 1) (local.get 0)))
  (func (export "same") (param externref) (result externref) (local.get 0))
  (func (export "swap") (param externref externref) (result externref externref)
    (local.get 1) (local.get 0)))
"""

TYPES = {
    "number": FunctionType([I32], [I32]),
    "pair": FunctionType([], [I32, ValType.F64]),
    "nothing": FunctionType([], []),
    "object": FunctionType([EXTERNREF], [EXTERNREF]),
    "function": FunctionType([FUNCREF], [FUNCREF]),
}


def host(**bodies: Callable[..., Any] | str) -> ImportObject:
    """A host module with these bodies; the other functions return what they get."""
    imports = ImportObject("env")
    for name, kind in TYPES.items():
        imports.add_function(name, HostFunction(kind, bodies.get(name, _same)))
    return imports


def _same(data: Any, memory: Any, *values: Any) -> Any:
    return values


async def set_up(vm: VM, imports: ImportObject) -> None:
    """Register a host module, and instantiate the guest."""
    await vm.register_import(imports)
    await vm.load_wasm_buffer(wat(GUEST))
    await vm.validate()
    await vm.instantiate()


@asynccontextmanager
async def guest(
    config: Configure | None = None, **bodies: Callable[..., Any] | str
) -> AsyncIterator[VM]:
    """A VM with the guest, and with host functions of these bodies."""
    async with VM(config) as vm:
        await set_up(vm, host(**bodies))
        yield vm
