"""Scalar numeric instructions as LLVM IR (WebAssembly 2.0, sections 4.3.2, 4.3.3 and 4.4.1).

Every instruction except the constants is in exactly one of four tables:

- `OPERATORS`: one IR instruction whose value is the result; `{0}`, `{1}` are the operands.
- `COMPARISONS`: one IR instruction that gives an `i1`.
- `SEQUENCES`: a few lines without branches; `{r}` is the result's name and `{t}` a prefix, fresh
  at each use, for names in between. Calling a function would say the same, but its inlining costs
  an unoptimised compilation 5 microseconds a call, as much as all the rest.
- `FUNCTIONS`: the text of an LLVM function with the instruction's name, for what branches. It
  takes `ptr %ctx` first when it can trap (see `traps`).

Arithmetic must turn signalling NaNs into quiet ones (section 4.3.3), but LLVM takes `x * 1.0`,
`x - 0.0`, `fptrunc (fpext x)` and the like for `x` itself. Where it could see such a thing, a
value passes through `llvm.arithmetic.fence`, which LLVM does not look through and which becomes no
machine instruction. Constants are the translator's: see `opaque_constant`.
"""

from __future__ import annotations

import platform
import re
from textwrap import dedent

DIVIDE_BY_ZERO = 0x84
INTEGER_OVERFLOW = 0x85
INVALID_CONVERSION = 0x86

IR_TYPES = {"i32": "i32", "i64": "i64", "f32": "float", "f64": "double", "v128": "<2 x i64>"}

MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
"""What the code is for; `functions` and `vector.sequences` prefer instructions of some."""

OPERATORS: dict[str, str] = {}
COMPARISONS: dict[str, str] = {}
SEQUENCES: dict[str, str] = {}


def sequence(lines: str) -> str:
    """A template of `SEQUENCES` from readable IR.

    `%result` is the result, other `%names` are names in between, `{0}`, `{1}`... the operands and
    then the immediates.
    """
    stripped = "\n".join(line.strip() for line in lines.strip().splitlines())
    return re.sub(
        r"%(\w+)",
        lambda name: "{r}" if name[1] == "result" else "{t}." + name[1],
        stripped,
    )


def fence(ir_type: str, operand: str) -> str:
    """The instruction whose value is `operand`, which LLVM's simplifications cannot see."""
    scalar = {"float": "f32", "double": "f64"}
    suffix = scalar.get(ir_type) or {"<4 x float>": "v4f32", "<2 x double>": "v2f64"}[ir_type]
    return f"call {ir_type} @llvm.arithmetic.fence.{suffix}({ir_type} {operand})"


def float_literal(ir_type: str, bits: int) -> str:
    """The `float` or `double` constant with exactly these bits, signalling NaNs included."""
    return f"bitcast ({'i32' if ir_type == 'float' else 'i64'} {bits} to {ir_type})"


def opaque_constant(ir_type: str, bits: int) -> str:
    """An instruction whose value is a `float` or `double` constant that LLVM does not know.

    Every constant has to be one, initial values of locals included, so that no operand of
    arithmetic is a constant in LLVM's eyes, whatever way it took. One exception lets it become
    part of a machine instruction, and x / 2.0 become x * 0.5: as the last operand of add, sub,
    mul, div, lt, gt, le and ge a constant may be literal, if the other operand is not and it is
    not one of `is_identity`. (Behind x == 2.0 LLVM would put 2.0 for x: not for eq and ne.)
    """
    return fence(ir_type, float_literal(ir_type, bits))


def is_identity(ir_type: str, bits: int) -> bool:
    """Whether LLVM may fold arithmetic with the constant: ones and zeros, infinities and NaNs."""
    one, infinity = (0x3F800000, 0x7F800000) if ir_type == "float" else (1023 << 52, 2047 << 52)
    magnitude = bits & (0x7FFFFFFF if ir_type == "float" else (1 << 63) - 1)
    return magnitude in (0, one) or magnitude >= infinity


