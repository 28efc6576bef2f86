"""Real programs compiled ahead, in both formats, give what the modules give."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from wasmedge_runtime import (
    VM,
    CodeState,
    Compiler,
    CompilerOptimizationLevel,
    CompilerOutputFormat,
    Configure,
    HostRegistration,
)

FORMATS = list(CompilerOutputFormat)


def compiled(
    module: Path,
    folder: Path,
    output_format: CompilerOutputFormat,
    level: CompilerOptimizationLevel = CompilerOptimizationLevel.O3,
) -> Path:
    config = Configure()
    config.compiler_output_format = output_format
    config.compiler_optimization_level = level
    Compiler(config).compile(module, folder / "compiled")
    return folder / "compiled"


def output(path: Path, args: list[str], folder: Path, stdin: bytes = b"") -> tuple[int, bytes]:
    """Run a program; its exit code and what it printed."""
    with VM(Configure(HostRegistration.WASI)) as vm:
        wasi = vm.get_import_object(HostRegistration.WASI)
        assert wasi is not None
        printed = io.BytesIO()
        wasi.init_wasi(args, preopens={".": folder}, stdin=stdin, stdout=printed, stderr=printed)
        vm.run_wasm_file(path, "_start")
        status = vm.get_code_status()
        assert status is not None
        assert (status.state == CodeState.PRECOMPILED) == (path.suffix != ".wasm")
        return wasi.wasi_get_exit_code(), printed.getvalue()


@pytest.mark.parametrize("output_format", FORMATS)
def test_fibonacci(programs: Path, tmp_path: Path, output_format: CompilerOutputFormat) -> None:
    with VM() as vm:
        path = compiled(programs / "fibonacci.wasm", tmp_path, output_format)
        assert vm.run_wasm_file(path, "fib", 30) == [1346269]


def test_compiled_fibonacci_executes_exactly_the_instructions_of_the_reference(
    programs: Path, tmp_path: Path
) -> None:
    config = Configure()
    config.statistics_instruction_counting = True
    Compiler(config).compile(programs / "fibonacci.wasm", tmp_path / "compiled")
    with VM(config) as vm:
        assert vm.run_wasm_file(tmp_path / "compiled", "fib", 30) == [1346269]
        assert vm.get_statistics().instr_count == 28_271_634
        status = vm.get_code_status()
        assert status is not None
        assert status.state == CodeState.PRECOMPILED


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_program_that_reads_a_file(
    programs: Path, tmp_path: Path, output_format: CompilerOutputFormat
) -> None:
    shutil.copy(programs / "file.txt", tmp_path)
    module = programs / "rust_readfile.wasm"
    path = compiled(module, tmp_path, output_format)
    args = ["rust_readfile.wasm", "file.txt"]
    expected = output(module, args, tmp_path, b"5\n-3\n15\n")
    assert output(path, args, tmp_path, b"5\n-3\n15\n") == expected
    assert b"abcDEF___!@#$%^" in expected[1]


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_javascript_engine(
    programs: Path, tmp_path: Path, output_format: CompilerOutputFormat
) -> None:
    """Without optimisation, which takes seconds instead of half a minute."""
    (tmp_path / "script.js").write_text("print(6 * 7); print([3, 1, 2].sort().join('-'))")
    path = compiled(programs / "qjs.wasm", tmp_path, output_format, CompilerOptimizationLevel.O0)
    assert output(path, ["qjs.wasm", "script.js"], tmp_path) == (0, b"42\n1-2-3\n")
