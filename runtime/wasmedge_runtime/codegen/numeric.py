"""Scalar numeric instructions as LLVM IR (WebAssembly 2.0, sections 4.3.2, 4.3.3 and 4.4.1).

Every instruction except the constants is in exactly one of four tables:

- `OPERATORS`: one IR instruction whose value is the result; `{0}`, `{1}` are the operands.
- `COMPARISONS`: one IR instruction that gives an `i1`.
- `SEQUENCES`: a few lines without branches; `{r}` is the result's name and `{t}` a prefix, fresh
  at each use, for names in between. Calling a function would say the same, but its inlining costs
  an unoptimised compilation 5 microseconds a call, as much as all the rest.
- `FUNCTIONS`: the text of an LLVM function with the instruction's name, for what branches. It
  takes `ptr %ctx` first when it can trap.

Arithmetic must turn signalling NaNs into quiet ones (section 4.3.3), but LLVM takes `x * 1.0`,
`x - 0.0`, `fptrunc (fpext x)` and the like for `x` itself. Where it could see such a thing, a
value passes through `llvm.arithmetic.fence`, which LLVM does not look through and which becomes no
machine instruction. Constants are the translator's: see `opaque_constant`.
"""

from __future__ import annotations

import platform
import re
from typing import NamedTuple

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
    mul and div a constant may be literal, if the other operand is not and it is not one of
    `is_identity`. (Not of comparisons: behind x == 2.0 LLVM would put 2.0 for x.)
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
    """The text of a function that the optimised tier always inlines, and the baseline tier calls:
    it is guest code. `body` starts with the entry block."""
    lines = "\n".join(line.strip() for line in body.strip().splitlines())
    return f'define internal {signature} alwaysinline #1 section ".guest" {{\n{lines}\n}}\n'


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
            %b.value = {fence(ir_type, "%b")}
            %sum = fadd {ir_type} %a.value, %b.value
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


