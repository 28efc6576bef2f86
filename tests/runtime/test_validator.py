"""Validator: the rules, the words and places of its errors, and what it hands on."""

from __future__ import annotations

import pytest

from tests.wat import wat
from wasmedge_runtime import (
    AST,
    ErrCode,
    Loader,
    LoadError,
    ValidationError,
    Validator,
    ValType,
    WasmEdgeError,
)
from wasmedge_runtime.limits import MAX_NESTING, MAX_OPERANDS


def validated(text: str) -> AST:
    ast = Loader().load_buffer(wat(text))
    Validator().validate(ast)
    return ast


def refusal(text: str) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        validated(text)
    return caught.value


def body(instructions: str, result: str = "") -> str:
    """A module with one function of these instructions, and a global, a memory and a table."""
    return f"""(module
      (type $two (func (result i32 i32)))
      (global $constant i32 (i32.const 0)) (global $variable (mut i64) (i64.const 0))
      (memory 1) (table $functions 1 funcref) (table $others 1 externref)
      (elem $segment func) (func $undeclared)
      (func (param i32 i64) {result} {instructions}))"""


def malformed(instructions: bytes) -> LoadError:
    """The refusal of a body with these bytes, the last `end` not included."""
    code = bytes([1, len(instructions) + 2, 0]) + instructions + b"\x0b"
    data = b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0" + bytes([10, len(code)]) + code
    ast = Loader().load_buffer(data)
    with pytest.raises(LoadError) as caught:
        Validator().validate(ast)
    return caught.value


def test_a_module_is_validated_only_after_success() -> None:
    ast = Loader().load_buffer(wat(body("i32.add drop")))
    assert not ast.validated

    with pytest.raises(ValidationError):
        Validator().validate(ast)

    assert not ast.validated
    assert validated(body("nop")).validated


def test_a_closed_module_is_refused() -> None:
    ast = Loader().load_buffer(wat("(module)"))
    ast.close()

    with pytest.raises(WasmEdgeError, match="closed"):
        Validator().validate(ast)


