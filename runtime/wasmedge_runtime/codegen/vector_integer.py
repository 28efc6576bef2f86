"""Vector instructions on integer lanes (WebAssembly 2.0, sections 4.3.2 and 4.4.3).

The plain IR becomes the best instructions nearly everywhere; where it does not on x86, the
comment says what LLVM makes of it.
"""

from __future__ import annotations

from wasmedge_runtime.codegen.numeric import sequence
from wasmedge_runtime.codegen.vector_lanes import (
    INTEGER_SHAPES,
    V128,
    Shape,
    lanewise,
    mask,
    splat,
)

_NARROW = {"i8x16": "i16x8", "i16x8": "i32x4"}
_WIDE = {"i16x8": "i8x16", "i32x4": "i16x8", "i64x2": "i32x4"}


def _arithmetic(name: str, shape: Shape) -> dict[str, str]:
    """Lane by lane, modulo 2^N or saturating."""
    vector = shape.vector
    intrinsic = f"call {vector} @llvm.{{}}.{shape.suffix}({vector} %a, {vector} %b)"
    binary = {"add": f"add {vector} %a, %b", "sub": f"sub {vector} %a, %b"}
    if name != "i8x16":
        binary["mul"] = f"mul {vector} %a, %b"
    if name != "i64x2":
        for operator in ("min", "max"):
            for sign in ("s", "u"):
                binary[f"{operator}_{sign}"] = intrinsic.format(f"{sign}{operator}")
    if shape.bits <= 16:
        for operator in ("add", "sub"):
            for sign in ("s", "u"):
                binary[f"{operator}_sat_{sign}"] = intrinsic.format(f"{sign}{operator}.sat")
    found = {
        f"{name}.{operator}": lanewise(2, shape, f"%value = {instruction}")
        for operator, instruction in binary.items()
    }
    found[f"{name}.neg"] = lanewise(1, shape, f"%value = sub {vector} zeroinitializer, %a")
    found[f"{name}.abs"] = lanewise(
        1, shape, f"%value = call {vector} @llvm.abs.{shape.suffix}({vector} %a, i1 false)"
    )
    if shape.bits <= 16:
        wide = f"<{shape.number} x i{2 * shape.bits}>"
        found[f"{name}.avgr_u"] = lanewise(
            2,
            shape,
            f"""
            %x = zext {vector} %a to {wide}
            %y = zext {vector} %b to {wide}
            %sum = add {wide} %x, %y
            %rounded = add {wide} %sum, splat (i{2 * shape.bits} 1)
            %half = lshr {wide} %rounded, splat (i{2 * shape.bits} 1)
            %value = trunc {wide} %half to {vector}
        """,
        )
    return found


def _comparisons(name: str, shape: Shape) -> dict[str, str]:
    """All ones in a lane where the comparison holds, else all zeros."""
    signs = ("s",) if name == "i64x2" else ("s", "u")
    predicates = {"eq": "eq", "ne": "ne"} | {
        f"{operator}_{sign}": f"{sign}{operator}"
        for operator in ("lt", "gt", "le", "ge")
        for sign in signs
    }
    return {
        f"{name}.{operator}": lanewise(
            2,
            shape,
            f"""
            %holds = icmp {predicate} {shape.vector} %a, %b
            %value = sext <{shape.number} x i1> %holds to {shape.vector}
        """,
        )
        for operator, predicate in predicates.items()
    }


def _tests(name: str, shape: Shape) -> dict[str, str]:
    """`all_true` and `bitmask`."""
    bools = f"<{shape.number} x i1>"
    cast = f"%lanes = bitcast {V128} {{0}} to {shape.vector}"
    return {
        f"{name}.all_true": f"""
            {cast}
            %true = icmp ne {shape.vector} %lanes, zeroinitializer
            %all = call i1 @llvm.vector.reduce.and.v{shape.number}i1({bools} %true)
            %result = zext i1 %all to i32""",
        f"{name}.bitmask": f"""
            {cast}
            %negative = icmp slt {shape.vector} %lanes, zeroinitializer
            %bits = bitcast {bools} %negative to i{shape.number}
            %result = zext i{shape.number} %bits to i32""",
    }


def _shifts(name: str, shape: Shape, machine: str) -> dict[str, str]:
    """Shifts of all lanes by one count, taken modulo the lane's width."""
    if name == "i8x16" and machine == "x86_64":
        return _x86_byte_shifts(shape)
    count = f"%count = and i32 {{1}}, {shape.bits - 1}"
    if shape.lane == "i32":
        cast = ""
    else:
        cast = f"%lane = {'zext' if shape.bits == 64 else 'trunc'} i32 %count to {shape.lane}"
    scalar = "%lane" if cast else "%count"
    return {
        f"{name}.{operator}": f"""
            %a = bitcast {V128} {{0}} to {shape.vector}
            {count}
            {cast}
            {splat(shape, scalar, "counts")}
            %value = {instruction} {shape.vector} %a, %counts
            %result = bitcast {shape.vector} %value to {V128}"""
        for operator, instruction in (("shl", "shl"), ("shr_s", "ashr"), ("shr_u", "lshr"))
    }


