"""Run single instructions, as `codegen.numeric` and `codegen.vector` lower them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterable, Sequence

import llvmlite.binding as llvm

from wasmedge_runtime.codegen import numeric, vector
from wasmedge_runtime.opcodes import BY_NAME

IR_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "float", 0x7C: "double", 0x7B: "<2 x i64>"}
BITS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64, "<2 x i64>": 128}

SLOT = 16
"""Bytes for each operand and for the result."""


class Trapped(Exception):
    """The instruction trapped, with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(hex(code))
        self.code = code


def _define(symbol: str, text: str, parameters: Sequence[str], result: str) -> str:
    """A C function that takes the operands from slots and puts the result behind the trap code."""
    loads = "\n".join(
        f"%at{i} = getelementptr i8, ptr %in, i64 {SLOT * i}\n%p{i} = load {kind}, ptr %at{i}"
        for i, kind in enumerate(parameters)
    )
    return f"""define void @{symbol}(ptr %in, ptr %ctx) nounwind {{
        {loads}
        {text}
        %at = getelementptr i8, ptr %ctx, i64 {SLOT}
        store {result} %r, ptr %at
        ret void
    }}"""


def _returning(definition: str) -> str:
    """A lowering's function that stores the code of a trap and returns."""
    result = definition.split()[2]
    return re.sub(
        r"call void @trap\(ptr %ctx, i32 (\S+)\)\s*unreachable",
        rf"store i32 \1, ptr %ctx\nret {result} zeroinitializer",
        definition,
    )


class Lowering:
    """Some instructions, for one machine; all are compiled, at one level, on the first call."""

    def __init__(self, names: Iterable[str], machine: str = numeric.MACHINE, level: int = 2):
        self._operators = numeric.OPERATORS | vector.OPERATORS
        self._functions = numeric.functions(machine)
        self._sequences = numeric.SEQUENCES | vector.sequences(machine)
        self._level = level
        self._texts: list[str] = []
        self._symbols: dict[str, str] = {}
        self._signatures: dict[str, tuple[list[str], str]] = {}
        self._calls: dict[str, Callable[[int, int], None]] = {}
        self._keep: list[object] = []
        for name in names:
            row = BY_NAME[name]
            parameters = [IR_TYPES[code] for code in row.params or ()]
            operands = [f"%p{i}" for i in range(len(parameters))]
            self.add(name, self.apply(name, "%r", *operands), parameters)

    def add(self, name: str, text: str, parameters: list[str], like: str | None = None) -> None:
        """Add IR that computes `%r`, of the type of instruction `like`, from `%p0`, `%p1`..."""
        result = IR_TYPES[(BY_NAME[like or name].results or ())[0]]
        self._symbols[name] = f"call{len(self._symbols)}"
        self._texts.append(_define(self._symbols[name], text, parameters, result))
        self._signatures[name] = (parameters, result)

    def apply(self, name: str, result: str, *operands: str) -> str:
        """IR that computes one instruction; operands are followed by immediates."""
        if name in self._operators:
            return f"{result} = {self._operators[name].format(*operands)}"
        if name in numeric.COMPARISONS:
            compared = numeric.COMPARISONS[name].format(*operands)
            return f"{result}.holds = {compared}\n{result} = zext i1 {result}.holds to i32"
        if name in self._sequences:
            return self._sequences[name].format(*operands, r=result, t=f"{result}.t")
        row = BY_NAME[name]
        codes = zip(row.params or (), operands, strict=True)
        typed = [f"{IR_TYPES[code]} {operand}" for code, operand in codes]
        if row.traps:
            typed.insert(0, "ptr %ctx")
        kind = IR_TYPES[(row.results or ())[0]]
        return f"{result} = call {kind} @{name}({', '.join(typed)})"

    def text(self) -> str:
        """The module."""
        return "\n".join([*map(_returning, self._functions.values()), *self._texts])

    def _compile(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=llvm.get_host_cpu_features().flatten(),
            opt=self._level,
            reloc="pic",
            codemodel="small",
        )
        module = llvm.parse_assembly(self.text())
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=self._level)
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        library = llvm.JITLibraryBuilder().add_object_img(machine.emit_object(module))
        library.add_current_process()
        for symbol in self._symbols.values():
            library.export_symbol(symbol)
        jit = llvm.create_lljit_compiler(use_jit_link=True)
        linked = library.link(jit, f"lowering{id(self)}")
        self._keep = [jit, linked]
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
        self._calls = {name: call(linked[symbol]) for name, symbol in self._symbols.items()}

    def __call__(self, name: str, *operands: int) -> int:
        """The result's bits for operands given as bits (negative ones modulo 2^N)."""
        if not self._calls:
            self._compile()
        parameters, result = self._signatures[name]
        slots = b"".join(
            (operand % (1 << BITS[kind])).to_bytes(SLOT, "little")
            for kind, operand in zip(parameters, operands, strict=True)
        )
        out = ctypes.create_string_buffer(2 * SLOT)
        inputs = ctypes.create_string_buffer(slots, len(slots) + SLOT)
        self._calls[name](ctypes.addressof(inputs), ctypes.addressof(out))
        code = int.from_bytes(out.raw[:4], "little")
        if code:
            raise Trapped(code)
        return int.from_bytes(out.raw[SLOT : SLOT + BITS[result] // 8], "little")