@pytest.mark.parametrize(
    ("instructions", "result", "code", "words"),
    [
        ("drop", "", ErrCode.TypeCheckFailed, "type mismatch: expected a value, but nothing is on"),
        (
            "i64.const 1 i32.eqz drop",
            "",
            ErrCode.TypeCheckFailed,
            "type mismatch: expected i32, found i64",
        ),
        ("i32.const 1", "", ErrCode.TypeCheckFailed, "type mismatch: values remain on the stack"),
        ("", "(result i32)", ErrCode.TypeCheckFailed, "type mismatch"),
        ("unreachable i32.const 1 i64.add", "(result i64)", ErrCode.TypeCheckFailed, "type mism"),
        ("local.get 2 drop", "", ErrCode.InvalidLocalIdx, "unknown local 2"),
        ("(local.set 1 (i32.const 0))", "", ErrCode.TypeCheckFailed, "type mismatch"),
        ("global.get 9 drop", "", ErrCode.InvalidGlobalIdx, "unknown global 9"),
        ("(global.set 0 (i32.const 0))", "", ErrCode.ImmutableGlobal, "immutable global"),
        ("br 1", "", ErrCode.InvalidLabelIdx, "unknown label 1"),
        ("(br_table 0 5 (i32.const 0))", "", ErrCode.InvalidLabelIdx, "unknown label 5"),
        ("call 7", "", ErrCode.InvalidFuncIdx, "unknown function 7"),
        ("(call_indirect (type 9) (i32.const 0))", "", ErrCode.InvalidFuncTypeIdx, "unknown type"),
        ("(call_indirect 1 (i32.const 0))", "", ErrCode.TypeCheckFailed, "type mismatch"),
        ("(drop (table.get 5 (i32.const 0)))", "", ErrCode.InvalidTableIdx, "unknown table 5"),
        ("table.copy 0 1", "", ErrCode.TypeCheckFailed, "type mismatch"),
        ("elem.drop 4", "", ErrCode.InvalidElemIdx, "unknown elem segment 4"),
        ("(drop (ref.func $undeclared))", "", ErrCode.InvalidRefIdx, "undeclared function ref"),
        ("(drop (i32.load align=8 (i32.const 0)))", "", ErrCode.InvalidAlignment, "alignment must"),
        (
            "(drop (i32.load offset=4294967296 (i32.const 0)))",
            "",
            ErrCode.IntegerTooLarge,
            "offset out of range",
        ),
        (
            "(drop (i8x16.extract_lane_s 16 (v128.const i64x2 0 0)))",
            "",
            ErrCode.InvalidLaneIdx,
            "invalid lane index",
        ),
        (
            "(drop (select (ref.null func) (ref.null func) (i32.const 0)))",
            "",
            ErrCode.TypeCheckFailed,
            "type mismatch",
        ),
        (
            "(drop (select (i32.const 0) (i64.const 0) (i32.const 0)))",
            "",
            ErrCode.TypeCheckFailed,
            "type mismatch",
        ),
        (
            "(if (result i32) (i32.const 0) (then (i32.const 1))) drop",
            "",
            ErrCode.TypeCheckFailed,
            "type mismatch",
        ),
        (
            "(block (result i32) (block (br_table 0 1 (i32.const 0))) (i32.const 1)) drop",
            "",
            ErrCode.TypeCheckFailed,
            "type mismatch",
        ),
    ],
)
def test_a_broken_rule_is_refused_in_the_words_of_the_test_suite(
    instructions: str, result: str, code: ErrCode, words: str
) -> None:
    error = refusal(body(instructions, result))

    assert error.code == code
    assert error.message.startswith(words)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("(memory 65537)", ErrCode.InvalidMemPages, "memory size must be at most 65536 pages"),
        ("(memory 2 1)", ErrCode.InvalidLimit, "size minimum must not be greater than maximum"),
        ("(table 2 1 funcref)", ErrCode.InvalidLimit, "size minimum must not be greater"),
        ("(table 10000001 funcref)", ErrCode.InvalidLimit, "table size"),
        ('(import "" "" (table 2 1 funcref))', ErrCode.InvalidLimit, "size minimum"),
        ('(func) (export "a" (func 0)) (export "a" (func 0))', ErrCode.DupExportName, "duplicate"),
        ('(export "a" (func 0))', ErrCode.InvalidFuncIdx, "unknown function 0"),
        ('(export "a" (memory 0))', ErrCode.InvalidMemoryIdx, "unknown memory 0"),
        ('(export "a" (table 0))', ErrCode.InvalidTableIdx, "unknown table 0"),
        ('(export "a" (global 0))', ErrCode.InvalidGlobalIdx, "unknown global 0"),
        ("(func (param i32)) (start 0)", ErrCode.InvalidStartFunc, "start function"),
        ("(start 3)", ErrCode.InvalidFuncIdx, "unknown function 3"),
        ("(global i32 (i64.const 0))", ErrCode.TypeCheckFailed, "type mismatch"),
        ("(global i32)", ErrCode.TypeCheckFailed, "type mismatch"),
        ("(global i32 (i32.const 0) (i32.const 0))", ErrCode.TypeCheckFailed, "type mismatch"),
        ("(global i32 (global.get 0))", ErrCode.InvalidGlobalIdx, "unknown global 0"),
        (
            '(import "" "" (global (mut i32))) (global i32 (global.get 0))',
            ErrCode.ConstExprRequired,
            "constant expression required",
        ),
        ("(global funcref (ref.func 0))", ErrCode.InvalidFuncIdx, "unknown function 0"),
        ("(elem (i32.const 0) func)", ErrCode.InvalidTableIdx, "unknown table 0"),
        (
            "(table 1 externref) (elem (i32.const 0) funcref)",
            ErrCode.TypeCheckFailed,
            "type mismatch",
        ),
        ('(data (i32.const 0) "")', ErrCode.InvalidMemoryIdx, "unknown memory 0"),
        ('(memory 1) (data (i64.const 0) "")', ErrCode.TypeCheckFailed, "type mismatch"),
        ("(func (drop (memory.size)))", ErrCode.InvalidMemoryIdx, "unknown memory 0"),
    ],
)
def test_a_broken_rule_of_the_module_is_refused(text: str, code: ErrCode, words: str) -> None:
    error = refusal(f"(module {text})")

    assert error.code == code
    assert error.message.startswith(words)
    assert error.offset is not None


def test_an_error_names_the_offset_of_the_instruction() -> None:
    data = wat("(module (func nop nop i32.eqz drop))")
    ast = Loader().load_buffer(data)

    with pytest.raises(ValidationError) as caught:
        Validator().validate(ast)

    assert caught.value.offset == ast.bodies[0].code + 2
    assert data[caught.value.offset] == 0x45


