"""Values arrive in the other process bit for bit, or are refused before they leave."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmedge_pool.messages import MAX_ARRAY, Result
from wasmedge_pool.protocol import Decoder, encode
from wasmedge_pool.values import from_wire, microseconds, to_wire
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.values import I32, V128, FuncRef


def _through(*values: object) -> list[object]:
    frame = encode(Result(1, 0, 0, to_wire(values)))
    [message] = Decoder(from_worker=True).feed(frame)
    assert isinstance(message, Result)
    return from_wire(message.values)


@given(st.integers(0, 2**64 - 1))
def test_every_bit_of_a_float_travels(bits: int) -> None:
    """Signalling NaNs and payloads included."""
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    [arrived] = _through(value)
    assert struct.unpack("<Q", struct.pack("<d", arrived))[0] == bits


@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0xFFF4000000000123, 0x7FF8000000000000])
def test_nan_payloads_travel(bits: int) -> None:
    [arrived] = _through(struct.unpack("<d", struct.pack("<Q", bits))[0])
    assert struct.unpack("<Q", struct.pack("<d", arrived))[0] == bits


@pytest.mark.parametrize("value", [0, -1, -(2**63), 2**63, 2**64 - 1, -0.0, math.inf, None])
def test_numbers_travel_as_they_are(value: object) -> None:
    [arrived] = _through(value)
    assert arrived == value
    assert type(arrived) is type(value)


def test_vectors_travel() -> None:
    vector = V128(0x0123456789ABCDEF, 0xFEDCBA9876543210)
    assert _through(1, vector, 2.0) == [1, vector, 2.0]


class _Index:
    def __index__(self) -> int:
        return 5


class _Float(float):
    pass


def test_what_stands_for_a_number_travels_as_one() -> None:
    assert _through(I32(7), True, _Index(), _Float(1.5)) == [7, 1, 5, 1.5]


@pytest.mark.parametrize("value", ["text", b"sixteen bytes...", [], object(), 1j, FuncRef(0)])
def test_other_values_are_left_to_whoever_knows_references(value: object) -> None:
    with pytest.raises(TypeError, match="not a number, a V128 or None"):
        to_wire([value])
    assert to_wire([1, value], lambda other: (0, 17) if other is value else None) == (1, (0, 17))


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**1000])
def test_integers_that_fit_nothing_are_refused(value: int) -> None:
    with pytest.raises(OverflowError, match="outside the range of i64"):
        to_wire([value])


def test_more_arguments_than_an_array_may_have_are_a_wrong_count() -> None:
    with pytest.raises(WasmEdgeError) as caught:
        to_wire([0] * (MAX_ARRAY + 1))
    assert caught.value.code is ErrCode.FuncSigMismatch


@pytest.mark.parametrize(
    ("seconds", "wire"),
    [(None, None), (math.inf, None), (1e10, None), (0, 0), (1.5, 1_500_000), (1, 1_000_000)],
)
def test_timeouts_travel_in_microseconds(seconds: float | None, wire: int | None) -> None:
    assert microseconds(seconds) == wire


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, -math.inf])
def test_a_timeout_must_not_be_negative(seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        microseconds(seconds)
