"""Vectors, references, integers of a marked width."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmedge_runtime import I32, I64, V128, ExternRef, FuncRef, WasmEdgeError

u64 = st.integers(0, 2**64 - 1)


def test_v128_has_two_halves() -> None:
    vector = V128(1234, 5678)
    assert (vector.high, vector.low) == (1234, 5678)


def test_v128_bytes_are_little_endian() -> None:
    assert bytes(V128(1, 2)) == b"\x02" + bytes(7) + b"\x01" + bytes(7)
    assert V128.from_bytes(bytearray(range(16))) == V128(0x0F0E0D0C0B0A0908, 0x0706050403020100)


@given(u64, u64)
def test_v128_survives_bytes(high: int, low: int) -> None:
    assert V128.from_bytes(bytes(V128(high, low))) == V128(high, low)


def test_v128_compares_and_hashes_by_value() -> None:
    assert len({V128(1, 2), V128(1, 2), V128(2, 1)}) == 2
    assert V128(0, 1) != 1
    assert eval(repr(V128(1, 2**64 - 1))) == V128(1, 2**64 - 1)
    assert pickle.loads(pickle.dumps(V128(1, 2))) == copy.copy(V128(1, 2)) == V128(1, 2)


def test_v128_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match="exactly 16 bytes, not 15"):
        V128.from_bytes(bytes(15))
    with pytest.raises(OverflowError, match="V128 high is outside"):
        V128(2**64, 0)
    with pytest.raises(OverflowError, match="V128 low is outside"):
        V128(0, -1)
    with pytest.raises(TypeError, match="V128 low must be an int, not float"):
        V128(0, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "bits"), [(I32, 32), (I64, 64)])
def test_a_marked_int_is_an_int_of_its_range(width: type[I32 | I64], bits: int) -> None:
    assert width(-(2 ** (bits - 1))) == -(2 ** (bits - 1))
    assert width(2**bits - 1) + 1 == 2**bits
    assert repr(width(5)) == f"I{bits}(5)"
    for outside in (2**bits, -(2 ** (bits - 1)) - 1):
        with pytest.raises(OverflowError, match=f"outside the range of i{bits}"):
            width(outside)


def test_a_marked_int_refuses_floats_and_text() -> None:
    with pytest.raises(TypeError):
        I32(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        I64("5")  # type: ignore[arg-type]


def test_func_refs_compare_by_index() -> None:
    assert FuncRef(5).index == 5
    assert FuncRef(5).function is None
    assert len({FuncRef(5), FuncRef(5), FuncRef(6)}) == 2
    assert FuncRef(5) != 5


def test_func_refs_of_two_functions_differ_even_at_the_same_index() -> None:
    one: Any = object()  # only the identity of the functions matters
    two: Any = object()
    first = FuncRef(0, one)
    assert first.function is one
    assert first == FuncRef(0, one)
    assert first == FuncRef(0)
    assert first != FuncRef(0, two)


def test_func_ref_refuses_what_is_not_an_index() -> None:
    for index in (-1, 2**32):
        with pytest.raises(ValueError, match="FuncRef index is outside"):
            FuncRef(index)
    with pytest.raises(TypeError, match="FuncRef index must be an int, not str"):
        FuncRef("fib")  # type: ignore[arg-type]


def test_an_extern_ref_gives_its_object_unchanged() -> None:
    thing = [1]
    assert ExternRef(thing).value is thing
    assert ExternRef(None).value is None


def test_a_closed_extern_ref_lets_go_of_its_object_and_refuses_use() -> None:
    class Thing:
        pass

    thing = Thing()
    alive = weakref.ref(thing)
    with ExternRef(thing) as reference:
        del thing
        assert alive() is reference.value
    reference.close()
    assert alive() is None
    with pytest.raises(WasmEdgeError, match="this ExternRef is closed"):
        _ = reference.value


def test_handles_of_extern_refs_are_never_null_and_never_used_again() -> None:
    handles = []
    for _ in range(100):
        with ExternRef(object()) as reference:
            handles.append(reference._handle)
    assert len(set(handles)) == 100
    assert 0 not in handles
