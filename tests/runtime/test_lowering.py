"""Scalar instructions as LLVM code against models in Python; the spec suite tests them all."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from random import Random

import pytest

from tests.runtime import floats
from tests.runtime.lowering import Lowering, Trapped
from wasmedge_runtime.codegen import numeric, vector
from wasmedge_runtime.opcodes import BY_NAME, INSTRUCTIONS

TABLES = (numeric.OPERATORS, numeric.COMPARISONS, numeric.SEQUENCES, numeric.FUNCTIONS)

# As the machine does it, optimised and not, and as any other machine would.
VARIANTS = [(numeric.MACHINE, 2), (numeric.MACHINE, 0), ("any", 2)]


@functools.cache
def _lowering(machine: str, level: int) -> Lowering:
    return Lowering((name for table in TABLES for name in table), machine, level)


@pytest.fixture(params=VARIANTS, ids=lambda variant: f"{variant[0]}-O{variant[1]}")
def lowered(request: pytest.FixtureRequest) -> Lowering:
    return _lowering(*request.param)


def _signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


def _integers(width: int) -> list[int]:
    random = Random(width)
    edges = [0, 1, 2, 7, width - 1, width, width + 1]
    edges += [edge + step for edge in (1 << (width - 1), 1 << width) for step in (-2, -1, 0)]
    return [edge % (1 << width) for edge in edges] + [random.getrandbits(width) for _ in range(8)]


def test_every_numeric_and_vector_instruction_has_exactly_one_lowering() -> None:
    kinds = {"i32", "i64", "f32", "f64", *vector.SHAPES, "v128"}
    expected = {
        row.name
        for row in INSTRUCTIONS
        if row.name.partition(".")[0] in kinds
        and row.immediates in ("", "lane", "memarg", "memarg_lane")
        and not (row.immediates == "memarg" and row.name[0] in "if")
        and row.name not in ("v128.load", "v128.store")
    }
    lowerings = [name for table in TABLES for name in table]
    lowerings += [*vector.OPERATORS, *vector.SEQUENCES]
    assert len(lowerings) == len(set(lowerings))
    assert set(lowerings) == expected


@pytest.mark.parametrize("width", [32, 64])
def test_divisions_trap_or_truncate(lowered: Lowering, width: int) -> None:
    for operator, signed in itertools.product(("div", "rem"), (True, False)):
        name = f"i{width}.{operator}_{'s' if signed else 'u'}"
        for a, b in itertools.product(_integers(width), repeat=2):
            x, y = (_signed(a, width), _signed(b, width)) if signed else (a, b)
            if y == 0:
                expected: int | None = None
                code = 0x84
            elif operator == "rem":
                expected = int(math.copysign(1, x)) * (abs(x) % abs(y))
            else:
                expected = (1 if x * y >= 0 else -1) * (abs(x) // abs(y))
                if signed and expected == 1 << (width - 1):
                    expected, code = None, 0x85
            if expected is None:
                with pytest.raises(Trapped) as trapped:
                    lowered(name, a, b)
                assert trapped.value.code == code
            else:
                assert lowered(name, a, b) == expected % (1 << width), (name, x, y)


@pytest.mark.parametrize("width", [32, 64])
def test_shifts_take_their_count_modulo_the_width(lowered: Lowering, width: int) -> None:
    whole = (1 << width) - 1
    for a, b in itertools.product(_integers(width), repeat=2):
        count = b % width
        assert lowered(f"i{width}.shl", a, b) == a << count & whole
        assert lowered(f"i{width}.shr_u", a, b) == a >> count
        assert lowered(f"i{width}.shr_s", a, b) == _signed(a, width) >> count & whole
        rotated = (a << count | a >> (width - count)) & whole
        assert lowered(f"i{width}.rotl", a, b) == rotated
        assert lowered(f"i{width}.rotr", rotated, b) == a


@pytest.mark.parametrize("width", [32, 64])
def test_bits_are_counted_in_zero_too(lowered: Lowering, width: int) -> None:
    for a in _integers(width):
        assert lowered(f"i{width}.clz", a) == width - a.bit_length()
        assert lowered(f"i{width}.ctz", a) == ((a & -a).bit_length() - 1 if a else width)
        assert lowered(f"i{width}.popcnt", a) == a.bit_count()


@pytest.mark.parametrize("source", [32, 64])
@pytest.mark.parametrize("target", [32, 64])
@pytest.mark.parametrize("sign", ["s", "u"])
def test_truncations_trap_or_saturate_at_exact_bounds(
    lowered: Lowering, source: int, target: int, sign: str
) -> None:
    low, high = (-(1 << (target - 1)), (1 << (target - 1)) - 1)
    if sign == "u":
        low, high = 0, (1 << target) - 1
    random = Random(source)
    for pattern in floats.interesting(source) + [random.getrandbits(source) for _ in range(50)]:
        x = floats.number(pattern, source)
        whole = math.trunc(x) if math.isfinite(x) else None
        trapping, saturating = f"i{target}.trunc_f{source}_{sign}", f"i{target}.trunc_sat_f{source}"
        if whole is not None and low <= whole <= high:
            expected = whole
            assert lowered(trapping, pattern) == whole % (1 << target), x
        else:
            with pytest.raises(Trapped) as trapped:
                lowered(trapping, pattern)
            assert trapped.value.code == (0x86 if math.isnan(x) else 0x85)
            expected = 0 if math.isnan(x) else low if x < 0 else high
        assert lowered(f"{saturating}_{sign}", pattern) == expected % (1 << target), x


@pytest.mark.parametrize("width", [32, 64])
def test_min_and_max_order_zeros_and_keep_nans_quiet(lowered: Lowering, width: int) -> None:
    for a, b in itertools.product(floats.interesting(width), repeat=2):
        for operator, choose in (("min", min), ("max", max)):
            found = lowered(f"f{width}.{operator}", a, b)
            if floats.is_nan(a, width) or floats.is_nan(b, width):
                given = [x for x in (a, b) if floats.is_nan(x, width)]
                assert floats.is_quiet(found, width)
                if all(floats.is_canonical(x, width) for x in given):
                    assert floats.is_canonical(found, width)
            else:
                order = {x: (floats.number(x, width), -(x >> (width - 1))) for x in (a, b)}
                assert found == choose(a, b, key=order.__getitem__), (operator, a, b)


def _rounded(integer: int, width: int) -> int:
    """The bits of the nearest number of this width, the even one of two."""
    precision = floats.MANTISSA[width] + 1
    excess = max(abs(integer).bit_length() - precision, 0)
    kept, rest = divmod(abs(integer), 1 << excess)
    half = 1 << excess >> 1
    kept += excess > 0 and (rest > half or (rest == half and kept % 2 == 1))
    return floats.bits(math.copysign(math.ldexp(kept, excess), integer), width)


@pytest.mark.parametrize("target", [32, 64])
@pytest.mark.parametrize("source", [32, 64])
def test_integers_are_rounded_once(lowered: Lowering, source: int, target: int) -> None:
    ties = [3 << 24 | 1, 0x8000008000000001, 0x7FFFFFBFFFFFFFFF, 0x8000000000000401, (1 << 54) + 2]
    for a in _integers(source) + [tie % (1 << source) for tie in ties]:
        name = f"f{target}.convert_i{source}"
        assert lowered(f"{name}_u", a) == _rounded(a, target)
        assert lowered(f"{name}_s", a) == _rounded(_signed(a, source), target)


@pytest.mark.parametrize("width", [32, 64])
def test_rounding_to_integers_keeps_signs_and_takes_the_even_of_two(
    lowered: Lowering, width: int
) -> None:
    models: dict[str, Callable[[float], int]] = {
        "ceil": math.ceil,
        "floor": math.floor,
        "trunc": math.trunc,
        "nearest": round,
    }
    for pattern in floats.interesting(width):
        x = floats.number(pattern, width)
        for operator, model in models.items():
            found = lowered(f"f{width}.{operator}", pattern)
            if math.isfinite(x):
                assert found == floats.bits(math.copysign(model(x), x), width), (operator, x)
            elif math.isinf(x):
                assert found == pattern


@pytest.mark.parametrize("width", [32, 64])
def test_sign_instructions_keep_signalling_nans(lowered: Lowering, width: int) -> None:
    sign = 1 << (width - 1)
    for a in floats.interesting(width):
        assert lowered(f"f{width}.abs", a) == a & ~sign
        assert lowered(f"f{width}.neg", a) == a ^ sign
        assert lowered(f"f{width}.copysign", a, sign) == a | sign


ARITHMETIC = [
    name
    for name, row in BY_NAME.items()
    if name[0] == "f"
    and row.results is not None
    and row.params is not None
    and row.params[:1] in ((0x7D,), (0x7C,))
    and row.results[0] in (0x7D, 0x7C)
    and name.partition(".")[2] not in ("abs", "neg", "copysign")
]


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_quiets_signalling_nans(lowered: Lowering, name: str) -> None:
    source, target = (32 if code == 0x7D else 64 for code in _types(name))
    signalling = floats.nan(source, 1)
    others = [floats.bits(1.0, source), signalling] if len(BY_NAME[name].params or ()) == 2 else [0]
    for other in others:
        operands = (signalling, other)[: len(BY_NAME[name].params or ())]
        assert floats.is_quiet(lowered(name, *operands), target)
        assert floats.is_quiet(lowered(name, *reversed(operands)), target)


def _types(name: str) -> tuple[int, int]:
    row = BY_NAME[name]
    return (row.params or ())[0], (row.results or ())[0]


def _identities(lowering: Lowering) -> list[str]:
    """Adds expressions whose value would be the f64 operand if LLVM saw through them."""
    names = []

    def add(*steps: tuple[str, ...]) -> None:
        lines = []
        for i, (name, *operands) in enumerate(steps):
            result = "%r" if i == len(steps) - 1 else f"%s{i}"
            if name == "f64.const":
                value = numeric.opaque_constant("double", floats.bits(float(operands[0]), 64))
                lines.append(f"{result} = {value}")
            else:
                lines.append(lowering.apply(name, result, *operands))
        names.append("; ".join(" ".join(step) for step in steps))
        lowering.add(names[-1], "\n".join(lines), ["double"], steps[-1][0])

    for operator, constant in itertools.product(
        ("add", "sub", "mul", "div"), ("0", "-0.0", "1", "-1")
    ):
        add(("f64.const", constant), (f"f64.{operator}", "%p0", "%s0"))
        add(("f64.const", constant), (f"f64.{operator}", "%s0", "%p0"))
    add(("f64.abs", "%p0"), ("f64.const", "0"), ("f64.add", "%s0", "%s1"))
    add(("f64.const", "0.5"), ("f64.add", "%s0", "%s0"), ("f64.mul", "%p0", "%s1"))
    add(("f64.convert_i32_s", "1"), ("f64.mul", "%p0", "%s0"))
    add(("f64.convert_i64_u", "0"), ("f64.sub", "%p0", "%s0"))
    add(("f64.reinterpret_i64", str(1023 << 52)), ("f64.div", "%p0", "%s0"))
    add(("f64x2.extract_lane", f"<i64 0, i64 {1023 << 52}>", "1"), ("f64.mul", "%p0", "%s0"))
    add(("f64.const", "inf"), ("f64.min", "%p0", "%s0"))
    add(("f64.const", "-inf"), ("f64.max", "%s0", "%p0"))
    add(("f64.min", "%p0", "%p0"))
    for lane in (1023 << 52, 0, 1 << 63, 2047 << 52):
        known = f"<i64 {lane}, i64 {lane}>"
        for operator in ("add", "sub", "mul", "div", "min", "max"):
            splat = ("f64x2.splat", "%p0")
            extract = ("f64x2.extract_lane", "%s1", "0")
            add(splat, (f"f64x2.{operator}", "%s0", known), extract)
            add(splat, (f"f64x2.{operator}", known, "%s0"), extract)
    return names


@pytest.mark.parametrize("machine", [numeric.MACHINE, "any"])
def test_no_identity_lets_a_signalling_nan_through(machine: str) -> None:
    lowering = Lowering([], machine)
    for name in _identities(lowering):
        assert floats.is_quiet(lowering(name, floats.nan(64, 1)), 64), name


def test_there_and_back_quiets_a_signalling_nan() -> None:
    lowering = Lowering([])
    steps = [
        lowering.apply("f64.promote_f32", "%wide", "%p0"),
        lowering.apply("f32.demote_f64", "%r", "%wide"),
    ]
    lowering.add("back", "\n".join(steps), ["float"], "f32.demote_f64")
    assert floats.is_quiet(lowering("back", floats.nan(32, 1)), 32)


def test_a_constant_may_be_literal_unless_arithmetic_with_it_could_be_folded() -> None:
    for width, ir_type in ((32, "float"), (64, "double")):
        for value in (0.0, -0.0, 1.0, -1.0, math.inf, -math.inf):
            assert numeric.is_identity(ir_type, floats.bits(value, width))
        assert numeric.is_identity(ir_type, floats.nan(width, 1))
        for value in (0.5, 2.0, -2.0, 1e-40 if width == 64 else 2.0**-140):
            assert not numeric.is_identity(ir_type, floats.bits(value, width))
