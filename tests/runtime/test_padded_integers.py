"""Validator and translator read the same instructions, however long their integers are written.

What one of them takes for an immediate and the other for an instruction would be code that nobody
validated. LEB128 allows redundant bytes (specification 5.2.2): here, modules get them everywhere.
"""

from __future__ import annotations

import pytest

from tests.runtime.engine import whole
from tests.wat import wat
from wasmedge_runtime import AST, Configure, Loader, Validator
from wasmedge_runtime.codegen import immediates
from wasmedge_runtime.codegen.context import Variant
from wasmedge_runtime.opcodes import BY_OPCODE, INSTRUCTIONS

MODULE = """(module
  (type $pair (func (param i32) (result i32 i64)))
  (import "host" "g" (global $imported i64))
  (memory 1) (data $d "abc") (table $t 4 8 funcref) (table $x 4 externref)
  (elem $e func $calls) (elem declare func $pair)
  (global $g (mut i32) (i32.const 3))
  (func $pair (type $pair) (local.get 0) (i64.const -5))
  (func $calls (param i32 i64 f32 f64 v128 externref) (result i32) (local i32 i64)
    (block $b (result i32)
      (loop $l (param) (result i32)
        (if (result i32) (local.get 0) (then (i32.const -1)) (else (i32.const 0x7fffffff)))
        (br_if $l (i32.eqz (local.tee 6 (local.get 0))))
        (br_if $b (local.get 0))
        (br_table $b $b $b (local.get 0)))
      (drop) (i32.const -64))
    (drop) (drop (call $pair (i32.const 128))) (local.set 0)
    (local.set 1 (i64.const 0x7fffffffffffffff)) (local.set 7 (global.get $imported))
    (drop (call_indirect $t (type $pair) (i32.const 1) (i32.const 0))) (drop)
    (global.set $g (i32.add (global.get $g) (i32.const 300)))
    (drop (select (result externref) (local.get 5) (ref.null extern) (i32.const 1)))
    (drop (select (f32.const 1) (local.get 2) (ref.is_null (ref.func $pair))))
    (table.set $t (i32.const 0) (table.get $t (i32.const 1)))
    (drop (table.grow $x (local.get 5) (table.size $x)))
    (table.fill $x (i32.const 0) (local.get 5) (i32.const 1))
    (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))
    (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)
    (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d)
    (memory.copy (i32.const 0) (i32.const 1) (i32.const 1))
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 1))
    (drop (memory.grow (memory.size)))
    (i32.store offset=70000 (i32.const 0) (i32.load offset=3 (i32.const 200)))
    (f64.store offset=8 (i32.const 0) (f64.load (i32.const 8)))
    (v128.store (i32.const 0) (v128.load32_lane offset=9 2 (i32.const 3) (local.get 4)))
    (v128.store8_lane offset=200 15 (i32.const 3) (v128.load8x8_s offset=1 (i32.const 0)))
    (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31 (local.get 4)
      (v128.const i64x2 1 2)))
    (drop (i32x4.extract_lane 3 (i32x4.replace_lane 1 (local.get 4) (i32.const 5))))
    (drop (i32.trunc_sat_f32_s (local.get 2))) (drop (f64.const 2.5))
    (return (i32.const 7)) (i32.load offset=5 (i32.const 200)) (br_table 0 0 0) (drop)))"""

_SIGNED = {"block", "i32", "i64"}
_BYTES = {"ref_type": 1, "memory": 1, "memory_memory": 2, "data_memory": 1}
"""Integers for the translator that are single bytes by the specification: how many, at the end."""
_MOST_BYTES = {"i64": 10}


def _padded(data: bytes, pos: int, signed: bool, longest: int) -> tuple[bytes, int]:
    """The integer at `pos` with as many bytes as it may have, and the position behind it."""
    start = pos
    while data[pos] >= 0x80:
        pos += 1
    last = data[pos]
    pos += 1
    missing = longest - (pos - start)
    if not missing:
        return data[start:pos], pos
    filler = 0x7F if signed and last & 0x40 else 0
    rest = bytes([filler | 0x80] * (missing - 1) + [filler])
    return data[start : pos - 1] + bytes([last | 0x80]) + rest, pos


def _instructions(data: bytes, pos: int, end: int) -> bytes:
    """The instructions of a body, with every integer padded."""
    out = b""
    while pos < end:
        start = pos
        code, pos = immediates.opcode(data, pos)
        if code > 0xFF:
            number, _ = _padded(data, start + 1, False, 5)
            out += data[start : start + 1] + number
        else:
            out += data[start:pos]
        layout = BY_OPCODE[code].immediates
        behind = immediates.skip(data, pos, code)
        if layout == "select_types":
            integers = 1  # then types, of a byte each
        elif layout == "label_table":
            integers = immediates.unsigned(data, pos)[0] + 2
        elif layout == "block" and 0x40 <= data[pos] < 0x80:
            integers = 0  # a type
        else:
            integers = immediates._SHAPES[layout][0] - _BYTES.get(layout, 0)
        for _ in range(integers):
            number, pos = _padded(data, pos, layout in _SIGNED, _MOST_BYTES.get(layout, 5))
            out += number
        out += data[pos:behind]
        pos = behind
    return out


def _unsigned(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14])


def _loaded(data: bytes) -> AST:
    configuration = Configure()
    ast = Loader(configuration).load_buffer(data)
    Validator(configuration).validate(ast)
    return ast


def _with_padding(ast: AST) -> bytes:
    """The module's file with a code section in which every integer is padded."""
    data = ast.data
    bodies = [
        data[body.start : body.code] + _instructions(data, body.code, body.end)
        for body in ast.bodies
    ]
    section = _unsigned(len(bodies)) + b"".join(_unsigned(len(b)) + b for b in bodies)
    out, pos = data[:8], 8
    while pos < len(data):
        size, start = immediates.unsigned(data, pos + 1)
        content = section if data[pos] == 10 else data[start : start + size]
        out += data[pos : pos + 1] + _unsigned(len(content)) + content
        pos = start + size
    return out


@pytest.mark.parametrize("guarded", [True, False])
def test_padding_of_integers_changes_nothing_in_the_code(guarded: bool) -> None:
    plain = _loaded(wat(MODULE))
    padded = _loaded(_with_padding(plain))
    assert len(padded.data) > 1.9 * len(plain.data)
    variant = Variant(guarded, True, True)
    assert whole(padded, variant) == whole(plain, variant)


def test_the_module_has_every_layout_of_immediates() -> None:
    ast = _loaded(wat(MODULE))
    seen = set()
    for body in ast.bodies:
        pos = body.code
        while pos < body.end:
            code, pos = immediates.opcode(ast.data, pos)
            seen.add(BY_OPCODE[code].immediates)
            pos = immediates.skip(ast.data, pos, code)
    assert seen == {row.immediates for row in INSTRUCTIONS}
