"""Reference and table instructions (specification 4.4.2, 4.4.6).

A reference is a 64-bit handle: 0 is null, a function reference is the address of its record, an
external reference a number that the Store knows.
"""

from __future__ import annotations

from ..errors import ErrCode
from ..native.layout import TableRecord
from . import immediates
from .function import FunctionTranslator
from .memory import transfer
from .rules import emits


def _record(t: FunctionTranslator, table: int) -> str:
    return t.context_pointer(t.layout.table_record(table))


def _size(t: FunctionTranslator, table: int) -> str:
    return t.value(f"load i64, ptr {t.field(_record(t, table), TableRecord.offset('size'))}")


def _element(t: FunctionTranslator, table: int, index: str) -> str:
    """The address of an element; traps when there is none."""
    wide = t.widen(index)
    out_of_bounds = t.value(f"icmp uge i64 {wide}, {_size(t, table)}")
    t.trap_if(out_of_bounds, int(ErrCode.TableOutOfBounds))
    base = t.context_pointer(t.layout.table_base(table))
    return t.value(f"getelementptr i64, ptr {base}, i64 {wide}")


@emits("ref.null")
def ref_null(t: FunctionTranslator, code: int, pos: int) -> int:
    _, pos = immediates.unsigned(t.ast.data, pos)
    t.stack.append("0")
    return pos


@emits("ref.is_null")
def ref_is_null(t: FunctionTranslator, code: int, pos: int) -> int:
    boolean = t.value(f"icmp eq i64 {t.stack.pop()}, 0")
    operand = t.value(f"zext i1 {boolean} to i32")
    t.booleans[operand] = boolean
    t.stack.append(operand)
    return pos


@emits("ref.func")
def ref_func(t: FunctionTranslator, code: int, pos: int) -> int:
    index, pos = immediates.unsigned(t.ast.data, pos)
    if index < t.ast.imported_functions:
        record = t.context_pointer(t.layout.imported_function(index))
    else:
        record = t.context_address(t.layout.function_record(index))
    t.stack.append(t.value(f"ptrtoint ptr {record} to i64"))
    return pos


@emits("table.get")
def table_get(t: FunctionTranslator, code: int, pos: int) -> int:
    table, pos = immediates.unsigned(t.ast.data, pos)
    t.checkpoint()
    t.stack.append(t.value(f"load i64, ptr {_element(t, table, t.stack.pop())}"))
    return pos


@emits("table.set")
def table_set(t: FunctionTranslator, code: int, pos: int) -> int:
    table, pos = immediates.unsigned(t.ast.data, pos)
    t.checkpoint()
    reference = t.stack.pop()
    t.out.append(f"store volatile i64 {reference}, ptr {_element(t, table, t.stack.pop())}")
    return pos


@emits("table.size")
def table_size(t: FunctionTranslator, code: int, pos: int) -> int:
    table, pos = immediates.unsigned(t.ast.data, pos)
    t.stack.append(t.value(f"trunc i64 {_size(t, table)} to i32"))
    return pos


@emits("table.grow")
def table_grow(t: FunctionTranslator, code: int, pos: int) -> int:
    table, pos = immediates.unsigned(t.ast.data, pos)
    t.checkpoint()
    count = t.widen(t.stack.pop())
    reference = t.stack.pop()
    helper = t.helper("table_grow")
    old = t.value(
        f"call i64 {helper}(ptr {t.activation()}, ptr {_record(t, table)}, "
        f"i64 {count}, i64 {reference})"
    )
    t.stack.append(t.value(f"trunc i64 {old} to i32"))
    return pos


@emits("table.fill")
def table_fill(t: FunctionTranslator, code: int, pos: int) -> int:
    table, pos = immediates.unsigned(t.ast.data, pos)
    t.checkpoint()
    count, reference, at = t.widen(t.stack.pop()), t.stack.pop(), t.widen(t.stack.pop())
    helper = t.helper("table_fill")
    t.out.append(
        f"call void {helper}(ptr {t.activation()}, ptr {_record(t, table)}, "
        f"i64 {at}, i64 {reference}, i64 {count})"
    )
    return pos


@emits("table.copy")
def table_copy(t: FunctionTranslator, code: int, pos: int) -> int:
    target, pos = immediates.unsigned(t.ast.data, pos)
    source, pos = immediates.unsigned(t.ast.data, pos)
    transfer(t, "table_copy", _record(t, target), _record(t, source))
    return pos


@emits("table.init")
def table_init(t: FunctionTranslator, code: int, pos: int) -> int:
    segment, pos = immediates.unsigned(t.ast.data, pos)
    table, pos = immediates.unsigned(t.ast.data, pos)
    place = t.context_address(t.layout.element_segment(segment))
    transfer(t, "table_init", _record(t, table), place)
    return pos


@emits("elem.drop")
def elem_drop(t: FunctionTranslator, code: int, pos: int) -> int:
    segment, pos = immediates.unsigned(t.ast.data, pos)
    t.account()
    length = t.context_address(t.layout.element_segment(segment) + 8)
    t.out.append(f"store volatile i64 0, ptr {length}")
    return pos
