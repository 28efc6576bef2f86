"""The runner itself: a comparison that accepts too much would prove nothing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from tests.spec import groups, suite
from tests.spec.report import Report
from tests.spec.runner import lacks_proposal, skip_reason, text_agrees
from tests.spec.values import (
    Externals,
    agrees,
    argument,
    f32_from_bits,
    f32_to_bits,
    f64_from_bits,
    lanes,
)
from wasmedge_runtime.errors import (
    ErrCode,
    InstantiationError,
    LoadError,
    ValidationError,
    WasmEdgeError,
)
from wasmedge_runtime.values import V128, ExternRef


@pytest.mark.parametrize("bits", [0, 1 << 31, 1, 0x7F7FFFFF, 0x7F800000, 0x3F800000])
def test_f32_bits_survive_the_way_to_a_float_and_back(bits: int) -> None:
    assert f32_to_bits(f32_from_bits(bits)) == bits


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0xFFA00000, 0xFFFFFFFF])
def test_f32_nan_keeps_sign_and_payload(bits: int) -> None:
    value = f32_from_bits(bits)
    assert math.isnan(value)
    assert f32_to_bits(value) == bits


def test_a_float_that_is_no_f32_does_not_agree() -> None:
    assert not agrees({"type": "f32", "value": str(0x3DCCCCCD)}, 0.1)
    assert not agrees({"type": "f32", "value": "nan:arithmetic"}, f64_from_bits(0x7FF8000000000001))


def test_zeros_of_different_sign_do_not_agree() -> None:
    assert agrees({"type": "f64", "value": "0"}, 0.0)
    assert not agrees({"type": "f64", "value": "0"}, -0.0)


@pytest.mark.parametrize(
    ("expected", "bits", "result"),
    [
        ("nan:canonical", 0x7FC00000, True),
        ("nan:canonical", 0xFFC00000, True),
        ("nan:canonical", 0x7FC00001, False),
        ("nan:canonical", 0x7FA00000, False),
        ("nan:arithmetic", 0x7FC00001, True),
        ("nan:arithmetic", 0x7FA00000, False),
        ("nan:arithmetic", 0x7F800000, False),
    ],
)
def test_nan_classes(expected: str, bits: int, result: bool) -> None:
    assert agrees({"type": "f32", "value": expected}, f32_from_bits(bits)) is result


def test_integers_are_compared_by_bits_and_must_be_signed() -> None:
    assert agrees({"type": "i32", "value": "4294967295"}, -1)
    assert not agrees({"type": "i32", "value": "4294967295"}, 4294967295)
    assert not agrees({"type": "i32", "value": "1"}, True)
    assert not agrees({"type": "i64", "value": "1"}, 1.0)


def test_vectors_are_compared_by_lanes() -> None:
    expected = {"type": "v128", "lane_type": "f32", "value": ["0", "nan:canonical", "1", "2"]}
    assert agrees(expected, V128(0x0000000200000001, 0x7FC0000000000000))
    assert not agrees(expected, V128(0x0000000200000001, 0x7FC0000100000000))
    assert not agrees(expected, 0)


def test_vector_arguments_are_little_endian() -> None:
    value = {"type": "v128", "lane_type": "i16", "value": ["1", "-1", "0", "0", "0", "0", "0", "2"]}
    vector = argument(value, Externals())
    assert vector == V128(0x0002 << 48, 0xFFFF0001)
    assert lanes(int.from_bytes(bytes(vector), "little"), "i16")[0] == 1


def test_external_references_compare_by_their_object() -> None:
    externals = Externals()
    one = argument({"type": "externref", "value": "1"}, externals)
    assert one is argument({"type": "externref", "value": "1"}, externals)
    assert agrees({"type": "externref", "value": "1"}, one)
    assert not agrees({"type": "externref", "value": "2"}, one)
    assert not agrees({"type": "externref", "value": "1"}, None)
    assert agrees({"type": "refnull"}, None)
    assert not agrees({"type": "refnull"}, ExternRef(1))


def test_unknown_kinds_are_not_passed_over() -> None:
    with pytest.raises(ValueError, match="does not know"):
        agrees({"type": "i31ref"}, 0)
    with pytest.raises(ValueError, match="does not know"):
        argument({"type": "i31ref", "value": "1"}, Externals())


@pytest.mark.parametrize(
    ("expected", "message", "result"),
    [
        ("unreachable", "unreachable", True),
        ("unknown local", "unknown local 3 (at offset 0x1f)", True),
        ("uninitialized element 2", "uninitialized element", True),
        ("unreachable", "integer overflow", False),
        ("unreachable", "", False),
        ("integer too large", "malformed section id 128", True),
        ("integer overflow", "malformed section id 128", False),
    ],
)
def test_messages(expected: str, message: str, result: bool) -> None:
    assert text_agrees(expected, message) is result


@pytest.mark.parametrize(
    ("kind", "error", "result"),
    [
        ("assert_invalid", LoadError, True),
        ("assert_malformed", ValidationError, True),
        ("assert_invalid", InstantiationError, False),
        ("module", LoadError, False),
    ],
)
def test_a_missing_proposal_refuses_what_must_be_refused(
    kind: str, error: type[WasmEdgeError], result: bool
) -> None:
    raised = error(ErrCode.IllegalOpCode, "illegal opcode 14: it needs the proposal GC")
    assert lacks_proposal({"type": kind}, raised) is result
    assert not lacks_proposal({"type": kind}, error(ErrCode.IllegalOpCode, "illegal opcode 14"))


def test_only_text_modules_are_skipped() -> None:
    assert skip_reason({"module_type": "text", "filename": "a.wat"}) == groups.TEXT_MODULE
    quoted = {"module_type": "text", "filename": "a.wat", "binary_filename": "a.wasm"}
    assert skip_reason(quoted) is None
    assert skip_reason({"module_type": "binary", "filename": "a.wasm"}) is None


def test_no_file_stands_in_two_groups() -> None:
    counts = Counter(name for group in groups.GROUPS for name in group.files)
    assert [name for name, count in counts.items() if count > 1] == []


def test_a_file_without_a_group_has_a_reason() -> None:
    assert "not assigned" in (groups.not_supported("no-such-file") or "")
    assert groups.not_supported("return_call") == "not yet supported: needs TAIL_CALL"


def test_a_report_survives_the_way_through_json() -> None:
    report = Report("a", 3, ["a.wast:1: no"], Counter({"why": 2}))
    assert Report.from_json(report.to_json()) == report


def test_a_suite_that_is_asked_for_must_exist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WASM_TESTSUITE", str(tmp_path / "absent"))
    with pytest.raises(NotADirectoryError, match="absent"):
        suite.find_suite()
    monkeypatch.setenv("WASM_TESTSUITE", str(tmp_path))
    assert suite.find_suite() == tmp_path


def test_conversion_is_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(suite, "CACHE", tmp_path / "cache")
    script = tmp_path / "a.wast"
    script.write_text('(module (func (export "f")))\n(invoke "f")\n')
    folder = suite.convert(script)
    assert [c["type"] for c in suite.read_commands(folder)] == ["module", "action"]
    assert suite.convert(script) == folder
    script.write_text("(module)")
    assert suite.convert(script) != folder
    assert not list((tmp_path / "cache").glob("converting-*"))


def test_a_script_that_does_not_parse_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(suite, "CACHE", tmp_path / "cache")
    script = tmp_path / "a.wast"
    script.write_text("(modul)")
    with pytest.raises(ValueError, match=r"a\.wast"):
        suite.convert(script)
