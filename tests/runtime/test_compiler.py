"""`Compiler`: what it writes, at which level, and what runs of it."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.wat import wat
from wasmedge_runtime import (
    CodeState,
    CodeStatus,
    CompilationMode,
    Compiler,
    CompilerOptimizationLevel,
    CompilerOutputFormat,
    Configure,
    ErrCode,
    ImportObject,
    Loader,
    LoadError,
    Proposal,
    Trap,
    ValidationError,
    Validator,
    ValType,
    WasmEdgeError,
    precompiled,
)
from wasmedge_runtime.binary.customs import find_custom
from wasmedge_runtime.executor import Executor
from wasmedge_runtime.loader import SECTION
from wasmedge_runtime.native.code import CodeRegion
from wasmedge_runtime.precompiled import Precompiled
from wasmedge_runtime.store import Store
from wasmedge_runtime.vm import VM

FORMATS = list(CompilerOutputFormat)
LEVELS = list(CompilerOptimizationLevel)

# Calls through tables, constants, jump tables, floats that need the C library, traps, recursion,
# a start function, and globals.
TEXT = """(module
  (import "host" "add" (func $add (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\\01\\02\\03\\04")
  (global $started (mut i32) (i32.const 0))
  (table (export "table") 2 funcref)
  (elem (i32.const 0) $fib $twice)
  (type $unary (func (param i32) (result i32)))
  (func $start (global.set $started (i32.load (i32.const 16))))
  (start $start)
  (func (export "started") (result i32) (global.get $started))
  (func $fib (export "fib") (param i32) (result i32)
    (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return (i32.const 1))))
    (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
             (call $fib (i32.sub (local.get 0) (i32.const 2)))))
  (func $twice (param i32) (result i32) (call $add (local.get 0) (local.get 0)))
  (func (export "indirect") (param i32 i32) (result i32)
    (call_indirect (type $unary) (local.get 1) (local.get 0)))
  (func (export "floor") (param f64) (result f64) (f64.floor (local.get 0)))
  (func (export "pick") (param i32) (result i32)
    (block $d (block $c (block $b (block $a
      (br_table $a $b $c $d $a $c (local.get 0)))
      (return (i32.const 11))) (return (i32.const 22))) (return (i32.const 33)))
    (i32.const 44))
  (func (export "v") (param i32) (result i32)
    (i32x4.extract_lane 2 (i32x4.mul (i32x4.splat (local.get 0)) (v128.const i32x4 1 2 3 4))))
  (func $divide (export "divide") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func $deep (export "deep") (param i32) (result i32) (call $deep (local.get 0)))
  (func (export "spin") (loop (br 0)))
  (func (export "ref") (result funcref) (ref.func $fib)))"""

CALLS: list[tuple[str, list[Any], list[Any]]] = [
    ("started", [], [0x04030201]),
    ("fib", [20], [10946]),
    ("indirect", [0, 10], [89]),
    ("indirect", [1, 10], [20]),
    ("floor", [-1.5], [-2.0]),
    *[("pick", [n], [r]) for n, r in enumerate([11, 22, 33, 44, 11, 33, 33])],
    ("v", [5], [15]),
]


def options(
    output_format: CompilerOutputFormat = CompilerOutputFormat.WASM,
    level: CompilerOptimizationLevel = CompilerOptimizationLevel.O2,
) -> Configure:
    config = Configure()
    config.compiler_output_format = output_format
    config.compiler_optimization_level = level
    return config


def find(data: bytes) -> Precompiled | None:
    """The compiled code in a file."""
    return precompiled.find(data, find_custom(data, SECTION))


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.wasm"
    path.write_bytes(wat(TEXT))
    return path


def compiled(module: Path, config: Configure | None = None) -> Path:
    config = config or Configure()
    native = config.compiler_output_format == CompilerOutputFormat.NATIVE
    output = module.with_name("compiled.so" if native else "compiled.wasm")
    Compiler(config).compile(module, output)
    return output


def vm_of(path: Path, config: Configure | None = None) -> VM:
    """A VM that has instantiated a file."""
    imports = ImportObject("host")

    @imports.function("add", params=[ValType.I32, ValType.I32], results=[ValType.I32])
    def add(data: object, memory: object, a: int, b: int) -> int:
        return a + b

    vm = VM(config)
    vm.register_import(imports)
    vm.load_wasm_file(path)
    vm.validate()
    vm.instantiate()
    return vm


def state(vm: VM) -> CodeState:
    status = vm.get_code_status()
    assert status is not None
    return status.state


def check_calls(vm: VM) -> None:
    for name, arguments, results in CALLS:
        assert vm.execute(name, *arguments) == results, (name, arguments)
    for name, argument, code in (
        ("divide", 0, ErrCode.DivideByZero),
        ("load", 1 << 20, ErrCode.MemoryOutOfBounds),
    ):
        with pytest.raises(Trap) as trap:
            vm.execute(name, argument)
        assert trap.value.code == code
    with pytest.raises(Trap, match="call stack exhausted"):
        vm.execute("deep", 1)


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("level", LEVELS)
def test_compiled_files_give_the_results_of_the_module(
    module: Path, output_format: CompilerOutputFormat, level: CompilerOptimizationLevel
) -> None:
    path = compiled(module, options(output_format, level))
    with vm_of(path) as vm:
        check_calls(vm)
        assert state(vm) == CodeState.PRECOMPILED


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("mode", list(CompilationMode))
def test_no_mode_compiles_anything_of_a_compiled_file(
    module: Path,
    output_format: CompilerOutputFormat,
    mode: CompilationMode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = compiled(module, options(output_format))

    def refuse(*args: object) -> None:
        raise AssertionError("something is compiled")

    monkeypatch.setattr("wasmedge_runtime.tiers.module.compile_unit", refuse)
    monkeypatch.setattr("wasmedge_runtime.tiers.optimizer.submit", refuse)
    monkeypatch.setattr("wasmedge_runtime.tiers.optimizer.finish", refuse)
    config = Configure()
    config.compilation_mode = mode
    with vm_of(path, config) as vm:
        check_calls(vm)
        status = vm.get_code_status()
    assert status == CodeStatus(CodeState.PRECOMPILED, 13, 0, 13, True)


def test_the_levels_reach_llvm(tmp_path: Path) -> None:
    module = tmp_path / "loops.wasm"
    module.write_bytes(
        wat(
            """(module (memory 1)
          (func $step (param i32) (result i32)
            (i32.store8 (local.get 0) (i32.mul (i32.load8_u (local.get 0)) (i32.const 77)))
            (i32.add (i32.rotl (local.get 0) (i32.const 5))
                     (i32.div_u (local.get 0) (i32.const 9))))
          (func (export "f") (param i32) (result i32) (local i32 i32)
            (loop $again
              (local.set 2 (i32.add (local.get 2) (call $step (local.get 1))))
              (local.set 2 (i32.xor (local.get 2)
                (call $step (i32.add (local.get 1) (i32.const 1)))))
              (local.set 2 (i32.sub (local.get 2)
                (call $step (i32.add (local.get 1) (i32.const 2)))))
              (br_if $again (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1)))
                                      (i32.const 16))))
            (local.get 2)))"""
        )
    )
    codes = {}
    for level in LEVELS:
        found = find(compiled(module, options(level=level)).read_bytes())
        assert found is not None
        assert found.head is not None
        assert found.head.target.level == level
        codes[level] = bytes(found.code)
    of = CompilerOptimizationLevel
    sizes = {level: len(code) for level, code in codes.items()}
    assert sizes[of.Oz] <= sizes[of.Os] < sizes[of.O2] < sizes[of.O3], sizes
    assert len({codes[level] for level in (of.O0, of.O2, of.O3, of.Os, of.Oz)}) == 5


def test_a_large_module_is_compiled_by_several_processes_with_progress(tmp_path: Path) -> None:
    functions = "".join(
        f'(func (export "f{n}") (result i32) {f"(drop (i32.const {n}))" * 3_000} (i32.const {n}))'
        for n in range(20)
    )
    module = tmp_path / "large.wasm"
    module.write_bytes(wat(f'(module {functions} (func (export "{os.urandom(8).hex()}")))'))
    told: list[CodeStatus] = []
    Compiler(options(level=CompilerOptimizationLevel.O1), told.append).compile(
        module, tmp_path / "out.wasm"
    )
    assert told[-1] == CodeStatus(CodeState.OPTIMIZED, 21, 0, 21, False)
    assert [status.optimized for status in told] == sorted(status.optimized for status in told)
    with VM() as vm:
        assert vm.run_wasm_file(tmp_path / "out.wasm", "f13") == [13]
        assert state(vm) == CodeState.PRECOMPILED


@pytest.mark.parametrize("output_format", FORMATS)
def test_statistics_are_exact_in_compiled_code_that_has_them(
    module: Path, output_format: CompilerOutputFormat
) -> None:
    config = options(output_format)
    config.statistics_instruction_counting = True
    config.statistics_cost_measuring = True
    path = compiled(module, config)
    seen, states = [], []
    for file in (module, path):
        with vm_of(file, config) as vm:
            vm.execute("fib", 15)
            statistics = vm.get_statistics()
            seen.append((statistics.instr_count, statistics.total_cost))
            statistics.set_cost_limit(statistics.total_cost + 50)
            with pytest.raises(Trap) as trap:
                vm.execute("fib", 15)
            assert trap.value.code == ErrCode.CostLimitExceeded
            seen.append((statistics.instr_count, statistics.total_cost))
            states.append(state(vm))
    assert seen[:2] == seen[2:]
    assert states[1] == CodeState.PRECOMPILED != states[0]


@pytest.mark.parametrize("file_counts", [False, True])
def test_code_of_another_variant_is_compiled_anew_and_the_log_says_so(
    module: Path, file_counts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config, other = Configure(), Configure()
    (config if file_counts else other).statistics_instruction_counting = True
    path = compiled(module, config)
    with caplog.at_level("WARNING", "wasmedge"), vm_of(path, other) as vm:
        check_calls(vm)
        assert state(vm) != CodeState.PRECOMPILED
        assert bool(vm.get_statistics().instr_count) != file_counts
    [message] = caplog.messages
    assert message.startswith("the compiled code of a module is not used: it is guarded")


def test_a_module_whose_memory_needs_checks_is_compiled_anew(
    module: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compiled(module)
    monkeypatch.setattr("wasmedge_runtime.memory.GUARDED_BYTES", 1 << 60)
    with caplog.at_level("WARNING", "wasmedge"), vm_of(path) as vm:
        assert vm.execute("fib", 10) == [89]
        assert state(vm) != CodeState.PRECOMPILED
    assert "checked is needed" in caplog.messages[0]


def test_another_set_of_proposals_validates_the_module_again(module: Path) -> None:
    path = compiled(module)
    config = Configure()
    config.remove_config(Proposal.SIMD)
    ast = Loader(config).load_file(path)
    with pytest.raises(LoadError, match="SIMD"):
        Validator(config).validate(ast)


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("level", [CompilerOptimizationLevel.O0, CompilerOptimizationLevel.O3])
def test_compiled_code_can_be_interrupted(
    module: Path, output_format: CompilerOutputFormat, level: CompilerOptimizationLevel
) -> None:
    with vm_of(compiled(module, options(output_format, level))) as vm:
        stopped = threading.Event()

        def interrupt() -> None:
            while not stopped.wait(0.01):  # a call that is not running yet cannot be interrupted
                vm.store.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(Trap) as trap:
                vm.execute("spin")
        finally:
            stopped.set()
            thread.join()
        assert trap.value.code == ErrCode.Interrupted
        assert trap.value.frames == ("spin",)
        assert vm.execute("fib", 10) == [89]
        assert state(vm) == CodeState.PRECOMPILED


def test_instances_share_the_code_of_a_file(module: Path) -> None:
    path = compiled(module)
    with vm_of(path) as first, vm_of(path) as second:
        instances = [vm.store.anonymous for vm in (first, second)]
        assert instances[0] is not None
        assert instances[1] is not None
        assert instances[0].loaded is instances[1].loaded
        check_calls(second)


def test_trap_frames_are_named_in_compiled_code(module: Path) -> None:
    with vm_of(compiled(module)) as vm, pytest.raises(Trap) as trap:
        vm.execute("divide", 0)
    assert trap.value.frames == ("divide",)


@pytest.mark.parametrize("output_format", FORMATS)
def test_code_for_any_processor_runs_here(
    module: Path, output_format: CompilerOutputFormat
) -> None:
    config = options(output_format)
    config.compiler_generic_binary = True
    path = compiled(module, config)
    found = find(path.read_bytes())
    assert found is not None
    assert found.head is not None
    assert found.head.processor in ("x86-64-v2", "generic")
    with vm_of(path) as vm:
        check_calls(vm)
        assert state(vm) == CodeState.PRECOMPILED


def test_a_universal_file_is_the_module_with_one_more_section(module: Path) -> None:
    data = compiled(module).read_bytes()
    plain = module.read_bytes()
    assert data.startswith(plain)
    assert data[len(plain)] == 0
    assert SECTION in data[len(plain) :][:20]
    assert Loader().load_buffer(data).precompiled is not None
    assert [e.external_name for e in Loader().load_buffer(data).list_exports()] == [
        e.external_name for e in Loader().load_buffer(plain).list_exports()
    ]


def test_a_native_file_is_a_shared_library_that_tools_can_read(module: Path) -> None:
    path = compiled(module, options(CompilerOutputFormat.NATIVE))
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf")
    shown = subprocess.run([readelf, "-hrsW", path], capture_output=True, text=True, check=True)
    assert "DYN (Shared object file)" in shown.stdout
    assert "There are no relocations in this file." in shown.stdout
    assert " f2\n" in shown.stdout


def test_a_native_file_is_not_loaded_from_a_buffer(module: Path) -> None:
    data = compiled(module, options(CompilerOutputFormat.NATIVE)).read_bytes()
    with pytest.raises(LoadError, match="loaded from its file") as error:
        Loader().load_buffer(data)
    assert error.value.code == ErrCode.MalformedMagic


def test_a_shared_library_of_somebody_elses_is_no_module(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(b"\x7fELF" + bytes(200))
    with pytest.raises(LoadError, match="magic header not detected"):
        Loader().load_file(path)


def test_without_a_linker_the_error_says_what_to_install(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(module.parent))
    with pytest.raises(WasmEdgeError, match=r"install .*binutils") as error:
        compiled(module, options(CompilerOutputFormat.NATIVE))
    assert error.value.code == ErrCode.AOTDisabled
    assert os.listdir(module.parent) == ["module.wasm"]


def test_a_linker_that_fails_is_named(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linker = module.with_name("ld")
    linker.write_text("#!/bin/sh\necho something is wrong >&2\nexit 3\n")
    linker.chmod(0o700)
    monkeypatch.setenv("PATH", f"{module.parent}:{os.environ['PATH']}")
    with pytest.raises(WasmEdgeError, match=r"the linker .*/ld failed: something is wrong"):
        compiled(module, options(CompilerOutputFormat.NATIVE))
    assert sorted(os.listdir(module.parent)) == ["ld", "module.wasm"]


def test_a_linker_that_cannot_be_started_is_named(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linker = module.with_name("ld")
    linker.write_bytes(b"\x7fELF, cut off")
    linker.chmod(0o700)
    monkeypatch.setenv("PATH", f"{module.parent}:{os.environ['PATH']}")
    with pytest.raises(WasmEdgeError, match=r"the linker .*/ld failed: .*Exec format error"):
        compiled(module, options(CompilerOutputFormat.NATIVE))


@pytest.mark.parametrize(
    "text", ["(module (func (result i32)))", "(module (start 0) (func (param i32)))"]
)
def test_an_invalid_module_writes_nothing(tmp_path: Path, text: str) -> None:
    module = tmp_path / "invalid.wasm"
    module.write_bytes(wat(text))
    with pytest.raises(ValidationError):
        compiled(module)
    assert os.listdir(tmp_path) == ["invalid.wasm"]


def test_what_is_no_module_writes_nothing(tmp_path: Path) -> None:
    module = tmp_path / "text.wasm"
    module.write_text("hello")
    with pytest.raises(LoadError):
        compiled(module)
    with pytest.raises(LoadError) as error:
        Compiler().compile(tmp_path / "none.wasm", tmp_path / "out.wasm")
    assert error.value.code == ErrCode.IllegalPath
    assert os.listdir(tmp_path) == ["text.wasm"]


def test_a_module_is_not_replaced_by_its_compiled_file(module: Path) -> None:
    before = module.read_bytes()
    link = module.with_name("link.wasm")
    link.symlink_to(module)
    for output in (module, link):
        with pytest.raises(WasmEdgeError, match="is the module itself") as error:
            Compiler().compile(module, output)
        assert error.value.code == ErrCode.IllegalPath
    assert module.read_bytes() == before


def test_outputs_that_cannot_be_written_are_named_and_leave_nothing(module: Path) -> None:
    folder = module.parent
    for output, reason in (
        (folder / "no" / "out.wasm", "No such file"),
        (module / "out.wasm", "Not a directory"),
        (folder, "it is there and no ordinary file"),
        (Path(os.devnull), "it is there and no ordinary file"),
        (Path("out\0.wasm"), "null"),
    ):
        with pytest.raises(WasmEdgeError, match=f"cannot write .*{reason}") as error:
            Compiler().compile(module, output)
        assert error.value.code == ErrCode.IllegalPath
    assert os.listdir(folder) == ["module.wasm"]


def test_an_output_is_replaced_at_once_and_has_ordinary_permissions(module: Path) -> None:
    output = module.with_name("compiled.wasm")
    output.write_text("before")
    before = output.stat().st_ino
    mask = os.umask(0o027)
    try:
        assert compiled(module) == output
    finally:
        os.umask(mask)
    assert output.stat().st_ino != before
    assert stat.S_IMODE(output.stat().st_mode) == 0o640
    assert sorted(os.listdir(module.parent)) == ["compiled.wasm", "module.wasm"]


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_compiled_file_is_compiled_again_from_its_module(
    module: Path, output_format: CompilerOutputFormat
) -> None:
    first = compiled(module, options(output_format, CompilerOptimizationLevel.O0))
    again = module.with_name("again.wasm")
    Compiler(options()).compile(first, again)
    assert again.read_bytes() == compiled(module, options()).read_bytes()


def test_ir_is_written_beside_the_output(module: Path) -> None:
    config = options()
    config.compiler_dump_ir = True
    output = compiled(module, config)
    text = output.with_name("compiled.wasm.0.ll").read_text()
    assert "define hidden i32 @f3(ptr %c, i32 %p0)" in text
    assert sorted(os.listdir(module.parent)) == [
        "compiled.wasm",
        "compiled.wasm.0.ll",
        "module.wasm",
    ]


def test_dumped_ir_replaces_links_and_not_what_they_name(module: Path) -> None:
    linked = module.with_name("linked")
    linked.write_text("mine")
    dump = module.with_name("out.wasm.0.ll")
    dump.symlink_to(linked)
    config = options()
    config.compiler_dump_ir = True
    Compiler(config).compile(module, module.with_name("out.wasm"))
    assert linked.read_text() == "mine"
    assert not dump.is_symlink()
    assert "define" in dump.read_text()


def test_a_module_without_functions_can_be_compiled(tmp_path: Path) -> None:
    module = tmp_path / "empty.wasm"
    module.write_bytes(wat('(module (memory (export "m") 1))'))
    for output_format in FORMATS:
        ast = Loader().load_file(compiled(module, options(output_format)))
        assert ast.precompiled is not None
        Validator().validate(ast)
        instance = Executor().instantiate(Store(), ast)
        assert list(instance.exports) == ["m"]


def test_code_of_files_goes_with_its_last_holder(module: Path) -> None:
    path = compiled(module)
    with vm_of(path):
        pass
    region = CodeRegion.get()
    before = free_bytes(region)
    for _ in range(3):
        with vm_of(path) as vm:
            vm.execute("fib", 3)
            assert free_bytes(region) < before
        del vm
    assert free_bytes(region) == before


def free_bytes(region: CodeRegion) -> int:
    gc.collect()
    region._collect()
    return sum(size for _, size in region.guest._free)


def test_a_closed_compiler_refuses() -> None:
    compiler = Compiler()
    compiler.close()
    with pytest.raises(WasmEdgeError):
        compiler.compile("a", "b")
