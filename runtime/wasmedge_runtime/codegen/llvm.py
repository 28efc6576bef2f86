"""LLVM through llvmlite: IR text in, object file out. The only module that imports llvmlite."""

from __future__ import annotations

import functools
import logging
import platform

import llvmlite.binding as llvm

_log = logging.getLogger("wasmedge")


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    # A wasm `select` is there because a compiler wanted no branch: LLVM's guess that a branch would
    # do better made an edit distance twice as slow.
    llvm.set_option("wasmedge", "-x86-cmov-converter=false")


GENERIC_CPU = {"x86_64": "x86-64-v2", "aarch64": "generic"}.get(platform.machine(), "")
"""LLVM's name of the least processor of the architecture that the engine runs on: with SSE4.2, or
with Armv8.0-A."""


def host_cpu() -> str:
    """LLVM's name of this machine's processor."""
    _initialize()
    return str(llvm.get_host_cpu_name())


@functools.cache
def _target_machine(level: int, generic: bool) -> llvm.TargetMachine:
    _initialize()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=GENERIC_CPU if generic else llvm.get_host_cpu_name(),
        features="" if generic else llvm.get_host_cpu_features().flatten(),
        opt=level,
        reloc="pic",
        codemodel="small",
    )


def compile_object(text: str, level: int, generic: bool = False) -> bytes:
    """Compile one module of LLVM IR at optimisation level 0 to 3, for this machine's processor or
    for `GENERIC_CPU`.

    Level 0 is parsing and emission alone: no pass runs, nothing is inlined, and nothing is verified
    (which costs a tenth of the time). A parse or verification error is a bug of the engine, not of
    its input, and raises RuntimeError.
    """
    machine = _target_machine(level, generic)
    # A context of its own: the global one keeps every type and constant for good.
    context = llvm.create_context()
    module = llvm.parse_assembly(text, context)
    try:
        if level:
            _optimize(module, machine, level)
        data = bytes(machine.emit_object(module))
    finally:
        module.close()
    # It takes a while, and a KeyboardInterrupt in a finalizer would be lost. Not when something was
    # raised: the module may be there still, and must go first.
    context.close()
    return data


def _optimize(module: llvm.ModuleRef, machine: llvm.TargetMachine, level: int) -> None:
    module.verify()
    # No data layout while LLVM optimises (it sets one when it emits): knowing that 64-bit integers
    # are native, it widens induction variables and then masks every address. A SIMD kernel took
    # 55 ms instead of 40.
    module.triple = machine.triple
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
