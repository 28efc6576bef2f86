"""Damaged modules: small real ones, changed at random in the ways that find bugs in parsers."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.wat import wat

SEEDS = (
    """(module
      (type $binary (func (param i32 i32) (result i32)))
      (import "env" "log" (func $log (param i32)))
      (import "env" "base" (global $base i32))
      (memory (export "memory") 1 4)
      (table $table (export "table") 8 funcref)
      (global $count (export "count") (mut i32) (i32.const 0))
      (func $add (type $binary) local.get 0 local.get 1 i32.add)
      (func $factorial (export "factorial") (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0))
          (then (i64.const 1))
          (else (i64.mul (local.get 0)
            (call $factorial (i64.sub (local.get 0) (i64.const 1)))))))
      (func (export "apply") (param i32 i32 i32) (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (call_indirect (type $binary) (local.get 1) (local.get 2) (local.get 0)))
      (func $start (call $log (i32.const 1000000)))
      (start $start)
      (elem (i32.const 2) $add $add)
      (data (global.get $base) "hello, world"))""",
    """(module
      (memory 1)
      (func (export "sum") (param $n i32) (result i32) (local $i i32) (local $total i32)
        (block $done
          (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
            (local.set $total (i32.add (local.get $total)
              (i32.load offset=16 align=1 (i32.shl (local.get $i) (i32.const 2)))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        (local.get $total))
      (func (export "switch") (param i32) (result i32)
        (block $c (block $b (block $a
          (br_table $a $b $c (local.get 0)))
          (return (i32.const 10)))
          (return (i32.const 20)))
        (i32.const 30))
      (func (export "store") (param i32 i64 f32 f64)
        (i64.store8 (local.get 0) (local.get 1))
        (f32.store offset=300 (local.get 0) (local.get 2))
        (f64.store (local.get 0) (f64.max (local.get 3) (f64.const 1.5)))
        (drop (select (f32.const 1) (local.get 2) (memory.grow (memory.size)))))
      (func (export "dead") (result i32)
        unreachable i32.add select drop (br 0 (i32.const 1)) i64.eqz))""",
    """(module
      (func $f (param i32) (result i32 i64) local.get 0 i64.const -7)
      (table $functions 4 8 funcref)
      (table $others 2 externref)
      (memory 2)
      (elem $passive func $f $f)
      (elem $expressions funcref (ref.func $f) (ref.null func))
      (elem declare func $f)
      (elem (table $others) (i32.const 0) externref (ref.null extern))
      (data $bytes "passive")
      (func (export "bulk") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2))
        (memory.fill (local.get 0) (local.get 1) (local.get 2))
        (memory.init $bytes (local.get 0) (local.get 1) (local.get 2))
        (data.drop $bytes)
        (table.init $functions $passive (local.get 0) (local.get 1) (local.get 2))
        (elem.drop $expressions)
        (table.copy $functions $functions (local.get 0) (local.get 1) (local.get 2)))
      (func (export "references") (param externref) (result i32)
        (table.set $others (i32.const 0) (local.get 0))
        (table.fill $others (i32.const 0) (table.get $others (i32.const 1)) (i32.const 1))
        (drop (table.grow $functions (ref.func $f) (table.size $functions)))
        (ref.is_null (select (result externref)
          (ref.null extern) (local.get 0) (i32.const 1))))
      (func (export "values") (param i32) (result i32 i64)
        (block (result i32 i64) (call $f (local.get 0)))
        (block (param i32 i64) (result i32 i64)))
      (func (export "saturate") (param f32 f64) (result i64)
        (i64.add (i64.trunc_sat_f32_s (local.get 0)) (i64.trunc_sat_f64_u (local.get 1)))
        i64.extend32_s))""",
    """(module
      (memory 1)
      (global $vector v128 (v128.const i64x2 1 2))
      (func (export "lanes") (param v128 i32) (result i32)
        (i32x4.extract_lane 3 (i32x4.replace_lane 1 (local.get 0) (local.get 1)))
        (i8x16.extract_lane_u 15 (i8x16.shuffle 0 1 2 3 4 5 6 7 31 30 29 28 27 26 25 24
          (local.get 0) (global.get $vector)))
        i32.add)
      (func (export "memory") (param i32) (result v128)
        (v128.store64_lane 1 (local.get 0)
          (v128.load8_lane offset=3 7 (local.get 0) (v128.load32_splat (local.get 0))))
        (v128.bitselect (v128.load8x8_s (local.get 0)) (v128.const i32x4 1 2 3 4)
          (f64x2.add (f64x2.splat (f64.const 2)) (f64x2.promote_low_f32x4
            (v128.load offset=70000 (local.get 0))))))
      (func (export "shift") (param v128 i32) (result i32)
        (i64x2.all_true (i64x2.shl (local.get 0) (local.get 1)))))""",
)
"""Texts of valid modules that together use every section and proposal."""

_BYTES = (0x00, 0x01, 0x0B, 0x40, 0x60, 0x70, 0x7F, 0x80, 0xD0, 0xFC, 0xFD, 0xFF)
_HUGE = b"\xff\xff\xff\xff\x0f"


def _flip(random_: random.Random, data: bytearray, at: int) -> None:
    data[at] ^= 1 << random_.randrange(8)


def _replace(random_: random.Random, data: bytearray, at: int) -> None:
    data[at] = random_.choice(_BYTES)


def _insert(random_: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = random_.randbytes(random_.randint(1, 3))


def _delete(random_: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + random_.randint(1, 3)]


def _truncate(random_: random.Random, data: bytearray, at: int) -> None:
    del data[at:]


def _repeat(random_: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + random_.randint(1, 12)] * random_.randint(1, 20)


def _grow_number(random_: random.Random, data: bytearray, at: int) -> None:
    """Spell a number of one byte with more of them."""
    byte = data[at] & 0x7F
    data[at : at + 1] = bytes([byte | 0x80, *[0x80] * random_.randrange(9), 0x00])


def _enlarge_number(random_: random.Random, data: bytearray, at: int) -> None:
    """Make a count, size or index as large as it gets."""
    data[at : at + 1] = _HUGE


def _swap_sections(random_: random.Random, data: bytearray, at: int) -> None:
    bounds = _sections(data)
    if len(bounds) > 1:
        first, second = sorted(random_.sample(bounds, 2))
        a, b = data[slice(*first)], data[slice(*second)]
        data[slice(*second)] = a
        data[slice(*first)] = b


def _resize_section(random_: random.Random, data: bytearray, at: int) -> None:
    """Insert or delete inside a section, and correct its size, to get past the first check."""
    bounds = _sections(data)
    if not bounds:
        return
    start, end = random_.choice(bounds)
    inside = random_.randint(start + 2, end)
    change = random_.choice((_insert, _delete, _flip))
    contents = bytearray(data[start + 2 : end])
    if contents:
        change(random_, contents, min(inside - start - 2, len(contents) - 1))
    if len(contents) < 0x80:
        data[start + 1 : end] = bytes([len(contents)]) + contents


def _sections(data: bytearray) -> list[tuple[int, int]]:
    """Start and end of each section with a size of one byte, as far as they can be followed."""
    bounds = []
    at = 8
    while at + 1 < len(data) and data[at + 1] < 0x80 and at + 2 + data[at + 1] <= len(data):
        end = at + 2 + data[at + 1]
        bounds.append((at, end))
        at = end
    return bounds


MUTATORS: tuple[Callable[[random.Random, bytearray, int], None], ...] = (
    _flip,
    _flip,
    _replace,
    _replace,
    _insert,
    _delete,
    _truncate,
    _repeat,
    _grow_number,
    _enlarge_number,
    _swap_sections,
    _resize_section,
    _resize_section,
    _resize_section,
)


def mutated(seed: int) -> bytes:
    """The module number `seed`: one of SEEDS with one to three changes."""
    random_ = random.Random(seed)
    data = bytearray(wat(SEEDS[seed % len(SEEDS)]))
    for _ in range(random_.choice((1, 1, 2, 3))):
        # The preamble is rarely worth a change: whatever it is, reading stops there.
        if len(data) > 9:
            low = 0 if random_.random() < 0.02 else 8
            random_.choice(MUTATORS)(random_, data, random_.randrange(low, len(data)))
    return bytes(data)
