"""The one table of instructions: WebAssembly 2.0, core specification 5.4 and 7.9.

Decoding, validation, translation, counting, gas and disassembly all start from these rows, so
adding an instruction means adding one row here and, where its typing is irregular, one rule.

A row of the text below reads

    opcode  name  [<immediates>]  [!]  parameters -> results

with `!` for an instruction that may trap and `*` in place of a signature for one whose types
depend on its immediates or on its context (control, parametric, variable and some reference
instructions). Opcodes behind the prefixes 0xFC and 0xFD carry the prefix in their high byte.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wasmedge_runtime.configure import Proposal
from wasmedge_runtime.types import ValType


class Instruction(NamedTuple):
    """One instruction of the table.

    `immediates` names the layout of what follows the opcode: "" for nothing, otherwise one of
    block, label, label_table, func, call_indirect, local, global, table, memarg, memarg_lane,
    memory, memory_memory, data_memory, data, elem, elem_table, table_table, i32, i64, f32, f64,
    v128, lane, shuffle, ref_type, select_types.
    """

    opcode: int
    """16 bits: a plain opcode as it stands, a prefixed one as `prefix << 8 | number`."""
    name: str
    """As the text format spells it."""
    immediates: str
    params: tuple[int, ...] | None
    """Codes of the operands' types, the top of the stack last; None for an irregular rule."""
    results: tuple[int, ...] | None
    proposal: Proposal | None
    """The proposal that has to be on; None for WebAssembly 1.0."""
    traps: bool


