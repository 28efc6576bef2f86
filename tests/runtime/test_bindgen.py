"""wasm-bindgen calls: what is passed, what comes back, and what is refused before anything runs.

The module here allocates upwards from 1024, and notes what it was called with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.wat import wat
from wasmedge_runtime import (
    I32,
    I64,
    VM,
    BindgenReturn,
    ErrCode,
    Function,
    FunctionType,
    ImportObject,
    Terminate,
    Trap,
    WasmEdgeError,
)

VOID, INT32, INT64, ARRAY = BindgenReturn

MODULE = """
(module
  (import "host" "exit" (func $exit))
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (global $freed (mut i64) (i64.const 0))
  (func $malloc (export "__wbindgen_malloc") (param i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 0))))
  (func (export "__wbindgen_free") (param i32 i32)
    (global.set $freed (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32))
                               (i64.extend_i32_u (local.get 1)))))
  (func (export "freed") (result i64) (global.get $freed))
  (func (export "allocated") (result i32) (i32.sub (global.get $next) (i32.const 1024)))

  (func $give (param $place i32) (param $pointer i32) (param $length i32)
    (i32.store (local.get $place) (local.get $pointer))
    (i32.store offset=4 (local.get $place) (local.get $length)))
  (func (export "echo") (param i32 i32 i32)
    (call $give (local.get 0) (local.get 1) (local.get 2)))
  (func (export "second") (param i32 i32 i32 i32 i32)
    (call $give (local.get 0) (local.get 3) (local.get 4)))
  (func (export "place") (param i32)  ;; its own first argument, as 4 bytes
    (i32.store (i32.const 512) (local.get 0))
    (call $give (local.get 0) (i32.const 512) (i32.const 4)))
  (func (export "outside") (param i32)
    (call $give (local.get 0) (i32.const 65530) (i32.const 7)))
  (func (export "far") (param i32)
    (call $give (local.get 0) (i32.const -1) (i32.const 2)))
  (func (export "exits") (param i32) (call $exit))
  (func (export "exits_i32") (result i32) (call $exit) (i32.const 1))

  (func (export "nothing"))
  (func (export "sub") (param i32 i32) (result i32)
    (i32.sub (local.get 0) (local.get 1)))
  (func (export "high") (param i32 i32) (result i32) (local.get 1))
  (func (export "low") (param i32 i32) (result i32) (local.get 0))
  (func (export "twice") (param i32 i32 i32)  ;; of an i64, in two halves
    (i64.store (local.get 0) (i64.shl
      (i64.or (i64.extend_i32_u (local.get 1))
              (i64.shl (i64.extend_i32_u (local.get 2)) (i64.const 32)))
      (i64.const 1))))
  (func (export "traps") (param i32 i32) unreachable))
"""

BARE = """
(module
  (func (export "sub") (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1)))
  (func (export "take") (param i32 i32))
  (func (export "give") (param i32)))
