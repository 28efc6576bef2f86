"""Loader and AST: what is read from the bytes, and what is refused while reading."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from tests.wat import wat
from wasmedge_runtime import (
    ErrCode,
    ExportType,
    ExternType,
    FunctionType,
    GlobalType,
    ImportType,
    Limit,
    Loader,
    LoadError,
    MemoryType,
    RefType,
    TableType,
    ValidationError,
    ValMut,
    ValType,
    WasmEdgeError,
)
from wasmedge_runtime.binary.reader import signed, unsigned

PREAMBLE = b"\0asm\1\0\0\0"


def section(number: int, contents: bytes) -> bytes:
    """A section with a size of one byte, or five."""
    size = len(contents)
    if size < 0x80:
        return bytes([number, size]) + contents
    groups = [size >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]
    return bytes([number, *groups, size >> 28]) + contents


def refusal(data: bytes) -> LoadError:
    with pytest.raises(LoadError) as caught:
        Loader().load_buffer(data)
    return caught.value


def test_the_smallest_module_is_its_preamble() -> None:
    ast = Loader().load_buffer(PREAMBLE)

    assert (ast.types, ast.functions, ast.customs) == ([], [], [])
    assert not ast.validated


def test_a_file_gives_what_its_bytes_give(tmp_path: Path) -> None:
    path = tmp_path / "module.wasm"
    path.write_bytes(wat("(module (memory 3))"))

    assert Loader().load_file(path).memories == [MemoryType(Limit(3))]
    assert Loader().load_file(str(path)).memories == [MemoryType(Limit(3))]


@pytest.mark.parametrize("name", ["absent.wasm", "absent/module.wasm", "nul\0.wasm"])
def test_a_path_without_a_file_is_illegal(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoadError, match="invalid path") as caught:
        Loader().load_file(tmp_path / name)

    assert caught.value.code == ErrCode.IllegalPath
    assert caught.value.offset is None


def test_a_file_that_cannot_be_read_is_a_read_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="read error") as caught:
        Loader().load_file(tmp_path)

    assert caught.value.code == ErrCode.ReadError


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_buffer_loads(kind: type[bytes]) -> None:
    ast = Loader().load_buffer(kind(wat("(module (memory 1))")))

    assert isinstance(ast.data, bytes)
    assert len(ast.memories) == 1


def test_the_module_does_not_change_with_its_buffer() -> None:
    buffer = bytearray(wat('(module (memory 1) (data (i32.const 0) "unchanged"))'))
    ast = Loader().load_buffer(buffer)
    buffer[:] = bytes(len(buffer))

    [segment] = ast.data_segments
    assert ast.data[segment.start : segment.end] == b"unchanged"


def test_text_is_no_buffer() -> None:
    with pytest.raises(TypeError):
        Loader().load_buffer("(module)")  # type: ignore[arg-type]


def test_imports_and_exports_are_listed_with_their_types() -> None:
    ast = Loader().load_buffer(
        wat(
            """(module
              (import "host" "f" (func (param i32 f64) (result i64)))
              (import "host" "t" (table 2 9 externref))
              (import "host" "m" (memory 1))
              (import "host" "g" (global (mut v128)))
              (func $own (result funcref) ref.null func)
              (export "own" (func $own)) (export "f" (func 0)) (export "t" (table 0))
              (export "m" (memory 0)) (export "g" (global 0)))"""
        )
    )
    function = FunctionType([ValType.I32, ValType.F64], [ValType.I64])
    table = TableType(RefType.EXTERNREF, Limit(2, 9))
    memory = MemoryType(Limit(1))
    global_ = GlobalType(ValType.V128, ValMut.VAR)

    assert ast.list_imports() == [
        ImportType(ExternType.FUNCTION, "host", "f", function),
        ImportType(ExternType.TABLE, "host", "t", table),
        ImportType(ExternType.MEMORY, "host", "m", memory),
        ImportType(ExternType.GLOBAL, "host", "g", global_),
    ]
    assert ast.list_exports() == [
        ExportType(ExternType.FUNCTION, "own", FunctionType([], [ValType.FUNCREF])),
        ExportType(ExternType.FUNCTION, "f", function),
        ExportType(ExternType.TABLE, "t", table),
        ExportType(ExternType.MEMORY, "m", memory),
        ExportType(ExternType.GLOBAL, "g", global_),
    ]
    assert ast.function_type_indices == [0, 1]
    assert (ast.imported_functions, ast.functions) == (1, [1])


def test_segments_and_initializers_are_kept_as_constants() -> None:
    ast = Loader().load_buffer(
        wat(
            """(module
              (import "" "g" (global i32))
              (table 4 funcref) (memory 1) (func $f)
              (global i64 (i64.const -5)) (global f32 (f32.const nan:0x200000))
              (global v128 (v128.const i64x2 1 -1))
              (elem (global.get 0) $f)
              (elem declare externref (ref.null extern))
              (data (i32.const -1) "x") (data "passive"))"""
        )
    )

    assert [g.init for g in ast.globals] == [
        ((0x42, -5),),
        ((0x43, 0x7FA00000),),
        ((0xFD0C, bytes([1] + [0] * 7 + [255] * 8)),),
    ]
    active, declarative = ast.elements
    assert (active.mode, active.table, active.offset) == (0, 0, ((0x23, 0),))
    assert list(active.init) == [((0xD2, 0),)]
    assert (declarative.mode, declarative.offset) == (2, None)
    assert list(declarative.init) == [((0xD0, 0x6F),)]
    assert [(d.mode, d.offset) for d in ast.data_segments] == [(0, ((0x41, -1),)), (1, None)]
    assert ast.data_count in (None, 2)  # nothing here needs the section


def test_a_body_is_a_slice_of_the_file() -> None:
    data = wat("(module (func (local i32 i32 f64) nop))")
    [body] = Loader().load_buffer(data).bodies

    assert body.locals == ((2, 0x7F), (1, 0x7C))
    assert data[body.code : body.end] == b"\x01\x0b"
    assert data[body.start] == 2  # runs of locals


def test_custom_sections_are_kept_wherever_they_stand() -> None:
    data = PREAMBLE + section(0, b"\1abc") + section(1, b"\0") + section(0, b"\1b")
    ast = Loader().load_buffer(data)

    contents = [(c.name, data[c.start : c.end]) for c in ast.customs]
    assert contents == [("a", b"bc"), ("b", b"")]


def test_function_names_come_from_the_name_section() -> None:
    ast = Loader().load_buffer(wat("(module (func $first) (func) (func $third))"))

    assert ast.function_names == {0: "first", 2: "third"}


@pytest.mark.parametrize(
    "names",
    [
        b"\4name\1\x05\2\0\1a\1",  # the second entry is cut short
        b"\4name\1\x07\2\0\1a\1\1\xff",  # the second name is not UTF-8
        b"\4name\1\x04\1\0\1a\2\x7f\0",  # the subsection behind it is too long
        b"\4name\1\x07\2\0\1a\x05\1b",  # a function that does not exist
    ],
)
def test_damage_in_the_name_section_costs_only_the_names_behind_it(names: bytes) -> None:
    data = wat("(module (func) (func))") + section(0, names)

    assert Loader().load_buffer(data).function_names == {0: "a"}


def test_a_closed_module_refuses_questions() -> None:
    with Loader().load_buffer(PREAMBLE) as ast:
        assert ast.list_imports() == []
    ast.close()

    with pytest.raises(WasmEdgeError, match="closed"):
        ast.list_exports()


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", ErrCode.UnexpectedEnd, "unexpected end"),
        (b"\0as", ErrCode.UnexpectedEnd, "unexpected end"),
        (b"\0asn\1\0\0\0", ErrCode.MalformedMagic, "magic header not detected"),
        (b"\0asm\2\0\0\0", ErrCode.MalformedVersion, "unknown binary version"),
        (PREAMBLE + b"\x0e\0", ErrCode.MalformedSection, "malformed section id 14"),
        (PREAMBLE + b"\1\2\0", ErrCode.NameSizeOutOfBounds, "length out of bounds"),
        (PREAMBLE + b"\1\2\0\0", ErrCode.SectionSizeMismatch, "section size mismatch"),
        (PREAMBLE + b"\1\1\0\1\1\0", ErrCode.JunkSection, "unexpected content after last section"),
        (PREAMBLE + b"\3\1\0\1\1\0", ErrCode.JunkSection, "unexpected content after last section"),
        (PREAMBLE + b"\0\0", ErrCode.UnexpectedEnd, "unexpected end"),
        (PREAMBLE + b"\0\2\1\xff", ErrCode.MalformedUTF8, "malformed UTF-8 encoding"),
        (PREAMBLE + b"\0\2\2a", ErrCode.NameSizeOutOfBounds, "length out of bounds"),
        (PREAMBLE + b"\1\4\1\x60\1\1", ErrCode.UnexpectedEnd, "unexpected end"),
        (PREAMBLE + b"\1\5\1\x60\1\1\0", ErrCode.MalformedValType, "malformed value type: 0x01"),
        (PREAMBLE + b"\2\5\1\0\0\5\0", ErrCode.MalformedImportKind, "malformed import kind"),
        (PREAMBLE + b"\4\4\1\x7f\0\0", ErrCode.MalformedRefType, "malformed reference type"),
        (PREAMBLE + b"\5\3\1\x08\0", ErrCode.IllegalGrammar, "malformed limits flags"),
        (PREAMBLE + b"\6\6\1\x7f\2\x41\0\x0b", ErrCode.InvalidMut, "malformed mutability"),
        (PREAMBLE + b"\6\6\1\x7f\0\xff\0\x0b", ErrCode.IllegalOpCode, "illegal opcode ff"),
        (PREAMBLE + b"\7\4\1\0\5\0", ErrCode.MalformedExportKind, "malformed export kind"),
        (PREAMBLE + b"\x09\2\1\x08", ErrCode.IllegalGrammar, "invalid wasm grammar"),
        (PREAMBLE + b"\x09\4\1\1\1\0", ErrCode.MalformedElemType, "malformed element type"),
        (PREAMBLE + b"\x0c\1\1", ErrCode.IncompatibleDataCount, "data count and data section"),
        (PREAMBLE + b"\x0a\4\1\2\0\x0b", ErrCode.IncompatibleFuncCode, "function and code section"),
    ],
)
def test_malformed_bytes_are_refused_in_the_words_of_the_test_suite(
    data: bytes, code: ErrCode, words: str
) -> None:
    error = refusal(data)

    assert error.code == code
    assert error.message.startswith(words)
    assert error.offset is not None
    assert error.message.endswith(f"(at offset {error.offset:#x})")


def test_an_error_names_the_offset_of_what_is_wrong() -> None:
    error = refusal(PREAMBLE + b"\1\7\1\x60\3\x7f\x7e\x13\0")

    assert error.offset == 8 + 7


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12])
def test_a_count_beyond_the_file_fails_before_anything_is_allocated(number: int) -> None:
    data = PREAMBLE + section(number, b"\xff\xff\xff\xff\x0f")
    tracemalloc.start()
    try:
        with pytest.raises(LoadError):
            Loader().load_buffer(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def body_of(locals_: bytes) -> bytes:
    """A module with one function of no parameters and these declarations of locals."""
    body = locals_ + b"\x0b"
    code = bytes([1, len(body)]) + body
    return PREAMBLE + section(1, b"\1\x60\0\0") + section(3, b"\1\0") + section(10, code)


def test_as_many_locals_as_allowed_load() -> None:
    [body] = Loader().load_buffer(body_of(b"\1\xd0\x86\x03\x7f")).bodies

    assert body.locals == ((50_000, 0x7F),)


@pytest.mark.parametrize(
    "locals_",
    [
        b"\1\xd1\x86\x03\x7f",  # 50,001
        b"\1\xff\xff\xff\xff\x0f\x7f",
        b"\2\xff\xff\xff\xff\x0f\x7f\xff\xff\xff\xff\x0f\x7e",
    ],
)
def test_more_locals_are_too_many(locals_: bytes) -> None:
    assert refusal(body_of(locals_)).code == ErrCode.TooManyLocals


def test_locals_of_all_functions_together_are_capped() -> None:
    body = b"\1\xd0\x86\x03\x7f\x0b"
    count = 401
    size = bytes([count & 0x7F | 0x80, count >> 7])
    data = PREAMBLE + section(1, b"\1\x60\0\0") + section(3, size + bytes(count))
    data += section(10, size + (bytes([len(body)]) + body) * count)

    assert refusal(data).code == ErrCode.TooManyLocals


def test_long_parameter_lists_are_capped() -> None:
    error = refusal(PREAMBLE + section(1, b"\1\x60\xe9\x07" + b"\x7f" * 1001 + b"\0"))

    assert "1001 parameters, and the limit is 1000" in error.message


def test_an_initializer_must_be_constant() -> None:
    with pytest.raises(ValidationError, match="constant expression required, not nop"):
        Loader().load_buffer(wat("(module (global i32 (nop) (i32.const 0)))"))


def test_a_function_of_unknown_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="unknown type 7"):
        Loader().load_buffer(PREAMBLE + section(3, b"\1\7"))


@pytest.mark.parametrize(
    ("bits", "data", "value"),
    [
        (32, b"\xff\xff\xff\xff\x0f", 2**32 - 1),
        (32, b"\x80\x80\x80\x80\x00", 0),
        (64, b"\xff" * 9 + b"\x01", 2**64 - 1),
    ],
)
def test_unsigned_numbers(bits: int, data: bytes, value: int) -> None:
    assert unsigned(data, 0, bits) == (value, len(data))


@pytest.mark.parametrize(
    ("bits", "data", "value"),
    [
        (32, b"\x7f", -1),
        (32, b"\xff\xff\xff\xff\x07", 2**31 - 1),
        (32, b"\x80\x80\x80\x80\x78", -(2**31)),
        (33, b"\xff\xff\xff\xff\x0f", 2**32 - 1),
        (64, b"\x80" * 9 + b"\x7f", -(2**63)),
    ],
)
def test_signed_numbers(bits: int, data: bytes, value: int) -> None:
    assert signed(data, 0, bits) == (value, len(data))


@pytest.mark.parametrize(
    ("bits", "data"),
    [(32, b"\xff\xff\xff\xff\x1f"), (32, b"\x80\x80\x80\x80\x70"), (64, b"\xff" * 9 + b"\x02")],
)
def test_unsigned_numbers_with_unused_bits_are_too_large(bits: int, data: bytes) -> None:
    with pytest.raises(LoadError, match="integer too large") as caught:
        unsigned(data, 0, bits)

    assert caught.value.code == ErrCode.IntegerTooLarge


@pytest.mark.parametrize(
    ("bits", "data"),
    [(32, b"\xff\xff\xff\xff\x4f"), (32, b"\x80\x80\x80\x80\x08"), (64, b"\x80" * 9 + b"\x41")],
)
def test_signed_numbers_whose_unused_bits_are_not_the_sign_are_too_large(
    bits: int, data: bytes
) -> None:
    with pytest.raises(LoadError, match="integer too large"):
        signed(data, 0, bits)


@pytest.mark.parametrize(("bits", "size"), [(32, 6), (64, 11)])
def test_numbers_with_a_byte_too_many_are_too_long(bits: int, size: int) -> None:
    data = b"\x80" * (size - 1) + b"\0"
    for decode in (unsigned, signed):
        with pytest.raises(LoadError, match="integer representation too long") as caught:
            decode(data, 0, bits)

        assert caught.value.code == ErrCode.IntegerTooLong
