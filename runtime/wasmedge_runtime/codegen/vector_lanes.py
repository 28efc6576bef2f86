"""Vectors as lanes: shapes, access to lanes, and what only moves bits (sections 4.3.4 and 4.4.3).

A `v128` is `<2 x i64>` between instructions; each instruction casts it to lanes and back, which
costs nothing in machine code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from wasmedge_runtime.codegen.numeric import fence, sequence

V128 = "<2 x i64>"


class Shape(NamedTuple):
    """A way to see a vector (or a half, or two) as lanes."""

    lane: str
    """LLVM's type of a lane."""
    number: int

    @property
    def vector(self) -> str:
        """LLVM's type of the whole."""
        return f"<{self.number} x {self.lane}>"

    @property
    def suffix(self) -> str:
        """The type as part of an intrinsic's name."""
        return f"v{self.number}{self.scalar}"

    @property
    def scalar(self) -> str:
        """A lane's type as part of an intrinsic's name, f32 for `float`."""
        return {"float": "f32", "double": "f64"}.get(self.lane, self.lane)

    @property
    def bits(self) -> int:
        """Width of a lane."""
        return int(self.scalar[1:])


INTEGER_SHAPES = {
    "i8x16": Shape("i8", 16),
    "i16x8": Shape("i16", 8),
    "i32x4": Shape("i32", 4),
    "i64x2": Shape("i64", 2),
}
FLOAT_SHAPES = {"f32x4": Shape("float", 4), "f64x2": Shape("double", 2)}
SHAPES = INTEGER_SHAPES | FLOAT_SHAPES


def lanewise(operands: int, source: Shape, body: str, target: Shape | None = None) -> str:
    """A sequence of one to three vector operands, `%a`, `%b` and `%c`, with lanes of `source`.

    The body computes `%value` with lanes of `target`, those of `source` if not given.
    """
    casts = "\n".join(
        f"%{name} = bitcast {V128} {{{index}}} to {source.vector}"
        for index, name in enumerate("abc"[:operands])
    )
    result = f"%result = bitcast {(target or source).vector} %value to {V128}"
    return sequence(f"{casts}\n{body.strip()}\n{result}")


def splat(shape: Shape, scalar: str, name: str) -> str:
    """Two lines that define `%name` as the vector with `scalar` in every lane."""
    vector = shape.vector
    zeros = f"<{shape.number} x i32> zeroinitializer"
    return f"""
        %{name}.lane = insertelement {vector} poison, {shape.lane} {scalar}, i32 0
        %{name} = shufflevector {vector} %{name}.lane, {vector} poison, {zeros}"""


def mask(lanes: Iterable[int]) -> str:
    """The constant operand of a `shufflevector`."""
    indices = [f"i32 {lane}" for lane in lanes]
    return f"<{len(indices)} x i32> <{', '.join(indices)}>"


def shuffle(lanes: bytes) -> str:
    """The sequence of `i8x16.shuffle` with this immediate: 16 lane indices below 32."""
    return lanewise(
        2, SHAPES["i8x16"], f"%value = shufflevector <16 x i8> %a, <16 x i8> %b, {mask(lanes)}"
    )


OPERATORS = {
    "v128.not": f"xor {V128} {{0}}, splat (i64 -1)",
    "v128.and": f"and {V128} {{0}}, {{1}}",
    "v128.or": f"or {V128} {{0}}, {{1}}",
    "v128.xor": f"xor {V128} {{0}}, {{1}}",
}


def _bitwise() -> dict[str, str]:
    return {
        "v128.andnot": f"""
            %flipped = xor {V128} {{1}}, splat (i64 -1)
            %result = and {V128} {{0}}, %flipped""",
        "v128.bitselect": f"""
            %first = and {V128} {{0}}, {{2}}
            %flipped = xor {V128} {{2}}, splat (i64 -1)
            %second = and {V128} {{1}}, %flipped
            %result = or {V128} %first, %second""",
        "v128.any_true": f"""
            %bits = bitcast {V128} {{0}} to i128
            %any = icmp ne i128 %bits, 0
            %result = zext i1 %any to i32""",
    }