class _Truncation(NamedTuple):
    """One instruction `integer.trunc_name_sign` or `integer.trunc_sat_name_sign`."""

    integer: str
    name: str
    signed: bool
    saturating: bool

    @property
    def bits(self) -> int:
        return int(self.integer[1:])

    @property
    def ir_type(self) -> str:
        return IR_TYPES[self.name]

    def in_range(self) -> str:
        """Lines that define `%in_range`: whether the operand without its fraction fits."""
        upper = float(1 << (self.bits - self.signed))
        # The lower bound is open: -1, or -2^N - 1 where the type has it, as 24 and 53 bits can.
        precision = 24 if self.name == "f32" else 53
        closed = self.signed and self.bits > precision
        lower = (-upper if closed else -upper - 1.0) if self.signed else -1.0
        return f"""
            %above = fcmp {"oge" if closed else "ogt"} {self.ir_type} %x, {lower:.1f}
            %below = fcmp olt {self.ir_type} %x, {upper:.1f}
            %in_range = and i1 %above, %below"""

    def outside(self) -> str:
        """Lines that end the function for an operand that is NaN or does not fit."""
        if not self.saturating:
            return f"""
                %nan = fcmp uno {self.ir_type} %x, %x
                %code = select i1 %nan, i32 {INVALID_CONVERSION}, i32 {INTEGER_OVERFLOW}
                call void @trap(ptr %ctx, i32 %code)
                unreachable"""
        least, most = (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        if not self.signed:
            least, most = 0, -1
        return f"""
            %positive = fcmp ogt {self.ir_type} %x, 0.0
            %negative = fcmp olt {self.ir_type} %x, 0.0
            %lowest = select i1 %negative, {self.integer} {least}, {self.integer} 0
            %nearest = select i1 %positive, {self.integer} {most}, {self.integer} %lowest
            ret {self.integer} %nearest"""

    def plain(self) -> str:
        """The body for any machine."""
        instruction = "fptosi" if self.signed else "fptoui"
        if self.saturating:
            intrinsic = f"@llvm.{instruction}.sat.{self.integer}.{self.name}"
            return f"""
                %number = call {self.integer} {intrinsic}({self.ir_type} %x)
                ret {self.integer} %number"""
        return f"""{self.in_range()}
            br i1 %in_range, label %fits, label %outside
            fits:
            %number = {instruction} {self.ir_type} %x to {self.integer}
            ret {self.integer} %number
            outside:{self.outside()}"""

    def x86(self) -> str:
        """The body for x86: convert first, then look at what the result says about the operand.

        `cvttsd2si` gives the least integer for whatever does not fit, so that one comparison of
        integers finds all that needs a closer look.
        """
        wide = "i32" if self.signed and self.bits == 32 else "i64"
        least = -(1 << (int(wide[1:]) - 1))
        lanes, intrinsic = ("<4 x float>", "sse.cvttss2si")
        if self.name == "f64":
            lanes, intrinsic = ("<2 x double>", "sse2.cvttsd2si")
        convert = f"call {wide} @llvm.x86.{intrinsic}{'64' if wide == 'i64' else ''}({lanes}"
        result, narrow = "%wide", ""
        if self.signed and self.saturating:
            look, closer = f"icmp eq {wide} %wide, {least}", self.outside()
        elif self.signed:
            # The least integer is a result too.
            look = f"icmp eq {wide} %wide, {least}"
            closer = f"""{self.in_range()}
                br i1 %in_range, label %fits, label %outside
                outside:{self.outside()}"""
        elif self.bits == 32:
            # The 64-bit conversion has all results.
            result, narrow = "%low", "%low = trunc i64 %wide to i32"
            look, closer = f"icmp ugt i64 %wide, {(1 << 32) - 1}", self.outside()
        else:
            # From 2^63 on it is the conversion of x - 2^63, which is exact, and 2^63 more.
            look = "icmp slt i64 %wide, 0"
            closer = f"""
                %large = fcmp oge {self.ir_type} %x, {2.0**63:.1f}
                %below = fcmp olt {self.ir_type} %x, {2.0**64:.1f}
                %in_range = and i1 %large, %below
                br i1 %in_range, label %upper, label %outside
                upper:
                %reduced = fsub {self.ir_type} %x, {2.0**63:.1f}
                %reduced.lanes = insertelement {lanes} poison, {self.ir_type} %reduced, i32 0
                %reduced.wide = {convert} %reduced.lanes)
                %sum = xor i64 %reduced.wide, {least}
                ret i64 %sum
                outside:{self.outside()}"""
        return f"""
            %lanes = insertelement {lanes} poison, {self.ir_type} %x, i32 0
            %wide = {convert} %lanes)
            {narrow}
            %look = {look}
            %rare = call i1 @llvm.expect.i1(i1 %look, i1 false)
            br i1 %rare, label %closer, label %fits
            fits:
            ret {self.integer} {result}
            closer:{closer}"""

    def definition(self, machine: str) -> dict[str, str]:
        """The function, by name."""
        kind, context = ("trunc_sat", "") if self.saturating else ("trunc", "ptr %ctx, ")
        full_name = f"{self.integer}.{kind}_{self.name}_{'s' if self.signed else 'u'}"
        body = self.x86() if machine == "x86_64" else self.plain()
        signature = f"{self.integer} @{full_name}({context}{self.ir_type} %x)"
        return {full_name: _function(signature, body)}


def functions(machine: str) -> dict[str, str]:
    """`FUNCTIONS` for a machine: "x86_64", "aarch64" or any other."""
    found = _divisions("i32", 32) | _divisions("i64", 64)
    for integer in ("i32", "i64"):
        for name in ("f32", "f64"):
            for signed in (True, False):
                for saturating in (False, True):
                    truncation = _Truncation(integer, name, signed, saturating)
                    found |= truncation.definition(machine)
    return found | _extremes("f32", "float", machine) | _extremes("f64", "double", machine)


FUNCTIONS = functions(MACHINE)