def _integers(name: str, bits: int) -> None:
    """The instructions of one integer type."""
    for operator in ("add", "sub", "mul", "and", "or", "xor"):
        OPERATORS[f"{name}.{operator}"] = f"{operator} {name} {{0}}, {{1}}"
    for operator, intrinsic in (("rotl", "fshl"), ("rotr", "fshr")):
        OPERATORS[f"{name}.{operator}"] = (
            f"call {name} @llvm.{intrinsic}.{name}({name} {{0}}, {name} {{0}}, {name} {{1}})"
        )
    for operator, intrinsic in (("clz", "ctlz"), ("ctz", "cttz")):
        OPERATORS[f"{name}.{operator}"] = (
            f"call {name} @llvm.{intrinsic}.{name}({name} {{0}}, i1 false)"
        )
    OPERATORS[f"{name}.popcnt"] = f"call {name} @llvm.ctpop.{name}({name} {{0}})"

    # LLVM's shifts are undefined from the width on; wasm takes the count modulo the width.
    for operator, instruction in (("shl", "shl"), ("shr_s", "ashr"), ("shr_u", "lshr")):
        SEQUENCES[f"{name}.{operator}"] = sequence(f"""
            %count = and {name} {{1}}, {bits - 1}
            %result = {instruction} {name} {{0}}, %count
        """)
    for narrow in (8, 16, 32):
        if narrow < bits:
            SEQUENCES[f"{name}.extend{narrow}_s"] = sequence(f"""
                %low = trunc {name} {{0}} to i{narrow}
                %result = sext i{narrow} %low to {name}
            """)

    COMPARISONS[f"{name}.eqz"] = f"icmp eq {name} {{0}}, 0"
    for operator in ("eq", "ne"):
        COMPARISONS[f"{name}.{operator}"] = f"icmp {operator} {name} {{0}}, {{1}}"
    for operator in ("lt", "gt", "le", "ge"):
        for sign in ("s", "u"):
            COMPARISONS[f"{name}.{operator}_{sign}"] = f"icmp {sign}{operator} {name} {{0}}, {{1}}"


def _floats(name: str, ir_type: str) -> None:
    """The instructions of one floating-point type that need no branch."""
    for operator in ("add", "sub", "mul", "div"):
        OPERATORS[f"{name}.{operator}"] = f"f{operator} {ir_type} {{0}}, {{1}}"
    OPERATORS[f"{name}.neg"] = f"fneg {ir_type} {{0}}"
    for operator, intrinsic in (
        ("abs", "fabs"),
        ("sqrt", "sqrt"),
        ("ceil", "ceil"),
        ("floor", "floor"),
        ("trunc", "trunc"),
        ("nearest", "roundeven"),
    ):
        OPERATORS[f"{name}.{operator}"] = (
            f"call {ir_type} @llvm.{intrinsic}.{name}({ir_type} {{0}})"
        )
    OPERATORS[f"{name}.copysign"] = (
        f"call {ir_type} @llvm.copysign.{name}({ir_type} {{0}}, {ir_type} {{1}})"
    )
    # All ordered, so false for NaN, but for `ne`, which is the negation of `eq`.
    for operator in ("eq", "lt", "gt", "le", "ge"):
        COMPARISONS[f"{name}.{operator}"] = f"fcmp o{operator} {ir_type} {{0}}, {{1}}"
    COMPARISONS[f"{name}.ne"] = f"fcmp une {ir_type} {{0}}, {{1}}"


def _conversions() -> None:
    """Conversions between the four types that cannot trap and need no branch."""
    OPERATORS["i32.wrap_i64"] = "trunc i64 {0} to i32"
    OPERATORS["i64.extend_i32_s"] = "sext i32 {0} to i64"
    OPERATORS["i64.extend_i32_u"] = "zext i32 {0} to i64"
    OPERATORS["i32.reinterpret_f32"] = "bitcast float {0} to i32"
    OPERATORS["i64.reinterpret_f64"] = "bitcast double {0} to i64"
    OPERATORS["f64.promote_f32"] = "fpext float {0} to double"
    SEQUENCES["f32.demote_f64"] = sequence(f"""
        %wide = {fence("double", "{0}")}
        %result = fptrunc double %wide to float
    """)
    # An integer that LLVM knows must not come out as a floating-point constant that it knows.
    for integer, ir_type, name in (("i32", "float", "f32"), ("i64", "double", "f64")):
        SEQUENCES[f"{name}.reinterpret_{integer}"] = sequence(f"""
            %bits = bitcast {integer} {{0}} to {ir_type}
            %result = {fence(ir_type, "%bits")}
        """)
    for name in ("f32", "f64"):
        ir_type = IR_TYPES[name]
        for integer in ("i32", "i64"):
            for sign, instruction in (("s", "sitofp"), ("u", "uitofp")):
                SEQUENCES[f"{name}.convert_{integer}_{sign}"] = sequence(f"""
                    %number = {instruction} {integer} {{0}} to {ir_type}
                    %result = {fence(ir_type, "%number")}
                """)


_integers("i32", 32)
_integers("i64", 64)
_floats("f32", "float")
_floats("f64", "double")
_conversions()


def _function(signature: str, body: str) -> str:
    """The text of a function that is always inlined; `body` starts with the entry block."""
    return f"define internal {signature} alwaysinline nounwind {{\n{dedent(body).strip()}\n}}\n"