def _lane_access() -> dict[str, str]:
    """`splat`, `extract_lane` and `replace_lane`; the lane's index comes after the values."""
    found = {}
    for name, shape in SHAPES.items():
        vector, lane = shape.vector, shape.lane
        narrow = lane in ("i8", "i16")
        scalar = "%scalar" if narrow else "{0}"
        found[f"{name}.splat"] = f"""
            {f"%scalar = trunc i32 {{0}} to {lane}" if narrow else ""}
            {splat(shape, scalar, "vector")}
            %result = bitcast {vector} %vector to {V128}"""
        scalar = "%scalar" if narrow else "{1}"
        found[f"{name}.replace_lane"] = f"""
            {f"%scalar = trunc i32 {{1}} to {lane}" if narrow else ""}
            %lanes = bitcast {V128} {{0}} to {vector}
            %vector = insertelement {vector} %lanes, {lane} {scalar}, i32 {{2}}
            %result = bitcast {vector} %vector to {V128}"""
        cast = f"%lanes = bitcast {V128} {{0}} to {vector}"
        extract = f"extractelement {vector} %lanes, i32 {{1}}"
        if narrow:
            for sign, extend in (("s", "sext"), ("u", "zext")):
                found[f"{name}.extract_lane_{sign}"] = f"""
                    {cast}
                    %lane = {extract}
                    %result = {extend} {lane} %lane to i32"""
        elif name in INTEGER_SHAPES:
            found[f"{name}.extract_lane"] = f"{cast}\n%result = {extract}"
        else:
            # A lane of a vector that LLVM knows must not become a float that it knows.
            found[f"{name}.extract_lane"] = f"""
                {cast}
                %lane = {extract}
                %result = {fence(lane, "%lane")}"""
    return found


def _swizzle(machine: str) -> str:
    """Lanes of the first operand by the indices in the second; an index above 15 gives 0."""
    shape = SHAPES["i8x16"]
    if machine == "x86_64":
        # `pshufb` gives 0 when an index has its top bit set.
        return lanewise(
            2,
            shape,
            """
            %indices = call <16 x i8> @llvm.uadd.sat.v16i8(<16 x i8> %b, <16 x i8> splat (i8 112))
            %value = call <16 x i8> @llvm.x86.ssse3.pshuf.b.128(<16 x i8> %a, <16 x i8> %indices)
        """,
        )
    if machine == "aarch64":
        return lanewise(
            2,
            shape,
            """
            %value = call <16 x i8> @llvm.aarch64.neon.tbl1.v16i8(<16 x i8> %a, <16 x i8> %b)
        """,
        )
    lines = ["%low = and <16 x i8> %b, splat (i8 15)"]
    chosen = "poison"
    for lane in range(16):
        lines += [
            f"%index{lane} = extractelement <16 x i8> %low, i32 {lane}",
            f"%lane{lane} = extractelement <16 x i8> %a, i8 %index{lane}",
            f"%chosen{lane} = insertelement <16 x i8> {chosen}, i8 %lane{lane}, i32 {lane}",
        ]
        chosen = f"%chosen{lane}"
    lines += [
        "%inside = icmp ult <16 x i8> %b, splat (i8 16)",
        f"%value = select <16 x i1> %inside, <16 x i8> {chosen}, <16 x i8> zeroinitializer",
    ]
    return lanewise(2, shape, "\n".join(lines))


def _memory() -> dict[str, str]:
    """What loads and stores do besides their access, whose type is in `ACCESSES`.

    A load's `{0}` is what was loaded. A load of a lane takes the vector as `{1}` and the lane's
    index as `{2}`; a store of a lane takes the vector and the index, and gives what to store.
    """
    found = {}
    for bits in (8, 16, 32, 64):
        shape = next(shape for shape in INTEGER_SHAPES.values() if shape.bits == bits)
        vector = shape.vector
        found[f"v128.load{bits}_splat"] = f"""
            {splat(shape, "{0}", "vector")}
            %result = bitcast {vector} %vector to {V128}"""
        found[f"v128.load{bits}_lane"] = f"""
            %lanes = bitcast {V128} {{1}} to {vector}
            %vector = insertelement {vector} %lanes, i{bits} {{0}}, i32 {{2}}
            %result = bitcast {vector} %vector to {V128}"""
        found[f"v128.store{bits}_lane"] = f"""
            %lanes = bitcast {V128} {{0}} to {vector}
            %result = extractelement {vector} %lanes, i32 {{1}}"""
        if bits >= 32:
            found[f"v128.load{bits}_zero"] = f"""
                %vector = insertelement {vector} zeroinitializer, i{bits} {{0}}, i32 0
                %result = bitcast {vector} %vector to {V128}"""
    for bits, count in ((8, 8), (16, 4), (32, 2)):
        for sign, extend in (("s", "sext"), ("u", "zext")):
            found[f"v128.load{bits}x{count}_{sign}"] = f"""
                %lanes = bitcast i64 {{0}} to <{count} x i{bits}>
                %vector = {extend} <{count} x i{bits}> %lanes to <{count} x i{2 * bits}>
                %result = bitcast <{count} x i{2 * bits}> %vector to {V128}"""
    return found


def access(name: str) -> str:
    """The type in memory that a vector instruction loads or stores, such as i64, i8 or a v128."""
    width = re.match(r"v128\.(?:load|store)(\d*)(x?)", name)
    if width is None:
        raise KeyError(name)
    if not width[1]:
        return V128
    return "i64" if width[2] else f"i{width[1]}"


def sequences(machine: str) -> dict[str, str]:
    """The instructions of this module for a machine (see `vector.sequences`)."""
    found = _bitwise() | _lane_access() | _memory()
    return {name: sequence(lines) for name, lines in found.items()} | {
        "i8x16.swizzle": _swizzle(machine)
    }
