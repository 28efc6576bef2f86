"""Vector instructions on floating-point lanes (WebAssembly 2.0, sections 4.3.3 and 4.4.3).

What `numeric` says of signalling NaNs holds for lanes too. But whether LLVM knows a vector is
not for the translator to see, as integer instructions make constants of constants: so the operands
of arithmetic with an identity (x + 0.0, x * 1.0) pass through a fence here, always.
"""

from __future__ import annotations

from wasmedge_runtime.codegen.numeric import fence
from wasmedge_runtime.codegen.vector_lanes import (
    FLOAT_SHAPES,
    INTEGER_SHAPES,
    Shape,
    lanewise,
    mask,
)

_LOW = mask(range(2))
"""Takes the two low lanes of four."""

_BOTH = mask(range(4))
"""Joins two vectors of two lanes."""


def _arithmetic(name: str, shape: Shape) -> dict[str, str]:
    vector = shape.vector
    found = {}
    for operator in ("add", "sub", "mul", "div"):
        # A dividend has no identity.
        first = "" if operator == "div" else f"%x = {fence(vector, '%a')}"
        body = f"""
            {first}
            %y = {fence(vector, "%b")}
            %value = f{operator} {vector} {"%x" if first else "%a"}, %y"""
        found[f"{name}.{operator}"] = lanewise(2, shape, body)
    found[f"{name}.neg"] = lanewise(1, shape, f"%value = fneg {vector} %a")
    for operator, intrinsic in (
        ("abs", "fabs"),
        ("sqrt", "sqrt"),
        ("ceil", "ceil"),
        ("floor", "floor"),
        ("trunc", "trunc"),
        ("nearest", "roundeven"),
    ):
        found[f"{name}.{operator}"] = lanewise(
            1, shape, f"%value = call {vector} @llvm.{intrinsic}.{shape.suffix}({vector} %a)"
        )
    return found


def _comparisons(name: str, shape: Shape) -> dict[str, str]:
    """All ones in a lane where the comparison holds, else all zeros."""
    target = Shape(f"i{shape.bits}", shape.number)
    found = {}
    for operator in ("eq", "ne", "lt", "gt", "le", "ge"):
        predicate = "une" if operator == "ne" else f"o{operator}"
        body = f"""
            %holds = fcmp {predicate} {shape.vector} %a, %b
            %value = sext <{shape.number} x i1> %holds to {target.vector}"""
        found[f"{name}.{operator}"] = lanewise(2, shape, body, target)
    return found


def _extremes(name: str, shape: Shape, machine: str) -> dict[str, str]:
    """`min`, `max` as on scalars, and `pmin`, `pmax`, which are b < a ? b : a and a < b ? b : a."""
    vector = shape.vector
    bits = f"<{shape.number} x i{shape.bits}>"
    found = {}
    for operator, zeros, intrinsic in (("min", "or", "minimum"), ("max", "and", "maximum")):
        found[f"{name}.p{operator}"] = lanewise(
            2, shape, _pick("value", operator, "%b", "%a", shape, machine)
        )
        if machine == "aarch64":
            body = f"""
                %x = {fence(vector, "%a")}
                %y = {fence(vector, "%b")}
                %z = {fence(vector, "%y")}
                %value = call {vector} @llvm.{intrinsic}.{shape.suffix}({vector} %x, {vector} %z)"""
        else:
            # Of a pair of zeros either order picks the second, so that both orders together have
            # all signs. NaN lanes are replaced by the sum, which is quiet.
            body = f"""
                {_pick("x", operator, "%a", "%b", shape, machine)}
                {_pick("y", operator, "%b", "%a", shape, machine)}
                %x_bits = bitcast {vector} %x to {bits}
                %y_bits = bitcast {vector} %y to {bits}
                %joined = {zeros} {bits} %x_bits, %y_bits
                %ordered = bitcast {bits} %joined to {vector}
                %nan = fcmp uno {vector} %a, %b
                %a_opaque = {fence(vector, "%a")}
                %b_opaque = {fence(vector, "%b")}
                %sum = fadd {vector} %a_opaque, %b_opaque
                %value = select <{shape.number} x i1> %nan, {vector} %sum, {vector} %ordered"""
        found[f"{name}.{operator}"] = lanewise(2, shape, body)
    return found


def _pick(result: str, operator: str, first: str, second: str, shape: Shape, machine: str) -> str:
    """Lines that take `first` where it is less (or greater for max) than `second`, else `second`.

    That is exactly `minps` and its relatives, but between casts LLVM does not recognise them.
    """
    vector = shape.vector
    if machine == "x86_64":
        kind = "sse.{}.ps" if shape.lane == "float" else "sse2.{}.pd"
        intrinsic = f"@llvm.x86.{kind.format(operator)}"
        return f"%{result} = call {vector} {intrinsic}({vector} {first}, {vector} {second})"
    comparison, lanes = ("olt" if operator == "min" else "ogt"), f"<{shape.number} x i1>"
    return f"""%{result}_first = fcmp {comparison} {vector} {first}, {second}
        %{result} = select {lanes} %{result}_first, {vector} {first}, {vector} {second}
    """