def _x86_byte_shifts(shape: Shape) -> dict[str, str]:
    """Shifts of bytes from shifts of 16-bit lanes and a mask for what crosses over.

    x86 has none for bytes, and with AVX-512 LLVM would go through twice as wide a vector.
    """
    found = {}
    for operator, instruction in (("shl", "shl"), ("shr_u", "lshr"), ("shr_s", "lshr")):
        sign = ""
        if operator == "shr_s":
            # (x ^ s) - s extends the sign from bit s, where the logical shift has left it.
            sign = f"""
                %sign = lshr i32 128, %count
                %sign8 = trunc i32 %sign to i8
                {splat(shape, "%sign8", "signs")}
                %flipped = xor <16 x i8> %kept, %signs
                %extended = sub <16 x i8> %flipped, %signs"""
        found[f"i8x16.{operator}"] = f"""
            %a = bitcast {V128} {{0}} to <8 x i16>
            %count = and i32 {{1}}, 7
            %count16 = trunc i32 %count to i16
            {splat(INTEGER_SHAPES["i16x8"], "%count16", "counts")}
            %moved = {instruction} <8 x i16> %a, %counts
            %bytes = bitcast <8 x i16> %moved to <16 x i8>
            %mask = {instruction} i32 255, %count
            %mask8 = trunc i32 %mask to i8
            {splat(shape, "%mask8", "masks")}
            %kept = and <16 x i8> %bytes, %masks
            {sign}
            %result = bitcast <16 x i8> {"%extended" if sign else "%kept"} to {V128}"""
    return found


def _halves(name: str, shape: Shape) -> dict[str, str]:
    """`extend` and `extmul`: the low or the high half of the lanes, twice as wide."""
    source = INTEGER_SHAPES[_WIDE[name]]
    half = f"<{shape.number} x {source.lane}>"
    found = {}
    for part, first in (("low", 0), ("high", shape.number)):
        take = mask(range(first, first + shape.number))
        for sign, extend in (("s", "sext"), ("u", "zext")):
            widen = "\n".join(
                f"%{wide} = shufflevector {source.vector} %{operand}, {source.vector} poison, "
                f"{take}\n%{wide}.wide = {extend} {half} %{wide} to {shape.vector}"
                for wide, operand in (("x", "a"), ("y", "b"))
            )
            found[f"{name}.extmul_{part}_{_WIDE[name]}_{sign}"] = lanewise(
                2, source, f"{widen}\n%value = mul {shape.vector} %x.wide, %y.wide", shape
            )
            found[f"{name}.extend_{part}_{_WIDE[name]}_{sign}"] = lanewise(
                1,
                source,
                f"""
                %half = shufflevector {source.vector} %a, {source.vector} poison, {take}
                %value = {extend} {half} %half to {shape.vector}
                """,
                shape,
            )
    return found


def _pairwise(name: str, shape: Shape, machine: str) -> dict[str, str]:
    """`extadd_pairwise`: sums of neighbours."""
    source = INTEGER_SHAPES[_WIDE[name]]
    twice = f"<{source.number} x {shape.lane}>"
    found = {}
    for sign, extend in (("s", "sext"), ("u", "zext")):
        body = f"""
            %wide = {extend} {source.vector} %a to {twice}
            %even = shufflevector {twice} %wide, {twice} poison, {mask(range(0, source.number, 2))}
            %odd = shufflevector {twice} %wide, {twice} poison, {mask(range(1, source.number, 2))}
            %value = add {shape.vector} %even, %odd"""
        # On x86 products with ones, added in pairs, are a single instruction. Its bytes are
        # unsigned in the first operand and signed in the second; the sums do not saturate.
        if machine == "x86_64" and name == "i16x8":
            ones = "<16 x i8> splat (i8 1)"
            operands = f"{ones}, <16 x i8> %a" if sign == "s" else f"<16 x i8> %a, {ones}"
            body = f"%value = call <8 x i16> @llvm.x86.ssse3.pmadd.ub.sw.128({operands})"
        elif machine == "x86_64" and sign == "s":
            body = """
            %value = call <4 x i32> @llvm.x86.sse2.pmadd.wd(<8 x i16> %a, <8 x i16> splat (i16 1))
            """
        elif machine == "x86_64":
            body = """
            %pairs = bitcast <8 x i16> %a to <4 x i32>
            %even = and <4 x i32> %pairs, splat (i32 65535)
            %odd = lshr <4 x i32> %pairs, splat (i32 16)
            %value = add <4 x i32> %even, %odd"""
        found[f"{name}.extadd_pairwise_{_WIDE[name]}_{sign}"] = lanewise(1, source, body, shape)
    return found