_WASM_1 = """
00 unreachable ! *
01 nop ->
02 block <block> *
03 loop <block> *
04 if <block> *
05 else *
0B end *
0C br <label> *
0D br_if <label> *
0E br_table <label_table> *
0F return *
10 call <func> ! *
11 call_indirect <call_indirect> ! *
1A drop *
1B select *
20 local.get <local> *
21 local.set <local> *
22 local.tee <local> *
23 global.get <global> *
24 global.set <global> *
28 i32.load <memarg> ! i32 -> i32
29 i64.load <memarg> ! i32 -> i64
2A f32.load <memarg> ! i32 -> f32
2B f64.load <memarg> ! i32 -> f64
2C i32.load8_s <memarg> ! i32 -> i32
2D i32.load8_u <memarg> ! i32 -> i32
2E i32.load16_s <memarg> ! i32 -> i32
2F i32.load16_u <memarg> ! i32 -> i32
30 i64.load8_s <memarg> ! i32 -> i64
31 i64.load8_u <memarg> ! i32 -> i64
32 i64.load16_s <memarg> ! i32 -> i64
33 i64.load16_u <memarg> ! i32 -> i64
34 i64.load32_s <memarg> ! i32 -> i64
35 i64.load32_u <memarg> ! i32 -> i64
36 i32.store <memarg> ! i32 i32 ->
37 i64.store <memarg> ! i32 i64 ->
38 f32.store <memarg> ! i32 f32 ->
39 f64.store <memarg> ! i32 f64 ->
3A i32.store8 <memarg> ! i32 i32 ->
3B i32.store16 <memarg> ! i32 i32 ->
3C i64.store8 <memarg> ! i32 i64 ->
3D i64.store16 <memarg> ! i32 i64 ->
3E i64.store32 <memarg> ! i32 i64 ->
3F memory.size <memory> -> i32
40 memory.grow <memory> i32 -> i32
41 i32.const <i32> -> i32
42 i64.const <i64> -> i64
43 f32.const <f32> -> f32
44 f64.const <f64> -> f64
45 i32.eqz i32 -> i32
46 i32.eq i32 i32 -> i32
47 i32.ne i32 i32 -> i32
48 i32.lt_s i32 i32 -> i32
49 i32.lt_u i32 i32 -> i32
4A i32.gt_s i32 i32 -> i32
4B i32.gt_u i32 i32 -> i32
4C i32.le_s i32 i32 -> i32
4D i32.le_u i32 i32 -> i32
4E i32.ge_s i32 i32 -> i32
4F i32.ge_u i32 i32 -> i32
50 i64.eqz i64 -> i32
51 i64.eq i64 i64 -> i32
52 i64.ne i64 i64 -> i32
53 i64.lt_s i64 i64 -> i32
54 i64.lt_u i64 i64 -> i32
55 i64.gt_s i64 i64 -> i32
56 i64.gt_u i64 i64 -> i32
57 i64.le_s i64 i64 -> i32
58 i64.le_u i64 i64 -> i32
59 i64.ge_s i64 i64 -> i32
5A i64.ge_u i64 i64 -> i32
5B f32.eq f32 f32 -> i32
5C f32.ne f32 f32 -> i32
5D f32.lt f32 f32 -> i32
5E f32.gt f32 f32 -> i32
5F f32.le f32 f32 -> i32
60 f32.ge f32 f32 -> i32
61 f64.eq f64 f64 -> i32
62 f64.ne f64 f64 -> i32
63 f64.lt f64 f64 -> i32
64 f64.gt f64 f64 -> i32
65 f64.le f64 f64 -> i32
66 f64.ge f64 f64 -> i32
67 i32.clz i32 -> i32
68 i32.ctz i32 -> i32
69 i32.popcnt i32 -> i32
6A i32.add i32 i32 -> i32
6B i32.sub i32 i32 -> i32
6C i32.mul i32 i32 -> i32
6D i32.div_s ! i32 i32 -> i32
6E i32.div_u ! i32 i32 -> i32
6F i32.rem_s ! i32 i32 -> i32
70 i32.rem_u ! i32 i32 -> i32
71 i32.and i32 i32 -> i32
72 i32.or i32 i32 -> i32
73 i32.xor i32 i32 -> i32
74 i32.shl i32 i32 -> i32
75 i32.shr_s i32 i32 -> i32
76 i32.shr_u i32 i32 -> i32
77 i32.rotl i32 i32 -> i32
78 i32.rotr i32 i32 -> i32
79 i64.clz i64 -> i64
7A i64.ctz i64 -> i64
7B i64.popcnt i64 -> i64
7C i64.add i64 i64 -> i64
7D i64.sub i64 i64 -> i64
7E i64.mul i64 i64 -> i64
7F i64.div_s ! i64 i64 -> i64
80 i64.div_u ! i64 i64 -> i64
81 i64.rem_s ! i64 i64 -> i64
82 i64.rem_u ! i64 i64 -> i64
83 i64.and i64 i64 -> i64
84 i64.or i64 i64 -> i64
85 i64.xor i64 i64 -> i64
86 i64.shl i64 i64 -> i64
87 i64.shr_s i64 i64 -> i64
88 i64.shr_u i64 i64 -> i64
89 i64.rotl i64 i64 -> i64
8A i64.rotr i64 i64 -> i64
8B f32.abs f32 -> f32
8C f32.neg f32 -> f32
8D f32.ceil f32 -> f32
8E f32.floor f32 -> f32
8F f32.trunc f32 -> f32
90 f32.nearest f32 -> f32
91 f32.sqrt f32 -> f32
92 f32.add f32 f32 -> f32
93 f32.sub f32 f32 -> f32
94 f32.mul f32 f32 -> f32
95 f32.div f32 f32 -> f32
96 f32.min f32 f32 -> f32
97 f32.max f32 f32 -> f32
98 f32.copysign f32 f32 -> f32
99 f64.abs f64 -> f64
9A f64.neg f64 -> f64
9B f64.ceil f64 -> f64
9C f64.floor f64 -> f64
9D f64.trunc f64 -> f64
9E f64.nearest f64 -> f64
9F f64.sqrt f64 -> f64
A0 f64.add f64 f64 -> f64
A1 f64.sub f64 f64 -> f64
A2 f64.mul f64 f64 -> f64
A3 f64.div f64 f64 -> f64
A4 f64.min f64 f64 -> f64
A5 f64.max f64 f64 -> f64
A6 f64.copysign f64 f64 -> f64
A7 i32.wrap_i64 i64 -> i32
A8 i32.trunc_f32_s ! f32 -> i32
A9 i32.trunc_f32_u ! f32 -> i32
AA i32.trunc_f64_s ! f64 -> i32
AB i32.trunc_f64_u ! f64 -> i32
AC i64.extend_i32_s i32 -> i64
AD i64.extend_i32_u i32 -> i64
AE i64.trunc_f32_s ! f32 -> i64
AF i64.trunc_f32_u ! f32 -> i64
B0 i64.trunc_f64_s ! f64 -> i64
B1 i64.trunc_f64_u ! f64 -> i64
B2 f32.convert_i32_s i32 -> f32
B3 f32.convert_i32_u i32 -> f32
B4 f32.convert_i64_s i64 -> f32
B5 f32.convert_i64_u i64 -> f32
B6 f32.demote_f64 f64 -> f32
B7 f64.convert_i32_s i32 -> f64
B8 f64.convert_i32_u i32 -> f64
B9 f64.convert_i64_s i64 -> f64
BA f64.convert_i64_u i64 -> f64
BB f64.promote_f32 f32 -> f64
BC i32.reinterpret_f32 f32 -> i32
BD i64.reinterpret_f64 f64 -> i64
BE f32.reinterpret_i32 i32 -> f32
BF f64.reinterpret_i64 i64 -> f64
"""