"""


def exit_host() -> ImportObject:
    imports = ImportObject("host")

    def leave(data: object, memory: object) -> None:
        raise Terminate

    imports.add_function("exit", Function(FunctionType([], []), leave))
    return imports


@pytest.fixture
def vm() -> Iterator[VM]:
    with VM() as vm:
        vm.register_import(exit_host())
        load(vm, MODULE)
        yield vm


def load(vm: VM, text: str) -> None:
    vm.load_wasm_buffer(wat(text))
    vm.validate()
    vm.instantiate()


def refused(vm: VM, *call: Any) -> WasmEdgeError:
    with pytest.raises(WasmEdgeError) as caught:
        vm.execute_bindgen(*call)
    return caught.value


def test_numbers(vm: VM) -> None:
    assert vm.execute_bindgen("nothing", VOID) is None
    assert vm.execute_bindgen("sub", INT32, 3, I32(5)) == -2
    assert vm.execute_bindgen("sub", INT32, 0xFFFFFFFF, True) == -2


@pytest.mark.parametrize("content", [b"", b"\0\xff", "caf\u00e9 \U0001f600", "x" * 60_000])
def test_text_and_bytes_go_in_and_come_out(vm: VM, content: str | bytes) -> None:
    expected = content.encode() if isinstance(content, str) else content
    assert vm.execute_bindgen("echo", ARRAY, content) == expected


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_buffers_are_bytes(vm: VM, kind: Any) -> None:
    assert vm.execute_bindgen("echo", ARRAY, kind(b"content")) == b"content"


def test_each_argument_is_allocated_by_its_size(vm: VM) -> None:
    assert vm.execute_bindgen("second", ARRAY, b"one", b"another") == b"another"
    assert vm.execute("allocated") == [10]


def test_an_array_is_written_at_8_and_freed(vm: VM) -> None:
    assert vm.execute_bindgen("place", ARRAY) == (8).to_bytes(4, "little")
    assert vm.execute("freed") == [512 << 32 | 4]


def test_an_i64_travels_as_its_low_and_high_half(vm: VM) -> None:
    assert vm.execute_bindgen("low", INT32, I64(0x12345678_00000005)) == 5
    assert vm.execute_bindgen("high", INT32, I64(0x12345678_00000005)) == 0x12345678
    assert vm.execute_bindgen("high", INT32, I64(-1)) == -1


@pytest.mark.parametrize("number", [0, 1, -1, 1 << 40, -(1 << 62), (1 << 62) - 1])
def test_an_i64_comes_back(vm: VM, number: int) -> None:
    assert vm.execute_bindgen("twice", INT64, I64(number)) == 2 * number


def test_functions_of_registered_modules(vm: VM) -> None:
    vm.register_wasm_buffer("library", wat(MODULE))
    assert vm.execute_bindgen_registered("library", "echo", ARRAY, "text") == b"text"
    assert vm.execute_registered("library", "allocated") == [4]
    with pytest.raises(WasmEdgeError, match="no exported function") as caught:
        vm.execute_bindgen_registered("library", "absent", VOID)
    assert caught.value.code is ErrCode.FuncNotFound


@pytest.mark.parametrize(
    "call",
    [
        ("sub", ARRAY, 1, 2),
        ("sub", VOID, 1, 2),
        ("sub", INT32, 1),
        ("sub", INT32, b"1", b"2"),
        ("echo", INT32, "text"),
        ("echo", VOID, "text"),
        ("twice", INT64, 1),
        ("freed", INT64),
    ],
)
def test_what_does_not_fit_the_function_is_refused_before_the_call(vm: VM, call: Any) -> None:
    error = refused(vm, *call)
    assert error.code is ErrCode.FuncSigMismatch
    assert call[0] in str(error)
    assert f"BindgenReturn.{call[1].name}" in str(error)
    assert vm.execute("allocated") == [0]


@pytest.mark.parametrize("kind", [0, 3, None, "ARRAY", list])
def test_a_kind_is_a_bindgenreturn(vm: VM, kind: Any) -> None:
    with pytest.raises(TypeError, match="BindgenReturn"):
        vm.execute_bindgen("nothing", kind)


@pytest.mark.parametrize("value", [1.5, None, [1], object()])
def test_arguments_are_numbers_text_or_bytes(vm: VM, value: Any) -> None:
    with pytest.raises(TypeError, match=r"argument 2 must be an int .*I64, str or bytes"):
        vm.execute_bindgen("sub", INT32, 1, value)


def test_a_number_of_64_bits_has_to_be_marked(vm: VM) -> None:
    with pytest.raises(OverflowError, match=r"argument 1: .*pass I64\(4294967296\)"):
        vm.execute_bindgen("sub", INT32, 1 << 32, 1)


@pytest.mark.parametrize(
    ("text", "call", "code", "missing"),
    [
        ("", ("take", VOID, "text"), ErrCode.FuncNotFound, "__wbindgen_malloc"),
        ("", ("give", ARRAY), ErrCode.FuncNotFound, "__wbindgen_free"),
        ("", ("give", INT64), ErrCode.WrongInstanceIndex, "memory"),
        (
            '(func (export "__wbindgen_malloc") (param i32) (result i32) unreachable)',
            ("take", VOID, "text"),
            ErrCode.WrongInstanceIndex,
            "memory",
        ),
        (
            '(func (export "__wbindgen_malloc") (param i32 i32) (result i32) unreachable)',
            ("take", VOID, "text"),
            ErrCode.FuncSigMismatch,
            "__wbindgen_malloc",
        ),
    ],
)
def test_what_a_module_lacks_is_named(
    vm: VM, text: str, call: Any, code: ErrCode, missing: str
) -> None:
    load(vm, BARE.rstrip().removesuffix(")") + text + ")")
    error = refused(vm, *call)
    assert error.code is code
    assert missing in str(error)
    assert "wasm-bindgen" in str(error)


def test_numbers_need_neither_allocator_nor_memory(vm: VM) -> None:
    load(vm, BARE)
    assert vm.execute_bindgen("sub", INT32, 5, 2) == 3


@pytest.mark.parametrize("function", ["outside", "far"])
def test_a_result_outside_the_memory_is_an_error(vm: VM, function: str) -> None:
    error = refused(vm, function, ARRAY)
    assert error.code is ErrCode.MemoryOutOfBounds
    assert "65536" in str(error)
    assert vm.execute("freed") == [0]


@pytest.mark.parametrize("pointer", [65536, 65533, -1])
def test_an_allocator_that_points_outside_is_an_error(vm: VM, pointer: int) -> None:
    allocator = f"(param i32) (result i32) (i32.const {pointer})"
    load(
        vm,
        BARE.rstrip().removesuffix(")")
        + f'(memory (export "memory") 1) (func (export "__wbindgen_malloc") {allocator}))',
    )
    error = refused(vm, "take", VOID, "text")
    assert error.code is ErrCode.MemoryOutOfBounds
    assert "argument 1" in str(error)


def test_a_program_that_ends_itself_gives_no_result(vm: VM) -> None:
    assert vm.execute_bindgen("place", ARRAY)  # leaves an array where the next is looked for
    assert "ended the program" in str(refused(vm, "exits", ARRAY))
    assert "ended the program" in str(refused(vm, "exits_i32", INT32))
    assert vm.execute("freed") == [512 << 32 | 4]


def test_a_trap_is_a_trap(vm: VM) -> None:
    with pytest.raises(Trap) as caught:
        vm.execute_bindgen("traps", VOID, "text")
    assert caught.value.kind is ErrCode.Unreachable


def test_a_vm_that_is_not_instantiated() -> None:
    with VM() as vm:
        error = refused(vm, "nothing", VOID)
        assert error.code is ErrCode.WrongVMWorkflow