def _divisions(name: str, bits: int) -> dict[str, str]:
    """The four divisions of one integer type."""
    by_zero = f"""
        %zero = icmp eq {name} %b, 0
        br i1 %zero, label %division_by_zero, label %divide
        division_by_zero:
        call void @trap(ptr %ctx, i32 {DIVIDE_BY_ZERO})
        unreachable
        divide:"""
    by_minus_one = f"""
        %negates = icmp eq {name} %b, -1
        %rare = call i1 @llvm.expect.i1(i1 %negates, i1 false)"""
    bodies = {
        "div_s": f"""{by_zero}{by_minus_one}
        br i1 %rare, label %negate, label %fits
        negate:
        %least = icmp eq {name} %a, {-(1 << (bits - 1))}
        br i1 %least, label %overflow, label %fits
        overflow:
        call void @trap(ptr %ctx, i32 {INTEGER_OVERFLOW})
        unreachable
        fits:
        %quotient = sdiv {name} %a, %b
        ret {name} %quotient""",
        "div_u": f"""{by_zero}
        %quotient = udiv {name} %a, %b
        ret {name} %quotient""",
        "rem_s": f"""{by_zero}{by_minus_one}
        br i1 %rare, label %whole, label %fits
        whole:
        ret {name} 0
        fits:
        %remainder = srem {name} %a, %b
        ret {name} %remainder""",
        "rem_u": f"""{by_zero}
        %remainder = urem {name} %a, %b
        ret {name} %remainder""",
    }
    return {
        f"{name}.{operator}": _function(
            f"{name} @{name}.{operator}(ptr %ctx, {name} %a, {name} %b)", body
        )
        for operator, body in bodies.items()
    }


def _extremes(name: str, ir_type: str, machine: str) -> dict[str, str]:
    """`min` and `max` of one floating-point type: NaN if either is NaN, and -0.0 below 0.0."""
    integer = name.replace("f", "i")
    functions = {}
    for operator, comparison, zeros, intrinsic in (
        ("min", "olt", "or", "minimum"),
        ("max", "ogt", "and", "maximum"),
    ):
        # LLVM's own code for x86 is long and lets signalling NaNs through. One comparison finds
        # both special cases, NaN and a pair of zeros; for the rest x86 has one instruction.
        branching = f"""
            %equal_or_nan = fcmp ueq {ir_type} %a, %b
            %rare = call i1 @llvm.expect.i1(i1 %equal_or_nan, i1 false)
            br i1 %rare, label %special, label %ordered
            ordered:
            %first = fcmp {comparison} {ir_type} %a, %b
            %extreme = select i1 %first, {ir_type} %a, {ir_type} %b
            ret {ir_type} %extreme
            special:
            %nan = fcmp uno {ir_type} %a, %b
            br i1 %nan, label %quiet, label %equal
            quiet:
            %a.value = {fence(ir_type, "%a")}
            %sum = fadd {ir_type} %a.value, %b
            ret {ir_type} %sum
            equal:
            %a.bits = bitcast {ir_type} %a to {integer}
            %b.bits = bitcast {ir_type} %b to {integer}
            %bits = {zeros} {integer} %a.bits, %b.bits
            %same = bitcast {integer} %bits to {ir_type}
            ret {ir_type} %same"""
        # On aarch64 it is one instruction, if LLVM can fold neither f(x, x) nor f(x, infinity).
        direct = f"""
            %a.value = {fence(ir_type, "%a")}
            %b.value = {fence(ir_type, "%b")}
            %b.other = {fence(ir_type, "%b.value")}
            %extreme = call {ir_type} @llvm.{intrinsic}.{name}(
                {ir_type} %a.value, {ir_type} %b.other)
            ret {ir_type} %extreme"""
        functions[f"{name}.{operator}"] = _function(
            f"{ir_type} @{name}.{operator}({ir_type} %a, {ir_type} %b)",
            direct if machine == "aarch64" else branching,
        )
    return functions


def _truncation(integer: str, name: str, sign: str, saturate: bool, x86: bool) -> str:
    """One instruction `iNN.trunc_fMM_sign` or `iNN.trunc_sat_fMM_sign` (section 4.3.3.24 on)."""
    bits = int(integer[1:])
    ir_type, precision = ("float", 24) if name == "f32" else ("double", 53)
    signed = sign == "s"
    upper = float(1 << (bits - signed))
    # The largest number that is too low; -2^N - 1 has no exact value where N is too large.
    exact = not signed or bits <= precision
    lower = -upper - 1.0 if signed and exact else -upper if signed else -1.0
    in_range = f"""
        %above = fcmp {"ogt" if exact else "oge"} {ir_type} %x, {_decimal(lower)}
        %below = fcmp olt {ir_type} %x, {_decimal(upper)}
        %in_range = and i1 %above, %below"""
    refuse = f"""
        %nan = fcmp uno {ir_type} %x, %x
        %code = select i1 %nan, i32 {INVALID_CONVERSION}, i32 {INTEGER_OVERFLOW}
        call void @trap(ptr %ctx, i32 %code)
        unreachable"""
    instruction = "fptosi" if signed else "fptoui"
    full_name = f"{integer}.trunc_{'sat_' if saturate else ''}{name}_{sign}"
    if x86:
        body = _x86_truncation(integer, name, signed, saturate, in_range, refuse)
    elif saturate:
        body = f"""
        %number = call {integer} @llvm.{instruction}.sat.{integer}.{name}({ir_type} %x)
        ret {integer} %number"""
    else:
        body = f"""{in_range}
        br i1 %in_range, label %fits, label %refuse
        fits:
        %number = {instruction} {ir_type} %x to {integer}
        ret {integer} %number
        refuse:{refuse}"""
    context = "" if saturate else "ptr %ctx, "
    return _function(f"{integer} @{full_name}({context}{ir_type} %x)", body)