_SIGN_EXTENSION = """
C0 i32.extend8_s i32 -> i32
C1 i32.extend16_s i32 -> i32
C2 i64.extend8_s i64 -> i64
C3 i64.extend16_s i64 -> i64
C4 i64.extend32_s i64 -> i64
"""

_REFERENCE_TYPES = """
1C select <select_types> *
25 table.get <table> ! *
26 table.set <table> ! *
D0 ref.null <ref_type> *
D1 ref.is_null *
D2 ref.func <func> -> funcref
FC0F table.grow <table> *
FC10 table.size <table> -> i32
FC11 table.fill <table> ! *
"""

_SATURATING_TRUNCATION = """
FC00 i32.trunc_sat_f32_s f32 -> i32
FC01 i32.trunc_sat_f32_u f32 -> i32
FC02 i32.trunc_sat_f64_s f64 -> i32
FC03 i32.trunc_sat_f64_u f64 -> i32
FC04 i64.trunc_sat_f32_s f32 -> i64
FC05 i64.trunc_sat_f32_u f32 -> i64
FC06 i64.trunc_sat_f64_s f64 -> i64
FC07 i64.trunc_sat_f64_u f64 -> i64
"""

_BULK_MEMORY = """
FC08 memory.init <data_memory> ! i32 i32 i32 ->
FC09 data.drop <data> ->
FC0A memory.copy <memory_memory> ! i32 i32 i32 ->
FC0B memory.fill <memory> ! i32 i32 i32 ->
FC0C table.init <elem_table> ! i32 i32 i32 ->
FC0D elem.drop <elem> ->
FC0E table.copy <table_table> ! i32 i32 i32 ->
"""

