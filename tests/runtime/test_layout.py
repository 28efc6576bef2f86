"""The structures that Python and generated code share, held against LLVM's view of them."""

from __future__ import annotations

import ctypes
import itertools
import re
from typing import Any

import llvmlite.binding as llvm
import pytest

from tests.runtime.engine import Engine
from wasmedge_runtime.codegen.context import CELL_BYTES, ContextLayout
from wasmedge_runtime.codegen.llvm import compile_object
from wasmedge_runtime.errors import ErrCode
from wasmedge_runtime.native import elf, layout, support_ir

RECORDS = [
    layout.Activation,
    layout.ThreadRecord,
    layout.MemoryRange,
    layout.MemoryRecord,
    layout.TableRecord,
    layout.FunctionRecord,
    layout.HostContext,
    layout.Segment,
    layout.CallDescriptor,
    layout.ContextHeader,
]


def llvm_type(kind: Any) -> str:
    length = getattr(kind, "_length_", None)
    return "i64" if length is None else f"[{length} x i64]"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_llvm_puts_every_field_where_python_expects_it(record: type[layout.Record]) -> None:
    fields: Any = record._fields_
    name = f"layout.{record.__name__}"  # LLVM's names are the whole process's
    text = f"%{name} = type {{ {', '.join(llvm_type(kind) for _, kind in fields)} }}\n"
    text += f"@g = global %{name} zeroinitializer"
    llvm.initialize_native_target()
    machine = llvm.Target.from_default_triple().create_target_machine()
    module = llvm.parse_assembly(text)
    struct = module.get_struct_type(name)
    data = machine.target_data
    for index, (field, _) in enumerate(fields):
        assert data.get_element_offset(struct, index) == record.offset(field), field
    assert data.get_abi_size(struct) == ctypes.sizeof(record)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_fields_are_8_bytes_wide(record: type[layout.Record]) -> None:
    assert all(record.offset(name) % 8 == 0 for name, *_ in record._fields_)
    assert ctypes.sizeof(record) % 8 == 0


def test_the_support_routines_name_no_field_that_is_not_there() -> None:
    named = set()
    source = "".join(path.read_text() for path in support_ir._FOLDER.glob("*.ll"))
    for structure, field in re.findall(r"&(\w+)\.(\w+)\(%", source):
        named.add(structure)
        assert support_ir._STRUCTURES[structure].offset(field) >= 0
    assert named <= set(support_ir._STRUCTURES)
    assert "&" not in support_ir.support_module()


def test_the_support_object_defines_every_helper() -> None:
    obj = elf.parse(compile_object(support_ir.support_module(), 2))
    assert set(layout.HELPERS) <= obj.defined().keys()
    assert set(obj.undefined) <= set(support_ir.EXTERNALS)


def test_slots_are_aligned_for_vectors() -> None:
    assert layout.SLOT_BYTES == 16
    assert layout.CALL_SLOTS % layout.SLOT_BYTES == 0


def test_statuses_are_no_error_codes() -> None:
    statuses = [value for name, value in vars(layout).items() if name.startswith("STATUS_")]
    assert len(set(statuses)) == len(statuses)
    assert all(status == 0 or status > max(ErrCode) for status in statuses)


def test_nothing_in_a_context_overlaps() -> None:
    ast = Engine().load(
        """(module (type (func)) (type (func (param i32)))
          (import "m" "f" (func)) (import "m" "g" (func)) (import "m" "i" (global i32))
          (import "m" "t" (table 1 funcref)) (import "m" "m" (memory 1))
          (table 1 funcref) (table 1 externref) (global i32 (i32.const 1)) (global v128
          (v128.const i64x2 1 2)) (func $a (export "a")) (func $b) (func $c) (elem (i32.const 0) $c)
          (elem $e func $b) (data "1") (data (i32.const 1) "2") (start $a))"""
    )
    context = ContextLayout(ast)
    pieces = [(0, ctypes.sizeof(layout.ContextHeader), "header")]
    pieces += [(context.memory_record(0), 8, "memory"), (context.memory_base(0), 8, "base")]
    for i in range(3):
        pieces += [(context.table_record(i), 8, "table"), (context.table_base(i), 8, "base")]
    pieces += [(context.type_number(i), 8, f"type {i}") for i in range(2)]
    pieces += [(context.imported_function(i), 8, f"function {i}") for i in range(2)]
    pieces += [(context.imported_global(0), 8, "imported global")]
    segment = ctypes.sizeof(layout.Segment)
    pieces += [(context.element_segment(i), segment, f"element {i}") for i in range(2)]
    pieces += [(context.data_segment(i), segment, f"data {i}") for i in range(2)]
    pieces += [(context.global_cell(i), CELL_BYTES, f"global {i}") for i in (1, 2)]
    record = ctypes.sizeof(layout.FunctionRecord)
    pieces += [(context.function_record(i), record, f"record {i}") for i in context.referenced]
    pieces.sort()
    for (start, size, name), (following, _, other) in itertools.pairwise(pieces):
        assert start + size <= following, (name, other)
    assert pieces[-1][0] + pieces[-1][1] == context.size
    assert all(context.global_cell(i) % CELL_BYTES == 0 for i in (1, 2))
    assert context.referenced == [2, 3, 4]