def _conversions() -> dict[str, str]:
    """Between the floating-point types and from integers."""
    f32, f64, i32 = FLOAT_SHAPES["f32x4"], FLOAT_SHAPES["f64x2"], INTEGER_SHAPES["i32x4"]
    demote = f"""
        %x = {fence(f64.vector, "%a")}
        %half = fptrunc <2 x double> %x to <2 x float>
        %value = shufflevector <2 x float> %half, <2 x float> zeroinitializer, {_BOTH}"""
    promote = f"""
        %half = shufflevector <4 x float> %a, <4 x float> poison, {_LOW}
        %value = fpext <2 x float> %half to <2 x double>"""
    found = {
        "f32x4.demote_f64x2_zero": lanewise(1, f64, demote, f32),
        "f64x2.promote_low_f32x4": lanewise(1, f32, promote, f64),
    }
    for sign, instruction in (("s", "sitofp"), ("u", "uitofp")):
        all_lanes = f"%value = {instruction} <4 x i32> %a to <4 x float>"
        low_lanes = f"""
            %half = shufflevector <4 x i32> %a, <4 x i32> poison, {_LOW}
            %value = {instruction} <2 x i32> %half to <2 x double>"""
        found[f"f32x4.convert_i32x4_{sign}"] = lanewise(1, i32, all_lanes, f32)
        found[f"f64x2.convert_low_i32x4_{sign}"] = lanewise(1, i32, low_lanes, f64)
    return found


def _truncations(machine: str) -> dict[str, str]:
    """To integers, saturating; NaN gives 0."""
    found = {}
    for sign in ("s", "u"):
        all_lanes = f"""
            %value = call <4 x i32> @llvm.fpto{sign}i.sat.v4i32.v4f32(<4 x float> %a)"""
        low_lanes = f"""
            %half = call <2 x i32> @llvm.fpto{sign}i.sat.v2i32.v2f64(<2 x double> %a)
            %value = shufflevector <2 x i32> %half, <2 x i32> zeroinitializer, {_BOTH}"""
        if machine == "x86_64":
            all_lanes, low_lanes = _X86_TRUNCATIONS[sign]
        for kind, body in (("f32x4_" + sign, all_lanes), (f"f64x2_{sign}_zero", low_lanes)):
            found["i32x4.trunc_sat_" + kind] = lanewise(
                1, FLOAT_SHAPES[kind[:5]], body, INTEGER_SHAPES["i32x4"]
            )
    return found


# LLVM would truncate lane by lane. A comparison that is false for NaN picks 0 for it, or is the
# mask that clears it.
_X86_TRUNCATIONS = {
    "s": (
        # `cvttps2dq` gives -2^31 for what does not fit: right below, all bits wrong above.
        """
        %integers = call <4 x i32> @llvm.x86.sse2.cvttps2dq(<4 x float> %a)
        %large = fcmp oge <4 x float> %a, splat (float 2147483648.0)
        %flips = sext <4 x i1> %large to <4 x i32>
        %saturated = xor <4 x i32> %integers, %flips
        %number = fcmp ord <4 x float> %a, zeroinitializer
        %numbers = sext <4 x i1> %number to <4 x i32>
        %value = and <4 x i32> %saturated, %numbers""",
        # `cvttpd2dq` gives -2^31 for what is too low, and clears the upper half.
        """
        %number = fcmp ord <2 x double> %a, zeroinitializer
        %x = select <2 x i1> %number, <2 x double> %a, <2 x double> zeroinitializer
        %inside = fcmp olt <2 x double> %x, splat (double 2147483647.0)
        %y = select <2 x i1> %inside, <2 x double> %x, <2 x double> splat (double 2147483647.0)
        %value = call <4 x i32> @llvm.x86.sse2.cvttpd2dq(<2 x double> %y)""",
    ),
    "u": (
        # Clamped to the largest float below 2^32, then all ones from 2^32 on.
        """
        %positive = fcmp ogt <4 x float> %a, zeroinitializer
        %x = select <4 x i1> %positive, <4 x float> %a, <4 x float> zeroinitializer
        %inside = fcmp olt <4 x float> %x, splat (float 4294967040.0)
        %y = select <4 x i1> %inside, <4 x float> %x, <4 x float> splat (float 4294967040.0)
        %integers = fptoui <4 x float> %y to <4 x i32>
        %large = fcmp oge <4 x float> %x, splat (float 4294967296.0)
        %ones = sext <4 x i1> %large to <4 x i32>
        %value = or <4 x i32> %integers, %ones""",
        # The integer is the low half of the bits of 2^52 + x.
        f"""
        %positive = fcmp ogt <2 x double> %a, zeroinitializer
        %x = select <2 x i1> %positive, <2 x double> %a, <2 x double> zeroinitializer
        %inside = fcmp olt <2 x double> %x, splat (double 4294967295.0)
        %y = select <2 x i1> %inside, <2 x double> %x, <2 x double> splat (double 4294967295.0)
        %whole = call <2 x double> @llvm.trunc.v2f64(<2 x double> %y)
        %biased = fadd <2 x double> %whole, splat (double 4503599627370496.0)
        %bits = bitcast <2 x double> %biased to <2 x i64>
        %half = trunc <2 x i64> %bits to <2 x i32>
        %value = shufflevector <2 x i32> %half, <2 x i32> zeroinitializer, {_BOTH}""",
    ),
}


def sequences(machine: str) -> dict[str, str]:
    """The instructions of this module for a machine (see `vector.sequences`)."""
    found = _conversions() | _truncations(machine)
    for name, shape in FLOAT_SHAPES.items():
        found |= _arithmetic(name, shape)
        found |= _comparisons(name, shape)
        found |= _extremes(name, shape, machine)
    return found