@pytest.mark.parametrize(
    ("instructions", "code", "words"),
    [
        (b"\xff", ErrCode.IllegalOpCode, "illegal opcode ff"),
        (b"\xfc\x7f", ErrCode.IllegalOpCode, "illegal opcode fc 7f"),
        (b"\xfd\x80\x08", ErrCode.IllegalOpCode, "illegal opcode fd 400"),
        (b"\x02\x40", ErrCode.UnexpectedEnd, "unexpected end of section or function"),
        (b"\x41", ErrCode.UnexpectedEnd, "unexpected end of section or function"),
        (b"\x44\0\0", ErrCode.UnexpectedEnd, "unexpected end of section or function"),
        (b"\x0b", ErrCode.SectionSizeMismatch, "section size mismatch"),
        (b"\x05", ErrCode.IllegalGrammar, "invalid wasm grammar"),
        (b"\x02\x41\x0b", ErrCode.MalformedValType, "malformed value type"),
        (b"\x41\x80\x80\x80\x80\x80\0\x1a", ErrCode.IntegerTooLong, "integer representation too"),
        (b"\x41\x80\x80\x80\x80\x70\x1a", ErrCode.IntegerTooLarge, "integer too large"),
        (b"\x42" + b"\x80" * 10 + b"\0\x1a", ErrCode.IntegerTooLong, "integer representation too"),
        (b"\x10\xff\xff\xff\xff\x1f", ErrCode.IntegerTooLarge, "integer too large"),
        (b"\xd0\x7f\x1a", ErrCode.MalformedRefType, "malformed reference type"),
        (b"\xfc\x09\0", ErrCode.DataCountRequired, "data count section required"),
        (b"\x0e\xff\xff\xff\xff\x0f\0", ErrCode.UnexpectedEnd, "unexpected end"),
    ],
)
def test_malformed_instructions_are_load_errors(
    instructions: bytes, code: ErrCode, words: str
) -> None:
    error = malformed(instructions)

    assert error.code == code
    assert error.message.startswith(words)
    assert error.offset is not None


def test_numbers_of_instructions_may_be_longer_than_needed() -> None:
    text = body("nop").replace("nop", "i64.const -9223372036854775808 drop")
    ast = validated(text)
    assert ast.validated

    # local.get 0 and i32.load offset=0 with numbers of five bytes.
    code = b"\x20\x80\x80\x80\x80\0\x28\x80\x80\x80\x80\0\x80\x80\x80\x80\0\x1a\x0b"
    contents = bytes([1, len(code) + 1, 0]) + code
    data = b"\0asm\1\0\0\0\1\5\1\x60\1\x7f\0\3\2\1\0\5\3\1\0\1" + bytes([10, len(contents)])
    Validator().validate(Loader().load_buffer(data + contents))


def test_unreachable_code_has_any_operands_but_keeps_its_types() -> None:
    validated(body("unreachable i32.add select drop drop (br_if 0) i64.eqz drop"))
    validated(body("unreachable (drop (i32.add)) return", "(result i32)"))
    refusal(body("return i64.const 0 i32.eqz drop"))
    refusal(body("(block br 0) drop"))


def test_blocks_take_and_leave_several_values() -> None:
    validated(
        body(
            """(block (type $two) i32.const 1 i32.const 2)
            (loop (param i32 i32) (result i32) i32.add)
            (if (result i64) (then i64.const 1) (else i64.const 2)) drop"""
        )
    )


def test_each_select_is_reported_with_its_type() -> None:
    data = wat(
        body(
            """(drop (select (f64.const 0) (f64.const 1) (local.get 0)))
            (drop (select (v128.const i64x2 0 0) (v128.const i64x2 0 0) (local.get 0)))
            (drop (select (result i32) (i32.const 0) (i32.const 1) (local.get 0)))
            unreachable select drop"""
        )
    )
    ast = Loader().load_buffer(data)
    Validator().validate(ast)

    assert ast.select_types[0] == {}
    assert list(ast.select_types[1].values()) == [ValType.F64, ValType.V128]
    assert all(data[offset] == 0x1B for offset in ast.select_types[1])


def test_functions_that_can_be_referenced_are_reported() -> None:
    ast = validated(
        """(module (table 1 funcref)
          (func $exported (export "f")) (func $in_table) (func $declared) (func $initial)
          (func $called call $called)
          (global funcref (ref.func $initial))
          (elem (i32.const 0) $in_table) (elem declare func $declared))"""
    )

    assert ast.declared_functions == {0, 1, 2, 3}


def test_nesting_is_capped() -> None:
    fits = "block " * MAX_NESTING + "end " * MAX_NESTING

    validated(body(fits))
    assert "blocks in one another" in refusal(body(f"block {fits} end")).message


def test_the_operand_stack_is_capped() -> None:
    results = "(result" + " i32" * 1000 + ")"
    calls = "call 0 " * (MAX_OPERANDS // 1000 + 1)
    text = f"(module (func {results} unreachable) (func {calls} unreachable))"

    assert "operands on the stack" in refusal(text).message


def test_pushing_one_by_one_meets_the_same_cap() -> None:
    text = f"(module (func {'i32.const 0 ' * (MAX_OPERANDS + 1)} unreachable))"

    assert "operands on the stack" in refusal(text).message


def test_the_labels_of_a_table_of_branches_are_capped() -> None:
    labels = "0 " * 65_521
    with pytest.raises(LoadError, match="65521 labels"):
        validated(f"(module (func (br_table {labels} 0 (i32.const 0))))")


def test_calls_with_many_parameters_in_dead_code_take_no_time_each() -> None:
    params = "(param" + " i64" * 1000 + ")"
    text = f"(module (func {params}) (func unreachable {'call 0 ' * 100_000}))"

    assert validated(text).validated
