"""Each proposal that is on by default can be switched off, and later ones are named when met."""

from __future__ import annotations

import pytest

from tests.wat import wat
from wasmedge_runtime import (
    Configure,
    Loader,
    LoadError,
    Proposal,
    ValidationError,
    Validator,
    WasmEdgeError,
)
from wasmedge_runtime.configure import DEFAULT_PROPOSALS

NEEDS: dict[Proposal, tuple[str, ...]] = {
    Proposal.IMPORT_EXPORT_MUT_GLOBALS: (
        '(import "" "" (global (mut i32)))',
        '(global (export "a") (mut i32) (i32.const 0))',
    ),
    Proposal.NON_TRAP_FLOAT_TO_INT_CONVERSIONS: (
        "(func (drop (i32.trunc_sat_f32_s (f32.const 0))))",
        "(func (drop (i64.trunc_sat_f64_u (f64.const 0))))",
    ),
    Proposal.SIGN_EXTENSION_OPERATORS: (
        "(func (drop (i32.extend8_s (i32.const 0))))",
        "(func (drop (i64.extend32_s (i64.const 0))))",
    ),
    Proposal.MULTI_VALUE: (
        "(func (result i32 i32) unreachable)",
        "(type (func (result i32 i32)))",
        "(type (func (param i32))) (func i32.const 0 (block (param i32) drop))",
    ),
    Proposal.BULK_MEMORY_OPERATIONS: (
        "(memory 1) (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 0)))",
        "(memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))",
        "(table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 0)))",
        '(data "passive")',
        "(func $f) (elem func $f)",
        '(memory 1) (data $d "") (func (data.drop $d))',
    ),
    Proposal.REFERENCE_TYPES: (
        "(func (param externref))",
        "(func (local funcref))",
        "(func (drop (ref.null func)))",
        "(func (drop (select (result i32) (i32.const 0) (i32.const 0) (i32.const 0))))",
        "(func (block (result externref) unreachable) drop)",
        "(global externref (ref.null extern))",
        "(table 1 externref)",
        "(table 1 funcref) (table 1 funcref)",
        '(import "" "" (table 1 funcref)) (table 1 funcref)',
        "(table 1 funcref) (func (drop (table.size)))",
        "(func $f) (elem declare func $f)",
    ),
    Proposal.SIMD: (
        "(func (param v128))",
        "(func (local v128))",
        "(global v128 (v128.const i64x2 0 0))",
        "(func (drop (v128.const i64x2 0 0)))",
        "(func (drop (i32x4.splat (i32.const 0))))",
        "(func (block (result v128) unreachable) drop)",
    ),
}

CASES = [(proposal, text) for proposal, texts in NEEDS.items() for text in texts]

LATER: list[tuple[Proposal, str]] = [
    (Proposal.TAIL_CALL, "(func return_call 0)"),
    (Proposal.MULTI_MEMORIES, "(memory 1) (memory 1)"),
    (Proposal.MULTI_MEMORIES, '(import "" "" (memory 1)) (memory 1)'),
    (Proposal.MULTI_MEMORIES, "(memory 1) (func (drop (i32.load 1 (i32.const 0))))"),
    (Proposal.MULTI_MEMORIES, "(memory 1) (func (drop (memory.size 1)))"),
    (Proposal.MEMORY64, "(memory i64 1)"),
    (Proposal.THREADS, "(memory 1 1 shared)"),
    (Proposal.THREADS, "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))"),
    (Proposal.EXCEPTION_HANDLING, "(tag)"),
    (Proposal.EXCEPTION_HANDLING, '(import "" "" (tag))'),
    (Proposal.EXCEPTION_HANDLING, "(func throw_ref)"),
    (Proposal.EXTENDED_CONST, "(global i32 (i32.add (i32.const 1) (i32.const 2)))"),
    (Proposal.FUNCTION_REFERENCES, "(type $t (func)) (func (param (ref $t)))"),
    (Proposal.FUNCTION_REFERENCES, "(type $t (func)) (func (call_ref $t (unreachable)))"),
    (Proposal.FUNCTION_REFERENCES, "(func $f) (table 1 funcref (ref.func $f))"),
    (Proposal.GC, "(type (struct))"),
    (Proposal.GC, "(func (param anyref))"),
    (Proposal.GC, "(func (drop (ref.i31 (i32.const 0))))"),
    (
        Proposal.RELAXED_SIMD,
        "(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
    ),
]