_SIMD = """
FD00 v128.load <memarg> ! i32 -> v128
FD01 v128.load8x8_s <memarg> ! i32 -> v128
FD02 v128.load8x8_u <memarg> ! i32 -> v128
FD03 v128.load16x4_s <memarg> ! i32 -> v128
FD04 v128.load16x4_u <memarg> ! i32 -> v128
FD05 v128.load32x2_s <memarg> ! i32 -> v128
FD06 v128.load32x2_u <memarg> ! i32 -> v128
FD07 v128.load8_splat <memarg> ! i32 -> v128
FD08 v128.load16_splat <memarg> ! i32 -> v128
FD09 v128.load32_splat <memarg> ! i32 -> v128
FD0A v128.load64_splat <memarg> ! i32 -> v128
FD0B v128.store <memarg> ! i32 v128 ->
FD0C v128.const <v128> -> v128
FD0D i8x16.shuffle <shuffle> v128 v128 -> v128
FD0E i8x16.swizzle v128 v128 -> v128
FD0F i8x16.splat i32 -> v128
FD10 i16x8.splat i32 -> v128
FD11 i32x4.splat i32 -> v128
FD12 i64x2.splat i64 -> v128
FD13 f32x4.splat f32 -> v128
FD14 f64x2.splat f64 -> v128
FD15 i8x16.extract_lane_s <lane> v128 -> i32
FD16 i8x16.extract_lane_u <lane> v128 -> i32
FD17 i8x16.replace_lane <lane> v128 i32 -> v128
FD18 i16x8.extract_lane_s <lane> v128 -> i32
FD19 i16x8.extract_lane_u <lane> v128 -> i32
FD1A i16x8.replace_lane <lane> v128 i32 -> v128
FD1B i32x4.extract_lane <lane> v128 -> i32
FD1C i32x4.replace_lane <lane> v128 i32 -> v128
FD1D i64x2.extract_lane <lane> v128 -> i64
FD1E i64x2.replace_lane <lane> v128 i64 -> v128
FD1F f32x4.extract_lane <lane> v128 -> f32
FD20 f32x4.replace_lane <lane> v128 f32 -> v128
FD21 f64x2.extract_lane <lane> v128 -> f64
FD22 f64x2.replace_lane <lane> v128 f64 -> v128
FD23 i8x16.eq v128 v128 -> v128
FD24 i8x16.ne v128 v128 -> v128
FD25 i8x16.lt_s v128 v128 -> v128
FD26 i8x16.lt_u v128 v128 -> v128
FD27 i8x16.gt_s v128 v128 -> v128
FD28 i8x16.gt_u v128 v128 -> v128
FD29 i8x16.le_s v128 v128 -> v128
FD2A i8x16.le_u v128 v128 -> v128
FD2B i8x16.ge_s v128 v128 -> v128
FD2C i8x16.ge_u v128 v128 -> v128
FD2D i16x8.eq v128 v128 -> v128
FD2E i16x8.ne v128 v128 -> v128
FD2F i16x8.lt_s v128 v128 -> v128
FD30 i16x8.lt_u v128 v128 -> v128
FD31 i16x8.gt_s v128 v128 -> v128
FD32 i16x8.gt_u v128 v128 -> v128
FD33 i16x8.le_s v128 v128 -> v128
FD34 i16x8.le_u v128 v128 -> v128
FD35 i16x8.ge_s v128 v128 -> v128
FD36 i16x8.ge_u v128 v128 -> v128
FD37 i32x4.eq v128 v128 -> v128
FD38 i32x4.ne v128 v128 -> v128
FD39 i32x4.lt_s v128 v128 -> v128
FD3A i32x4.lt_u v128 v128 -> v128
FD3B i32x4.gt_s v128 v128 -> v128
FD3C i32x4.gt_u v128 v128 -> v128
FD3D i32x4.le_s v128 v128 -> v128
FD3E i32x4.le_u v128 v128 -> v128
FD3F i32x4.ge_s v128 v128 -> v128
FD40 i32x4.ge_u v128 v128 -> v128
FD41 f32x4.eq v128 v128 -> v128
FD42 f32x4.ne v128 v128 -> v128
FD43 f32x4.lt v128 v128 -> v128
FD44 f32x4.gt v128 v128 -> v128
FD45 f32x4.le v128 v128 -> v128
FD46 f32x4.ge v128 v128 -> v128
FD47 f64x2.eq v128 v128 -> v128
FD48 f64x2.ne v128 v128 -> v128
FD49 f64x2.lt v128 v128 -> v128
FD4A f64x2.gt v128 v128 -> v128
FD4B f64x2.le v128 v128 -> v128
FD4C f64x2.ge v128 v128 -> v128
FD4D v128.not v128 -> v128
FD4E v128.and v128 v128 -> v128
FD4F v128.andnot v128 v128 -> v128
FD50 v128.or v128 v128 -> v128
FD51 v128.xor v128 v128 -> v128
FD52 v128.bitselect v128 v128 v128 -> v128
FD53 v128.any_true v128 -> i32
FD54 v128.load8_lane <memarg_lane> ! i32 v128 -> v128
FD55 v128.load16_lane <memarg_lane> ! i32 v128 -> v128
FD56 v128.load32_lane <memarg_lane> ! i32 v128 -> v128
FD57 v128.load64_lane <memarg_lane> ! i32 v128 -> v128
FD58 v128.store8_lane <memarg_lane> ! i32 v128 ->
FD59 v128.store16_lane <memarg_lane> ! i32 v128 ->
FD5A v128.store32_lane <memarg_lane> ! i32 v128 ->
FD5B v128.store64_lane <memarg_lane> ! i32 v128 ->
FD5C v128.load32_zero <memarg> ! i32 -> v128
FD5D v128.load64_zero <memarg> ! i32 -> v128
FD5E f32x4.demote_f64x2_zero v128 -> v128
FD5F f64x2.promote_low_f32x4 v128 -> v128
FD60 i8x16.abs v128 -> v128
FD61 i8x16.neg v128 -> v128
FD62 i8x16.popcnt v128 -> v128
FD63 i8x16.all_true v128 -> i32
FD64 i8x16.bitmask v128 -> i32
FD65 i8x16.narrow_i16x8_s v128 v128 -> v128
FD66 i8x16.narrow_i16x8_u v128 v128 -> v128
FD67 f32x4.ceil v128 -> v128
FD68 f32x4.floor v128 -> v128
FD69 f32x4.trunc v128 -> v128
FD6A f32x4.nearest v128 -> v128
FD6B i8x16.shl v128 i32 -> v128
FD6C i8x16.shr_s v128 i32 -> v128
FD6D i8x16.shr_u v128 i32 -> v128
FD6E i8x16.add v128 v128 -> v128
FD6F i8x16.add_sat_s v128 v128 -> v128
FD70 i8x16.add_sat_u v128 v128 -> v128
FD71 i8x16.sub v128 v128 -> v128
FD72 i8x16.sub_sat_s v128 v128 -> v128
FD73 i8x16.sub_sat_u v128 v128 -> v128
FD74 f64x2.ceil v128 -> v128
FD75 f64x2.floor v128 -> v128
FD76 i8x16.min_s v128 v128 -> v128
FD77 i8x16.min_u v128 v128 -> v128
FD78 i8x16.max_s v128 v128 -> v128
FD79 i8x16.max_u v128 v128 -> v128
FD7A f64x2.trunc v128 -> v128
FD7B i8x16.avgr_u v128 v128 -> v128
FD7C i16x8.extadd_pairwise_i8x16_s v128 -> v128
FD7D i16x8.extadd_pairwise_i8x16_u v128 -> v128
FD7E i32x4.extadd_pairwise_i16x8_s v128 -> v128
FD7F i32x4.extadd_pairwise_i16x8_u v128 -> v128
FD80 i16x8.abs v128 -> v128
FD81 i16x8.neg v128 -> v128
FD82 i16x8.q15mulr_sat_s v128 v128 -> v128
FD83 i16x8.all_true v128 -> i32
FD84 i16x8.bitmask v128 -> i32
FD85 i16x8.narrow_i32x4_s v128 v128 -> v128
FD86 i16x8.narrow_i32x4_u v128 v128 -> v128
FD87 i16x8.extend_low_i8x16_s v128 -> v128
FD88 i16x8.extend_high_i8x16_s v128 -> v128
FD89 i16x8.extend_low_i8x16_u v128 -> v128
FD8A i16x8.extend_high_i8x16_u v128 -> v128
FD8B i16x8.shl v128 i32 -> v128
FD8C i16x8.shr_s v128 i32 -> v128
FD8D i16x8.shr_u v128 i32 -> v128
FD8E i16x8.add v128 v128 -> v128
FD8F i16x8.add_sat_s v128 v128 -> v128
FD90 i16x8.add_sat_u v128 v128 -> v128
FD91 i16x8.sub v128 v128 -> v128
FD92 i16x8.sub_sat_s v128 v128 -> v128
FD93 i16x8.sub_sat_u v128 v128 -> v128
FD94 f64x2.nearest v128 -> v128
FD95 i16x8.mul v128 v128 -> v128
FD96 i16x8.min_s v128 v128 -> v128
FD97 i16x8.min_u v128 v128 -> v128
FD98 i16x8.max_s v128 v128 -> v128
FD99 i16x8.max_u v128 v128 -> v128
FD9B i16x8.avgr_u v128 v128 -> v128
FD9C i16x8.extmul_low_i8x16_s v128 v128 -> v128
FD9D i16x8.extmul_high_i8x16_s v128 v128 -> v128
FD9E i16x8.extmul_low_i8x16_u v128 v128 -> v128
FD9F i16x8.extmul_high_i8x16_u v128 v128 -> v128
FDA0 i32x4.abs v128 -> v128
FDA1 i32x4.neg v128 -> v128
FDA3 i32x4.all_true v128 -> i32
FDA4 i32x4.bitmask v128 -> i32
FDA7 i32x4.extend_low_i16x8_s v128 -> v128
FDA8 i32x4.extend_high_i16x8_s v128 -> v128
FDA9 i32x4.extend_low_i16x8_u v128 -> v128
FDAA i32x4.extend_high_i16x8_u v128 -> v128
FDAB i32x4.shl v128 i32 -> v128
FDAC i32x4.shr_s v128 i32 -> v128
FDAD i32x4.shr_u v128 i32 -> v128
FDAE i32x4.add v128 v128 -> v128
FDB1 i32x4.sub v128 v128 -> v128
FDB5 i32x4.mul v128 v128 -> v128
FDB6 i32x4.min_s v128 v128 -> v128
FDB7 i32x4.min_u v128 v128 -> v128
FDB8 i32x4.max_s v128 v128 -> v128
FDB9 i32x4.max_u v128 v128 -> v128
FDBA i32x4.dot_i16x8_s v128 v128 -> v128
FDBC i32x4.extmul_low_i16x8_s v128 v128 -> v128
FDBD i32x4.extmul_high_i16x8_s v128 v128 -> v128
FDBE i32x4.extmul_low_i16x8_u v128 v128 -> v128
FDBF i32x4.extmul_high_i16x8_u v128 v128 -> v128
FDC0 i64x2.abs v128 -> v128
FDC1 i64x2.neg v128 -> v128
FDC3 i64x2.all_true v128 -> i32
FDC4 i64x2.bitmask v128 -> i32
FDC7 i64x2.extend_low_i32x4_s v128 -> v128
FDC8 i64x2.extend_high_i32x4_s v128 -> v128
FDC9 i64x2.extend_low_i32x4_u v128 -> v128
FDCA i64x2.extend_high_i32x4_u v128 -> v128
FDCB i64x2.shl v128 i32 -> v128
FDCC i64x2.shr_s v128 i32 -> v128
FDCD i64x2.shr_u v128 i32 -> v128
FDCE i64x2.add v128 v128 -> v128
FDD1 i64x2.sub v128 v128 -> v128
FDD5 i64x2.mul v128 v128 -> v128
FDD6 i64x2.eq v128 v128 -> v128
FDD7 i64x2.ne v128 v128 -> v128
FDD8 i64x2.lt_s v128 v128 -> v128
FDD9 i64x2.gt_s v128 v128 -> v128
FDDA i64x2.le_s v128 v128 -> v128
FDDB i64x2.ge_s v128 v128 -> v128
FDDC i64x2.extmul_low_i32x4_s v128 v128 -> v128
FDDD i64x2.extmul_high_i32x4_s v128 v128 -> v128
FDDE i64x2.extmul_low_i32x4_u v128 v128 -> v128
FDDF i64x2.extmul_high_i32x4_u v128 v128 -> v128
FDE0 f32x4.abs v128 -> v128
FDE1 f32x4.neg v128 -> v128
FDE3 f32x4.sqrt v128 -> v128
FDE4 f32x4.add v128 v128 -> v128
FDE5 f32x4.sub v128 v128 -> v128
FDE6 f32x4.mul v128 v128 -> v128
FDE7 f32x4.div v128 v128 -> v128
FDE8 f32x4.min v128 v128 -> v128
FDE9 f32x4.max v128 v128 -> v128
FDEA f32x4.pmin v128 v128 -> v128
FDEB f32x4.pmax v128 v128 -> v128
FDEC f64x2.abs v128 -> v128
FDED f64x2.neg v128 -> v128
FDEF f64x2.sqrt v128 -> v128
FDF0 f64x2.add v128 v128 -> v128
FDF1 f64x2.sub v128 v128 -> v128
FDF2 f64x2.mul v128 v128 -> v128
FDF3 f64x2.div v128 v128 -> v128
FDF4 f64x2.min v128 v128 -> v128
FDF5 f64x2.max v128 v128 -> v128
FDF6 f64x2.pmin v128 v128 -> v128
FDF7 f64x2.pmax v128 v128 -> v128
FDF8 i32x4.trunc_sat_f32x4_s v128 -> v128
FDF9 i32x4.trunc_sat_f32x4_u v128 -> v128
FDFA f32x4.convert_i32x4_s v128 -> v128
FDFB f32x4.convert_i32x4_u v128 -> v128
FDFC i32x4.trunc_sat_f64x2_s_zero v128 -> v128
FDFD i32x4.trunc_sat_f64x2_u_zero v128 -> v128
FDFE f64x2.convert_low_i32x4_s v128 -> v128
FDFF f64x2.convert_low_i32x4_u v128 -> v128
"""

