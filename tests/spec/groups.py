"""Which files of the suite need which proposals, and what the runner does not run.

The one place to look at, and to change, when more of the suite is to pass.
"""

from __future__ import annotations

import re

from wasmedge_runtime.configure import Proposal


class Group:
    """Files that need the same proposals beyond the default ones."""

    def __init__(self, name: str, proposals: tuple[Proposal, ...], files: str) -> None:
        self.name = name
        self.proposals = proposals
        self.files = frozenset(files.split())


# File names without `.wast`. A file stands in the first group with which all of its modules
# validate.
GROUPS = (
    Group(
        "wasm2",
        (),
        """
        address align annotations binary-gc binary-leb128 binary block br br_if bulk call
        call_indirect comments const conversions custom endianness exports f32 f32_bitwise f32_cmp
        f64 f64_bitwise f64_cmp fac float_exprs float_literals float_memory float_misc forward func
        func_ptrs i32 i64 id if inline-module int_exprs int_literals labels left-to-right load
        local_get local_set local_tee loop memory memory_copy memory_fill memory_init
        memory_redundancy memory_size memory_size3 memory_trap names nop obsolete-keywords ref_func
        return simd_address simd_align simd_bit_shift simd_bitwise simd_boolean simd_const
        simd_conversions simd_f32x4 simd_f32x4_arith simd_f32x4_cmp simd_f32x4_pmin_pmax
        simd_f32x4_rounding simd_f64x2 simd_f64x2_arith simd_f64x2_cmp simd_f64x2_pmin_pmax
        simd_f64x2_rounding simd_i16x8_arith simd_i16x8_arith2 simd_i16x8_cmp
        simd_i16x8_extadd_pairwise_i8x16 simd_i16x8_extmul_i8x16 simd_i16x8_q15mulr_sat_s
        simd_i16x8_sat_arith simd_i32x4_arith simd_i32x4_arith2 simd_i32x4_cmp simd_i32x4_dot_i16x8
        simd_i32x4_extadd_pairwise_i16x8 simd_i32x4_extmul_i16x8 simd_i32x4_trunc_sat_f32x4
        simd_i32x4_trunc_sat_f64x2 simd_i64x2_arith simd_i64x2_arith2 simd_i64x2_cmp
        simd_i64x2_extmul_i32x4 simd_i8x16_arith simd_i8x16_arith2 simd_i8x16_cmp
        simd_i8x16_sat_arith simd_int_to_int_extend simd_lane simd_linking simd_load
        simd_load16_lane simd_load32_lane simd_load64_lane simd_load8_lane simd_load_extend
        simd_load_splat simd_load_zero simd_select simd_splat simd_store simd_store16_lane
        simd_store32_lane simd_store64_lane simd_store8_lane skip-stack-guard-page stack start store
        switch table_copy token traps type unreachable unreached-invalid unwind
        utf8-custom-section-id utf8-import-field utf8-import-module utf8-invalid-encoding
        """,
    ),
    Group(
        "tail",
        (Proposal.TAIL_CALL,),
        """
        return_call return_call_indirect
        """,
    ),
    Group(
        "extended",
        (Proposal.EXTENDED_CONST, Proposal.MULTI_MEMORIES, Proposal.RELAXED_SIMD),
        """
        address0 address1 align0 binary0 data0 data1 data_drop0 exports0 float_exprs0 float_exprs1
        float_memory0 i16x8_relaxed_q15mulr_s i32x4_relaxed_trunc i8x16_relaxed_swizzle imports0
        imports1 imports2 imports3 imports4 linking0 linking1 linking2 linking3 load0 load1 load2
        memory-multi memory_copy0 memory_copy1 memory_fill0 memory_grow memory_init0 memory_size0
        memory_size1 memory_size2 memory_size_import memory_trap0 memory_trap1 relaxed_dot_product
        relaxed_laneselect relaxed_madd_nmadd relaxed_min_max simd_memory-multi start0 store0 store1
        store2 traps0
        """,
    ),
    Group(
        "memory64",
        (Proposal.MEMORY64,),
        """
        address64 align64 binary_leb128_64 bulk64 call_indirect64 endianness64 float_memory64 load64
        memory64-imports memory64 memory_copy64 memory_fill64 memory_grow64 memory_init64
        memory_redundancy64 memory_trap64 table64 table_copy64 table_copy_mixed
        """,
    ),
    Group(
        "funcref",
        (Proposal.FUNCTION_REFERENCES,),
        """
        br_on_non_null br_on_null br_table call_ref linking local_init ref ref_as_non_null
        ref_is_null return_call_ref select table-sub table table_fill table_fill64 table_get
        table_get64 table_grow table_grow64 table_set table_set64 table_size table_size64
        unreached-valid
        """,
    ),
    Group(
        "eh",
        (Proposal.EXCEPTION_HANDLING,),
        """
        imports instance throw throw_ref try_table
        """,
    ),
    Group(
        "gc",
        (Proposal.GC,),
        """
        array array_copy array_fill array_init_data array_init_elem array_new_data array_new_elem
        br_on_cast br_on_cast_fail data elem extern global i31 ref_cast ref_eq ref_null ref_test
        struct table_init table_init64 tag type-canon type-equivalence type-rec type-subtyping
        """,
    ),
    Group(
        "threads",
        (Proposal.THREADS,),
        """
        proposals/threads/atomic proposals/threads/exports proposals/threads/imports
        proposals/threads/memory
        """,
    ),
)

# The groups that are run; all others are reported as not yet supported.
SUPPORTED = frozenset({"wasm2"})

# Commands that are skipped wherever they occur, with the reason.
TEXT_MODULE = "the module is text, and this runtime reads binary modules"

# A module may be refused for the lack of a proposal before whatever else is wrong with it: some
# scripts of a supported group assert that modules with later instructions or types are invalid.
MISSING_PROPOSAL = re.compile(r"needs the proposal [A-Z0-9_]+")

# Where bytes are damaged so that two things are wrong with them, the message may name the other
# one. This runtime cuts a module into sections and bodies before it looks into a body; the scripts
# expect what a reader finds that goes on from byte to byte. (expected, found) as beginnings.
OTHER_WORDS = {
    # the number stands beyond the end of its section
    ("integer too large", "malformed section id"),
    ("integer representation too long", "malformed section id"),
    # the body ends before its `end`, and its section with it
    ("section size mismatch", "unexpected end"),
    # the name ends beyond the end of its section
    ("length out of bounds", "unexpected end"),
}


def group_of(name: str) -> Group | None:
    """The group of a file, named relative to the suite and without `.wast`; None if unknown."""
    return next((group for group in GROUPS if name in group.files), None)


def not_supported(name: str) -> str | None:
    """Why a file is not run, or None when it is."""
    group = group_of(name)
    if group is None:
        return "not yet supported: not assigned to a group in tests/spec/groups.py"
    if group.name in SUPPORTED:
        return None
    return "not yet supported: needs " + ", ".join(p.name for p in group.proposals)