def check(text: str, loading: Configure | None = None, validating: Configure | None = None) -> None:
    Validator(validating or loading).validate(Loader(loading).load_buffer(wat(f"(module {text})")))


def without(proposal: Proposal) -> Configure:
    config = Configure()
    config.remove_config(proposal)
    return config


def test_every_default_proposal_has_cases() -> None:
    assert NEEDS.keys() == DEFAULT_PROPOSALS


@pytest.mark.parametrize(("proposal", "text"), CASES)
def test_a_default_proposal_is_on(proposal: Proposal, text: str) -> None:
    check(text)


@pytest.mark.parametrize(("proposal", "text"), CASES)
def test_what_needs_a_proposal_is_refused_without_it(proposal: Proposal, text: str) -> None:
    with pytest.raises((LoadError, ValidationError)) as caught:
        check(text, without(proposal))

    assert f"needs the proposal {proposal.name}, which is off" in caught.value.message
    assert f"add_config(Proposal.{proposal.name})" in caught.value.message
    assert caught.value.offset is not None


@pytest.mark.parametrize(("proposal", "text"), CASES)
def test_a_validator_without_the_proposal_refuses_what_a_loader_with_it_read(
    proposal: Proposal, text: str
) -> None:
    with pytest.raises((LoadError, ValidationError), match=f"proposal {proposal.name}, which is"):
        check(text, Configure(), without(proposal))


@pytest.mark.parametrize(("proposal", "text"), CASES)
def test_proposals_on_which_no_other_builds_can_be_missing_elsewhere(
    proposal: Proposal, text: str
) -> None:
    independent = {
        Proposal.IMPORT_EXPORT_MUT_GLOBALS,
        Proposal.NON_TRAP_FLOAT_TO_INT_CONVERSIONS,
        Proposal.SIGN_EXTENSION_OPERATORS,
    }
    for other in independent - {proposal}:
        check(text, without(other))


def test_webassembly_1_is_what_is_left_without_all_of_them() -> None:
    config = Configure()
    for proposal in DEFAULT_PROPOSALS:
        config.remove_config(proposal)

    check(
        """(type $t (func (param i32) (result i32)))
        (import "" "" (global i32))
        (table 1 funcref) (memory 1)
        (func $f (type $t) (block (result i32) (call_indirect (type $t)
          (i32.load (local.get 0)) (memory.grow (memory.size)))))
        (elem (i32.const 0) $f) (data (global.get 0) "bytes") (export "f" (func $f))""",
        config,
    )


def test_the_table_byte_of_an_indirect_call_is_zero_without_reference_types() -> None:
    code = b"\0\x41\0\x11\0\x80\0\x0b"
    data = (
        b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\4\4\1\x70\0\1"
        + bytes([10, len(code) + 2, 1, len(code)])
        + code
    )
    Validator().validate(Loader().load_buffer(data))

    config = without(Proposal.REFERENCE_TYPES)
    with pytest.raises(LoadError, match="zero byte expected"):
        Validator(config).validate(Loader(config).load_buffer(data))


@pytest.mark.parametrize(("proposal", "text"), LATER)
def test_what_needs_a_later_proposal_is_refused_by_name(proposal: Proposal, text: str) -> None:
    # Switched on or not: these have no effect yet.
    for config in (Configure(), Configure(proposal)):
        with pytest.raises((LoadError, ValidationError)) as caught:
            check(text, config)

        message = caught.value.message
        assert f"needs the proposal {proposal.name}, which is not supported yet" in message


def test_a_configuration_can_change_after_it_was_used() -> None:
    config = Configure()
    loader, validator = Loader(config), Validator(config)
    config.remove_config(Proposal.SIMD)
    config.close()

    ast = loader.load_buffer(wat("(module (func (param v128)))"))
    validator.validate(ast)

    with pytest.raises(WasmEdgeError, match="closed"):
        Loader(config)
