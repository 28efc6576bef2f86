"""Values to bits and back, bit by bit (API.md "Values")."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmedge_runtime.convert import from_bits, to_bits
from wasmedge_runtime.types import ValType
from wasmedge_runtime.values import I32, I64, V128

F32_MAX = 0x7F7F_FFFF
F32_INFINITY = 0x7F80_0000
F64_INFINITY = 0x7FF0_0000_0000_0000
QUIET_F32 = 0x7FC0_0000

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
f32_nans = st.builds(
    lambda sign, payload: sign << 31 | F32_INFINITY | payload,
    st.integers(0, 1),
    st.integers(1, 2**23 - 1),
)


def f64_from_bits(bits: int) -> float:
    value: float = struct.unpack("<d", bits.to_bytes(8, "little"))[0]
    return value


def f64_bits(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def exact_f32(bits: int) -> Fraction:
    """The number a finite f32 stands for; the bits of infinity count as the next step, 2**128."""
    exponent, fraction = bits >> 23 & 0xFF, bits & 0x7F_FFFF
    mantissa = fraction if exponent == 0 else fraction | 0x80_0000
    magnitude = mantissa * Fraction(2) ** (max(exponent, 1) - 150)
    return -magnitude if bits >> 31 else magnitude


def assert_nearest_f32(number: Fraction, bits: int) -> None:
    """`bits` is the f32 nearest to `number`, the even one of two equally near."""
    magnitude = bits & 0x7FFF_FFFF
    sign = bits & 0x8000_0000
    distance = abs(exact_f32(bits) - number)
    neighbours = [sign | m for m in (magnitude - 1, magnitude + 1) if 0 <= m <= F32_INFINITY]
    for neighbour in neighbours:
        other = abs(exact_f32(neighbour) - number)
        assert distance < other or (distance == other and bits % 2 == 0)


@given(st.integers(-(2**31), 2**32 - 1))
def test_i32_takes_both_ranges_and_comes_back_signed(number: int) -> None:
    bits = to_bits(number, ValType.I32)
    assert bits == number % 2**32
    assert from_bits(bits, ValType.I32) == (bits if bits < 2**31 else bits - 2**32)


@given(st.integers(-(2**63), 2**64 - 1))
def test_i64_takes_both_ranges_and_comes_back_signed(number: int) -> None:
    bits = to_bits(number, ValType.I64)
    assert bits == number % 2**64
    assert from_bits(bits, ValType.I64) == (bits if bits < 2**63 else bits - 2**64)


@given(u32, u32)
def test_the_upper_half_of_a_32_bit_slot_is_ignored(high: int, low: int) -> None:
    slot = high << 32 | low
    assert from_bits(slot, ValType.I32) == from_bits(low, ValType.I32)
    assert to_bits(from_bits(slot, ValType.F32), ValType.F32) == low


@pytest.mark.parametrize(
    ("valtype", "number", "range_text"),
    [
        (ValType.I32, 2**32, "i32: -2**31 to 2**32 - 1"),
        (ValType.I32, -(2**31) - 1, "i32: -2**31 to 2**32 - 1"),
        (ValType.I64, 2**64, "i64: -2**63 to 2**64 - 1"),
        (ValType.I64, -(2**63) - 1, "i64: -2**63 to 2**64 - 1"),
    ],
)
def test_an_int_outside_the_range_overflows_naming_type_and_range(
    valtype: ValType, number: int, range_text: str
) -> None:
    with pytest.raises(OverflowError) as caught:
        to_bits(number, valtype)
    assert str(caught.value).endswith(range_text)


def test_an_enormous_int_still_gives_the_range_error() -> None:
    # Python refuses to print ints of more than 4300 decimal digits: the message must not try.
    with pytest.raises(OverflowError, match="outside the range of i64"):
        to_bits(1 << 100_000, ValType.I64)


def test_integer_types_take_marked_ints_bools_and_index() -> None:
    class Index:
        def __index__(self) -> int:
            return -2

    assert to_bits(I32(-1), ValType.I64) == 2**64 - 1
    assert to_bits(I64(7), ValType.I32) == 7
    assert to_bits(True, ValType.I32) == 1
    assert to_bits(Index(), ValType.I32) == 2**32 - 2


@pytest.mark.parametrize(
    ("valtype", "value"),
    [
        (ValType.I32, 1.0),
        (ValType.I64, "1"),
        (ValType.I32, None),
        (ValType.F32, "1.5"),
        (ValType.F64, b"1"),
        (ValType.F64, 1j),
        (ValType.F32, None),
        (ValType.V128, 1),
        (ValType.V128, bytes(16)),
        (ValType.I32, V128(0, 1)),
    ],
)
def test_a_wrong_kind_of_value_is_a_type_error_naming_both_types(
    valtype: ValType, value: object
) -> None:
    with pytest.raises(TypeError, match=f"^{valtype} needs .*, not {type(value).__name__}"):
        to_bits(value, valtype)


@given(u64)
def test_every_f64_bit_pattern_survives_both_ways(bits: int) -> None:
    assert to_bits(from_bits(bits, ValType.F64), ValType.F64) == bits


@given(u32)
def test_every_f32_bit_pattern_survives_both_ways(bits: int) -> None:
    assert to_bits(from_bits(bits, ValType.F32), ValType.F32) == bits


@given(f32_nans)
def test_every_f32_nan_survives_both_ways(bits: int) -> None:
    value = from_bits(bits, ValType.F32)
    assert to_bits(value, ValType.F32) == bits
    assert isinstance(value, float)
    # The same sign and leading payload as f64, so the quiet bit (the first of them) too.
    assert f64_bits(value) == (bits >> 31) << 63 | F64_INFINITY | (bits & 0x7F_FFFF) << 29


@given(st.integers(0, 1), st.integers(1, 2**52 - 1))
def test_a_f64_nan_keeps_sign_and_leading_payload_as_f32(sign: int, payload: int) -> None:
    bits = to_bits(f64_from_bits(sign << 63 | F64_INFINITY | payload), ValType.F32)
    leading = payload >> 29
    assert bits == sign << 31 | (F32_INFINITY | leading if leading else QUIET_F32)


@pytest.mark.parametrize("sign", [0, 1])
def test_a_nan_whose_leading_payload_is_zero_becomes_quiet_not_infinite(sign: int) -> None:
    nan = f64_from_bits(sign << 63 | F64_INFINITY | 1)
    assert to_bits(nan, ValType.F32) == sign << 31 | QUIET_F32


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_f32_rounds_a_float_to_nearest(number: float) -> None:
    assert_nearest_f32(Fraction(number), to_bits(number, ValType.F32))


@given(st.integers(-(2**130), 2**130))
def test_f32_rounds_an_int_to_nearest_once(number: int) -> None:
    assert_nearest_f32(Fraction(number), to_bits(number, ValType.F32))


def test_f32_of_an_int_is_not_rounded_twice() -> None:
    # As f64 this is a tie between two f32, and the tie would go down to 2**60.
    number = 2**60 + 2**36 + 1
    assert exact_f32(to_bits(number, ValType.F32)) == 2**60 + 2**37


@pytest.mark.parametrize("number", [1e39, 2.0**128, 1.7e308, 2**128, 2**500])
def test_f32_overflows_to_infinity(number: float) -> None:
    assert to_bits(number, ValType.F32) == F32_INFINITY
    assert to_bits(-number, ValType.F32) == F32_INFINITY | 1 << 31


def test_f32_maximum_is_kept_below_half_a_step_and_overflows_at_it() -> None:
    half_step = 2.0**128 - 2.0**103
    assert to_bits(math.nextafter(half_step, 0.0), ValType.F32) == F32_MAX
    assert to_bits(half_step, ValType.F32) == F32_INFINITY


def test_an_int_beyond_every_float_overflows() -> None:
    for valtype in (ValType.F32, ValType.F64):
        with pytest.raises(OverflowError, match="too large for a float"):
            to_bits(1 << 2000, valtype)


def test_float_types_take_ints_subclasses_and_float_protocol() -> None:
    class Marked(float):
        def __float__(self) -> float:
            raise AssertionError("a float is read by its bits")

    assert to_bits(3, ValType.F64) == f64_bits(3.0)
    assert to_bits(I32(-3), ValType.F64) == f64_bits(-3.0)
    assert to_bits(Fraction(1, 4), ValType.F64) == f64_bits(0.25)
    assert to_bits(Marked(1.5), ValType.F64) == f64_bits(1.5)
    assert to_bits(Marked(1.5), ValType.F32) == 0x3FC0_0000


def test_negative_zero_keeps_its_sign() -> None:
    assert to_bits(-0.0, ValType.F32) == 1 << 31
    assert to_bits(-0.0, ValType.F64) == 1 << 63
    assert math.copysign(1.0, from_bits(1 << 31, ValType.F32)) == -1.0  # type: ignore[arg-type]


@given(u64, u64)
def test_a_vector_is_high_then_low(high: int, low: int) -> None:
    bits = to_bits(V128(high, low), ValType.V128)
    assert bits == high << 64 | low
    assert from_bits(bits, ValType.V128) == V128(high, low)