_TYPES = {t.name.lower(): int(t) for t in ValType}


def _signature(words: list[str]) -> tuple[int, ...]:
    return tuple(_TYPES[word] for word in words)


def _rows(text: str, proposal: Proposal | None) -> list[Instruction]:
    rows = []
    for line in text.strip().splitlines():
        opcode, name, *rest = line.split()
        immediates = rest.pop(0)[1:-1] if rest[0].startswith("<") else ""
        traps = rest[0] == "!"
        rest = rest[traps:]
        params = results = None
        if rest != ["*"]:
            arrow = rest.index("->")
            params, results = _signature(rest[:arrow]), _signature(rest[arrow + 1 :])
        rows.append(
            Instruction(int(opcode, 16), name, immediates, params, results, proposal, traps)
        )
    return rows


INSTRUCTIONS: tuple[Instruction, ...] = tuple(
    sorted(
        _rows(_WASM_1, None)
        + _rows(_SIGN_EXTENSION, Proposal.SIGN_EXTENSION_OPERATORS)
        + _rows(_REFERENCE_TYPES, Proposal.REFERENCE_TYPES)
        + _rows(_SATURATING_TRUNCATION, Proposal.NON_TRAP_FLOAT_TO_INT_CONVERSIONS)
        + _rows(_BULK_MEMORY, Proposal.BULK_MEMORY_OPERATIONS)
        + _rows(_SIMD, Proposal.SIMD)
    )
)
"""Every instruction, in the order of opcodes."""