def _narrowing(name: str, machine: str) -> dict[str, str]:
    """`narrow`: two vectors of signed lanes into one of half the width, saturating."""
    source, target = INTEGER_SHAPES[_NARROW[name]], INTEGER_SHAPES[name]
    both = Shape(source.lane, target.number)
    found = {}
    for sign, low, high in (
        ("s", -(1 << (target.bits - 1)), (1 << (target.bits - 1)) - 1),
        ("u", 0, (1 << target.bits) - 1),
    ):
        if machine == "x86_64":
            # With AVX-512 LLVM would join the two into a wider vector.
            intrinsic = {
                ("i8x16", "s"): "sse2.packsswb.128",
                ("i8x16", "u"): "sse2.packuswb.128",
                ("i16x8", "s"): "sse2.packssdw.128",
                ("i16x8", "u"): "sse41.packusdw",
            }[name, sign]
            body = f"""
            %value = call {target.vector} @llvm.x86.{intrinsic}(
                {source.vector} %a, {source.vector} %b)"""
        else:
            body = f"""
            %both = shufflevector {source.vector} %a, {source.vector} %b, {mask(range(both.number))}
            %above = call {both.vector} @llvm.smax.{both.suffix}(
                {both.vector} %both, {both.vector} splat ({both.lane} {low}))
            %inside = call {both.vector} @llvm.smin.{both.suffix}(
                {both.vector} %above, {both.vector} splat ({both.lane} {high}))
            %value = trunc {both.vector} %inside to {target.vector}"""
        found[f"{name}.narrow_{_NARROW[name]}_{sign}"] = lanewise(2, source, body, target)
    return found


def _products(machine: str) -> dict[str, str]:
    """The two instructions that multiply 16-bit lanes in a way of their own."""
    source, target = INTEGER_SHAPES["i16x8"], INTEGER_SHAPES["i32x4"]
    dot = f"""
        %x = sext <8 x i16> %a to <8 x i32>
        %y = sext <8 x i16> %b to <8 x i32>
        %products = mul <8 x i32> %x, %y
        %even = shufflevector <8 x i32> %products, <8 x i32> poison, {mask(range(0, 8, 2))}
        %odd = shufflevector <8 x i32> %products, <8 x i32> poison, {mask(range(1, 8, 2))}
        %value = add <4 x i32> %even, %odd"""
    # (a * b + 2^14) >> 15 fits but for the square of -2^15.
    if machine == "x86_64":
        fixed_point = """
            %product = call <8 x i16> @llvm.x86.ssse3.pmul.hr.sw.128(<8 x i16> %a, <8 x i16> %b)
            %overflow = icmp eq <8 x i16> %product, splat (i16 -32768)
            %flips = sext <8 x i1> %overflow to <8 x i16>
            %value = xor <8 x i16> %product, %flips"""
    else:
        fixed_point = """
            %x = sext <8 x i16> %a to <8 x i32>
            %y = sext <8 x i16> %b to <8 x i32>
            %product = mul <8 x i32> %x, %y
            %rounded = add <8 x i32> %product, splat (i32 16384)
            %scaled = ashr <8 x i32> %rounded, splat (i32 15)
            %inside = call <8 x i32> @llvm.smin.v8i32(
                <8 x i32> %scaled, <8 x i32> splat (i32 32767))
            %value = trunc <8 x i32> %inside to <8 x i16>"""
    return {
        "i32x4.dot_i16x8_s": lanewise(2, source, dot, target),
        "i16x8.q15mulr_sat_s": lanewise(2, source, fixed_point),
    }


def sequences(machine: str) -> dict[str, str]:
    """The instructions of this module for a machine (see `vector.sequences`)."""
    found = _products(machine)
    for name, shape in INTEGER_SHAPES.items():
        found |= _arithmetic(name, shape)
        found |= _comparisons(name, shape)
        for operator, lines in (_tests(name, shape) | _shifts(name, shape, machine)).items():
            found[operator] = sequence(lines)
        if name in _WIDE:
            found |= _halves(name, shape)
        if name in ("i16x8", "i32x4"):
            found |= _pairwise(name, shape, machine)
        if name in _NARROW:
            found |= _narrowing(name, machine)
    bytes_ = INTEGER_SHAPES["i8x16"]
    found["i8x16.popcnt"] = lanewise(
        1, bytes_, "%value = call <16 x i8> @llvm.ctpop.v16i8(<16 x i8> %a)"
    )
    return found