def _x86_truncation(
    integer: str, name: str, signed: bool, saturate: bool, in_range: str, refuse: str
) -> str:
    """The body for x86: convert first, then look at what the result says about the operand.

    `cvttsd2si` gives the least integer for whatever does not fit, so a single comparison of
    integers finds all that needs a closer look.
    """
    bits = int(integer[1:])
    ir_type, lanes, intrinsic = (
        ("float", "<4 x float>", "sse.cvttss2si")
        if name == "f32"
        else ("double", "<2 x double>", "sse2.cvttsd2si")
    )
    # A 32-bit unsigned result is exact in the 64-bit signed conversion.
    wide = "i32" if integer == "i32" and signed else "i64"
    convert = f"call {wide} @llvm.x86.{intrinsic}{'64' if wide == 'i64' else ''}({lanes}"
    least = -(1 << (int(wide[1:]) - 1))
    if signed:
        rare, narrowed = f"icmp eq {wide} %wide, {least}", "%wide"
    elif bits == 64:
        rare, narrowed = "icmp slt i64 %wide, 0", "%wide"
    else:
        rare, narrowed = f"icmp ugt i64 %wide, {(1 << 32) - 1}", "%low"
    # Saturated: NaN gives 0, the rest the nearest end of the range.
    low, high = (least, -least - 1) if signed else (0, -1)
    clamp = f"""
        %positive = fcmp ogt {ir_type} %x, 0.0
        %negative = fcmp olt {ir_type} %x, 0.0
        %lowest = select i1 %negative, {integer} {low}, {integer} 0
        %nearest = select i1 %positive, {integer} {high}, {integer} %lowest
        ret {integer} %nearest"""
    if not signed and bits == 64:
        # From 2^63 to 2^64 the conversion is that of x - 2^63, which is exact, plus 2^63.
        check = f"""
        %above = fcmp oge {ir_type} %x, {_decimal(2.0**63)}
        %below = fcmp olt {ir_type} %x, {_decimal(2.0**64)}
        %in_range = and i1 %above, %below"""
        value = f"""
        %reduced = fsub {ir_type} %x, {_decimal(2.0**63)}
        %reduced.lanes = insertelement {lanes} poison, {ir_type} %reduced, i32 0
        %reduced.integer = {convert} %reduced.lanes)
        %large = xor i64 %reduced.integer, {least}
        ret i64 %large"""
    else:
        check, value = in_range, f"ret {integer} {narrowed}"
    narrow = "%low = trunc i64 %wide to i32" if narrowed == "%low" else ""
    if saturate and (signed or bits == 32):
        closer = clamp
    elif not signed and bits == 32:
        closer = refuse
    else:
        closer = f"""{check}
        br i1 %in_range, label %special, label %outside
        special:
        {value}
        outside:{clamp if saturate else refuse}"""
    return f"""
        %lanes = insertelement {lanes} poison, {ir_type} %x, i32 0
        %wide = {convert} %lanes)
        {narrow}
        %look = {rare}
        %rare = call i1 @llvm.expect.i1(i1 %look, i1 false)
        br i1 %rare, label %closer, label %fits
        fits:
        ret {integer} {narrowed}
        closer:{closer}"""


def _decimal(value: float) -> str:
    """A number that is exact in its type, as LLVM reads it."""
    return f"{value:.1f}"


def functions(machine: str) -> dict[str, str]:
    """`FUNCTIONS` for a machine: "x86_64", "aarch64" or any other."""
    x86 = machine == "x86_64"
    found: dict[str, str] = {}
    for integer, bits in (("i32", 32), ("i64", 64)):
        found |= _divisions(integer, bits)
        for name in ("f32", "f64"):
            for sign in ("s", "u"):
                for kind, saturate in (("trunc", False), ("trunc_sat", True)):
                    found[f"{integer}.{kind}_{name}_{sign}"] = _truncation(
                        integer, name, sign, saturate, x86
                    )
    found |= _extremes("f32", "float", machine)
    found |= _extremes("f64", "double", machine)
    return found


FUNCTIONS = functions(MACHINE)