BY_OPCODE: dict[int, Instruction] = {row.opcode: row for row in INSTRUCTIONS}

BY_NAME: dict[str, Instruction] = {row.name: row for row in reversed(INSTRUCTIONS)}
"""By the text format's name; `select` is the untyped one (0x1B)."""

_ACCESS = re.compile(r"(?P<type>[if]32|[if]64|v128)\.(load|store)(?P<bits>\d+)?(x(?P<times>\d+))?")
_SHAPE = re.compile(r"[if]\d+x(?P<lanes>\d+)\.|v128\.(load|store)(?P<bits>\d+)_lane")


def access_size(row: Instruction) -> int:
    """How many bytes of memory a load or store touches, which is its natural alignment too."""
    match = _ACCESS.match(row.name)
    if match is None:
        raise ValueError(f"{row.name} is no load or store")
    bits = int(match["bits"] or match["type"][1:])
    return bits * int(match["times"] or 1) // 8


def lane_count(row: Instruction) -> int:
    """How many lanes the lane index of an instruction chooses from."""
    match = _SHAPE.match(row.name)
    if match is None:
        raise ValueError(f"{row.name} has no lanes")
    return int(match["lanes"]) if match["lanes"] else 128 // int(match["bits"])


# The instructions of constant expressions (3.3.13), which several stages ask for by name.
I32_CONST, I64_CONST, F32_CONST, F64_CONST, V128_CONST, GLOBAL_GET, REF_NULL, REF_FUNC = (
    BY_NAME[name].opcode
    for name in (
        "i32.const",
        "i64.const",
        "f32.const",
        "f64.const",
        "v128.const",
        "global.get",
        "ref.null",
        "ref.func",
    )
)
