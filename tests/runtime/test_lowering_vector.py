"""Vector instructions as LLVM code: integers against models, floats against the scalar ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from random import Random

import llvmlite.binding as llvm
import pytest

from tests.runtime import floats
from tests.runtime.lowering import Lowering
from wasmedge_runtime.codegen import numeric, vector
from wasmedge_runtime.opcodes import BY_NAME

VARIANTS = [(numeric.MACHINE, 2), (numeric.MACHINE, 0), ("any", 2)]
WIDTHS = {"i8x16": 8, "i16x8": 16, "i32x4": 32, "i64x2": 64, "f32x4": 32, "f64x2": 64}

NAMES = [name for name in vector.OPERATORS | vector.SEQUENCES if BY_NAME[name].immediates == ""]


@functools.cache
def _lowering(machine: str, level: int) -> Lowering:
    scalar = numeric.OPERATORS | numeric.COMPARISONS | numeric.SEQUENCES | numeric.FUNCTIONS
    return Lowering([*NAMES, *(name for name in scalar if not BY_NAME[name].traps)], machine, level)


@pytest.fixture(params=VARIANTS, ids=lambda variant: f"{variant[0]}-O{variant[1]}")
def lowered(request: pytest.FixtureRequest) -> Lowering:
    return _lowering(*request.param)


def _lanes(value: int, width: int) -> list[int]:
    return [value >> shift & ((1 << width) - 1) for shift in range(0, 128, width)]


def _pack(lanes: Iterable[int], width: int) -> int:
    return sum(lane % (1 << width) << width * i for i, lane in enumerate(lanes))


def _signed(lane: int, width: int) -> int:
    return lane - (1 << width) if lane >> (width - 1) else lane


def _vectors(width: int, seed: int = 0) -> list[int]:
    """Vectors of edges and of random lanes."""
    random = Random(width + seed)
    half = 1 << (width - 1)
    edges = [0, 1, half - 1, half, half + 1, 2 * half - 1]
    found = [_pack(random.choices(edges, k=128 // width), width) for _ in range(12)]
    found += [random.getrandbits(128) for _ in range(12)]
    return [*found, 0, (1 << 128) - 1, _pack([half] * (128 // width), width)]


Model = Callable[[int, int, int], int]
"""Of a lane: from the lanes of both operands and their width."""


def _saturated(value: int, width: int, signed: bool) -> int:
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    return min(max(value, low), high)


# Of lanes as signed numbers for names that end in `_s`, else of unsigned ones.
LANE_MODELS: dict[str, Model] = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul": lambda a, b, w: a * b,
    "neg": lambda a, b, w: -a,
    "abs": lambda a, b, w: abs(_signed(a, w)),
    "popcnt": lambda a, b, w: a.bit_count(),
    "eq": lambda a, b, w: -(a == b),
    "ne": lambda a, b, w: -(a != b),
    "avgr_u": lambda a, b, w: (a + b + 1) // 2,
    "q15mulr_sat_s": lambda a, b, w: _saturated((a * b + 0x4000) >> 15, w, True),
    "add_sat_s": lambda a, b, w: _saturated(a + b, w, True),
    "add_sat_u": lambda a, b, w: _saturated(a + b, w, False),
    "sub_sat_s": lambda a, b, w: _saturated(a - b, w, True),
    "sub_sat_u": lambda a, b, w: _saturated(a - b, w, False),
}
for _sign in ("s", "u"):
    LANE_MODELS |= {
        f"min_{_sign}": lambda a, b, w: min(a, b),
        f"max_{_sign}": lambda a, b, w: max(a, b),
        f"lt_{_sign}": lambda a, b, w: -(a < b),
        f"gt_{_sign}": lambda a, b, w: -(a > b),
        f"le_{_sign}": lambda a, b, w: -(a <= b),
        f"ge_{_sign}": lambda a, b, w: -(a >= b),
    }
LANEWISE = [name for name in NAMES if name[0] == "i" and name.partition(".")[2] in LANE_MODELS]


@pytest.mark.parametrize("name", LANEWISE)
def test_integer_lanes(lowered: Lowering, name: str) -> None:
    shape, _, operator = name.partition(".")
    width, model = WIDTHS[shape], LANE_MODELS[operator]
    unary = len(BY_NAME[name].params or ()) == 1

    def values(vector: int) -> list[int]:
        lanes = _lanes(vector, width)
        return [_signed(lane, width) for lane in lanes] if name.endswith("_s") else lanes

    for a in _vectors(width):
        for b in [0] if unary else _vectors(width, 1):
            lanes = zip(values(a), values(b), strict=True)
            expected = _pack([model(x, y, width) for x, y in lanes], width)
            assert lowered(name, *((a,) if unary else (a, b))) == expected, (hex(a), hex(b))


@pytest.mark.parametrize("shape", ["i8x16", "i16x8", "i32x4", "i64x2"])
def test_lanes_are_shifted_modulo_their_width(lowered: Lowering, shape: str) -> None:
    width = WIDTHS[shape]
    for a in _vectors(width):
        for count in (0, 1, width // 2, width - 1, width, width + 3, 0xFFFFFFFF):
            n = count % width
            for operator, shifted in (
                ("shl", [x << n for x in _lanes(a, width)]),
                ("shr_u", [x >> n for x in _lanes(a, width)]),
                ("shr_s", [_signed(x, width) >> n for x in _lanes(a, width)]),
            ):
                assert lowered(f"{shape}.{operator}", a, count) == _pack(shifted, width)


@pytest.mark.parametrize("shape", ["i8x16", "i16x8", "i32x4", "i64x2"])
def test_lanes_are_tested(lowered: Lowering, shape: str) -> None:
    width = WIDTHS[shape]
    ones = _pack([1] * (128 // width), width)
    for a in [*_vectors(width), ones, ones - 1, 1, 1 << 127]:
        lanes = _lanes(a, width)
        assert lowered(f"{shape}.all_true", a) == all(lanes)
        assert lowered("v128.any_true", a) == any(lanes)
        mask = sum((lane >> (width - 1)) << i for i, lane in enumerate(lanes))
        assert lowered(f"{shape}.bitmask", a) == mask


@pytest.mark.parametrize("sign", ["s", "u"])
@pytest.mark.parametrize(
    ("narrow", "wide"), [("i8x16", "i16x8"), ("i16x8", "i32x4"), ("i32x4", "i64x2")]
)
def test_lanes_change_width(lowered: Lowering, narrow: str, wide: str, sign: str) -> None:
    width = WIDTHS[narrow]

    def values(vector: int, lane_width: int) -> list[int]:
        lanes = _lanes(vector, lane_width)
        return [_signed(lane, lane_width) for lane in lanes] if sign == "s" else lanes

    for a, b in zip(_vectors(width), _vectors(width, 1)[::-1], strict=True):
        x, y = values(a, width), values(b, width)
        for part, half in (("low", slice(len(x) // 2)), ("high", slice(len(x) // 2, None))):
            extended = lowered(f"{wide}.extend_{part}_{narrow}_{sign}", a)
            assert extended == _pack(x[half], 2 * width)
            products = [p * q for p, q in zip(x[half], y[half], strict=True)]
            multiplied = lowered(f"{wide}.extmul_{part}_{narrow}_{sign}", a, b)
            assert multiplied == _pack(products, 2 * width)
        if wide != "i64x2":
            sums = [p + q for p, q in zip(x[::2], x[1::2], strict=True)]
            added = lowered(f"{wide}.extadd_pairwise_{narrow}_{sign}", a)
            assert added == _pack(sums, 2 * width)
            both = [_signed(lane, 2 * width) for v in (a, b) for lane in _lanes(v, 2 * width)]
            clamped = _pack([_saturated(lane, width, sign == "s") for lane in both], width)
            assert lowered(f"{narrow}.narrow_{wide}_{sign}", a, b) == clamped


def test_dot_product_wraps_only_at_its_limit(lowered: Lowering) -> None:
    for a in _vectors(16):
        for b in _vectors(16, 1):
            x, y = ([_signed(lane, 16) for lane in _lanes(v, 16)] for v in (a, b))
            products = [p * q for p, q in zip(x, y, strict=True)]
            sums = [p + q for p, q in zip(products[::2], products[1::2], strict=True)]
            assert lowered("i32x4.dot_i16x8_s", a, b) == _pack(sums, 32)


def test_swizzle_gives_zero_for_indices_outside(lowered: Lowering) -> None:
    a = _pack(range(0x81, 0x91), 8)
    for base in range(0, 256, 16):
        indices = range(base, base + 16)
        expected = [0x81 + i if i < 16 else 0 for i in indices]
        assert lowered("i8x16.swizzle", a, _pack(indices, 8)) == _pack(expected, 8)


def test_bitwise_instructions(lowered: Lowering) -> None:
    whole = (1 << 128) - 1
    for a, b in zip(_vectors(8), _vectors(8, 1)[::-1], strict=True):
        assert lowered("v128.not", a) == ~a & whole
        assert lowered("v128.and", a, b) == a & b
        assert lowered("v128.or", a, b) == a | b
        assert lowered("v128.xor", a, b) == a ^ b
        assert lowered("v128.andnot", a, b) == a & ~b
        mask = a ^ b >> 3
        assert lowered("v128.bitselect", a, b, mask) == a & mask | b & ~mask


def _same(found: int, expected: int, width: int) -> bool:
    """Whether two results are equal, or NaNs of the same class."""
    if not floats.is_nan(expected, width):
        return found == expected
    classes = (floats.is_canonical, floats.is_quiet, floats.is_nan)
    return next(of for of in classes if of(expected, width))(found, width)


SCALAR = {
    name: scalar
    for name in NAMES
    if name[0] == "f"
    and (scalar := name.replace("x4", "", 1).replace("x2", "", 1))
    in numeric.OPERATORS | numeric.COMPARISONS | numeric.FUNCTIONS
}


@pytest.mark.parametrize("name", SCALAR)
def test_float_lanes_are_the_scalar_instruction(lowered: Lowering, name: str) -> None:
    width = WIDTHS[name.partition(".")[0]]
    count = 128 // width
    compares = SCALAR[name] in numeric.COMPARISONS
    values = floats.interesting(width)
    operands = len(BY_NAME[name].params or ())
    pairs = [(x, y) for x in values for y in (values if operands == 2 else [0])]
    pairs += pairs[: -len(pairs) % count]
    for start in range(0, len(pairs), count):
        group = pairs[start : start + count]
        vectors = [_pack([pair[i] for pair in group], width) for i in range(operands)]
        for found, pair in zip(_lanes(lowered(name, *vectors), width), group, strict=True):
            expected = lowered(SCALAR[name], *pair[:operands])
            if compares:
                assert found == -expected % (1 << width), (name, pair)
            else:
                assert _same(found, expected, width), (name, pair)


@pytest.mark.parametrize("shape", ["f32x4", "f64x2"])
def test_pseudo_extremes_copy_an_operand(lowered: Lowering, shape: str) -> None:
    width = WIDTHS[shape]
    for x in floats.interesting(width):
        for y in floats.interesting(width):
            a, b = floats.number(x, width), floats.number(y, width)
            assert lowered(f"{shape}.pmin", x, y) == (y if b < a else x)
            assert lowered(f"{shape}.pmax", x, y) == (y if a < b else x)


CONVERSIONS = {
    "i32x4.trunc_sat_f32x4_s": ("i32.trunc_sat_f32_s", 32, 32),
    "i32x4.trunc_sat_f32x4_u": ("i32.trunc_sat_f32_u", 32, 32),
    "i32x4.trunc_sat_f64x2_s_zero": ("i32.trunc_sat_f64_s", 64, 32),
    "i32x4.trunc_sat_f64x2_u_zero": ("i32.trunc_sat_f64_u", 64, 32),
    "f32x4.convert_i32x4_s": ("f32.convert_i32_s", 32, 32),
    "f32x4.convert_i32x4_u": ("f32.convert_i32_u", 32, 32),
    "f64x2.convert_low_i32x4_s": ("f64.convert_i32_s", 32, 64),
    "f64x2.convert_low_i32x4_u": ("f64.convert_i32_u", 32, 64),
    "f32x4.demote_f64x2_zero": ("f32.demote_f64", 64, 32),
    "f64x2.promote_low_f32x4": ("f64.promote_f32", 32, 64),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_of_lanes_are_the_scalar_ones(lowered: Lowering, name: str) -> None:
    scalar, source, target = CONVERSIONS[name]
    values = floats.interesting(source)
    for i in range(len(values)):
        lanes = (values[i:] + values)[: 128 // source]
        found = _lanes(lowered(name, _pack(lanes, source)), target)
        used = 128 // max(source, target)
        for lane, result in zip(lanes[:used], found, strict=False):
            expected = lowered(scalar, lane)
            assert _same(result, expected, target) if name[0] == "f" else result == expected
        assert not any(found[used:])


def test_lane_immediates_and_accesses() -> None:
    lowering = Lowering([])
    lanes, signalling = _pack(range(0xF0, 0x100), 8), floats.nan(32, 1)
    # The instruction and what follows its first operand, the operands' types, operands, result.
    cases: list[tuple[str, list[str], list[int], int]] = [
        ("i8x16.extract_lane_s 1", ["<2 x i64>"], [lanes], 0xFFFFFFF1),
        ("i8x16.extract_lane_u 15", ["<2 x i64>"], [lanes], 0xFF),
        ("i64x2.extract_lane 1", ["<2 x i64>"], [lanes], lanes >> 64),
        ("f32x4.extract_lane 0", ["<2 x i64>"], [signalling], signalling),
        ("i16x8.replace_lane %p1 3", ["<2 x i64>", "i32"], [0, 0x12345], 0x2345 << 48),
        ("i16x8.splat", ["i32"], [0x12345], _pack([0x2345] * 8, 16)),
        ("v128.load8x8_s", ["i64"], [0x80], 0xFF80),
        ("v128.load32x2_u", ["i64"], [2**64 - 1], _pack([2**32 - 1] * 2, 64)),
        ("v128.load8_splat", ["i8"], [7], _pack([7] * 16, 8)),
        ("v128.load32_zero", ["i32"], [2**32 - 1], 2**32 - 1),
        ("v128.load16_lane %p1 7", ["i16", "<2 x i64>"], [9, 5], 9 << 112 | 5),
    ]
    for case, parameters, _, _ in cases:
        name, *rest = case.split()
        lowering.add(case, lowering.apply(name, "%r", "%p0", *rest), parameters, name)
    for case, _, operands, expected in cases:
        assert lowering(case, *operands) == expected, case


def test_shuffle_takes_bytes_of_both_operands() -> None:
    lowering = Lowering([])
    lanes = bytes([31, 0, 16, 15, 1, 17, 8, 8, *range(20, 28)])
    text = vector.shuffle(lanes).format("%p0", "%p1", r="%r", t="%t")
    lowering.add("shuffle", text, ["<2 x i64>"] * 2, "v128.or")
    first, second = _pack(range(16), 8), _pack(range(16, 32), 8)
    assert lowering("shuffle", first, second) == int.from_bytes(lanes, "little")


def test_accesses_have_the_width_in_the_name() -> None:
    assert vector.access("v128.load8x8_s") == "i64"
    assert vector.access("v128.load32x2_u") == "i64"
    assert vector.access("v128.load16_splat") == "i16"
    assert vector.access("v128.store8_lane") == "i8"
    assert vector.access("v128.load32_zero") == "i32"
    assert vector.access("v128.store") == "<2 x i64>"


@pytest.mark.parametrize("cpu", ["generic", "neoverse-v1"])
def test_all_instructions_are_selectable_on_aarch64(cpu: str) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    names = [*NAMES, *numeric.FUNCTIONS, *numeric.SEQUENCES, *numeric.OPERATORS]
    module = llvm.parse_assembly(Lowering(names, "aarch64").text())
    machine = target.create_target_machine(cpu=cpu, reloc="pic", opt=0)
    module.triple = machine.triple
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(0))
    builder.getModulePassManager().run(module, builder)
    assembly = machine.emit_assembly(module)
    assert "tbl" in assembly
    assert "fmin" in assembly
