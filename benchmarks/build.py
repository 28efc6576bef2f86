"""Compiles the kernels with the C compiler of the package `ziglang`, once per source and flags."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

KERNELS = Path(__file__).resolve().parent / "kernels"
CACHE = KERNELS.parent.parent / ".cache" / "benchmarks"

# -ffp-contract=off: fused operations would give native code other results than WebAssembly has.
COMMON = ["-O2", "-nostdlib", "-ffp-contract=off", "-fno-sanitize=undefined", f"-I{KERNELS}"]
WASM = ["-target", "wasm32-wasi", "-Wl,--no-entry", "-Wl,--export=run"]
# The x86-64 that compilers take without other orders, not the machine's own extensions.
NATIVE = ["-mcpu=baseline", "-shared", "-fPIC"]
SIMD = ["-msimd128"]

LARGE_COPIES = 100  # of every kernel in the large module: about 320,000 instructions


def compile_kernel(name: str, vectors: bool) -> bytes:
    """The WebAssembly module of a kernel; `vectors` allows SIMD, which native code always has."""
    flags = [*COMMON, *WASM, *(SIMD if vectors else [])]
    return _compile("cc", (KERNELS / f"{name}.c").read_text(), flags, ".c", ".wasm").read_bytes()


def compile_native(name: str) -> Path:
    """The shared library of a kernel."""
    return _compile("cc", (KERNELS / f"{name}.c").read_text(), [*COMMON, *NATIVE], ".c", ".so")


def compile_large() -> bytes:
    """A WebAssembly module of a few hundred thousand instructions: the kernels, many times over.

    It is there to be read, validated, translated and compiled, not to be run.
    """
    names = sorted(path.stem for path in KERNELS.glob("*.c"))
    parts = ['#include "kernel.h"']
    for copy in range(LARGE_COPIES):
        parts += [f'namespace {name}_{copy} {{\n#include "{name}.c"\n}}' for name in names]
    table = ", ".join(f"{name}_{copy}::run" for copy in range(LARGE_COPIES) for name in names)
    parts.append(f"static uint32_t (*const all[])(uint32_t) = {{{table}}};")
    parts.append('extern "C" uint32_t run(uint32_t which, uint32_t n) { return all[which](n); }\n')
    flags = [*COMMON, *WASM, *SIMD]
    return _compile("c++", "\n".join(parts), flags, ".cc", ".wasm").read_bytes()


def _compile(language: str, source: str, flags: list[str], suffix: str, result: str) -> Path:
    key = hashlib.sha256()
    included = [path.read_text() for path in sorted(KERNELS.iterdir())]
    for part in (language, source, *included, *flags, version("ziglang")):
        key.update(part.encode() + b"\0")
    target = CACHE / (key.hexdigest()[:32] + result)
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        file, made = Path(folder, "kernel" + suffix), Path(folder, "kernel" + result)
        file.write_text(source)
        command = [sys.executable, "-m", "ziglang", language, *flags, str(file), "-o", str(made)]
        subprocess.run(command, check=True)
        made.rename(target)
    return target
