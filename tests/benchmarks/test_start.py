"""What `make bench-start` measures is the same start with both engines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import programs, reset, start
from benchmarks.programs import Program, installed, memory_alone
from benchmarks.report import table
from benchmarks.start_child import BAD_FILE, Calls, Job, Sample, sample
from tests.wat import wat
from wasmedge_runtime import Executor, Loader, Memory, ModuleInstance, Store, Validator

GUEST = """
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 70000) "data")
  (func (export "read") (result i32)
    (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "yield") (result i32) (call $yield))
  (func (export "trap") unreachable)
  (func (export "nothing"))
  (func (export "malloc") (param i32) (result i32) (i32.const 100))
  (func (export "first") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "exit") (call $exit (i32.const 1)) unreachable))
"""


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    file = tmp_path / "guest.wasm"
    file.write_bytes(wat(GUEST))
    return file


@pytest.mark.parametrize("engine", ["ours", "wasmtime"])
@pytest.mark.parametrize(
    ("calls", "ended"),
    [
        ([["nothing"]], "returned after 0 host calls"),
        ([["nothing"], ["read"]], f"returned {BAD_FILE} after 1 host calls"),
        ([["yield"]], "returned 0 after 1 host calls"),
        ([["trap"], ["read"]], "trapped after 0 host calls"),
        ([["exit"], ["read"]], "exited after 1 host calls"),
        ([["first", "xyz"]], f"returned {ord('x')} after 0 host calls"),
    ],
)
def test_the_first_call_ends_the_same_way_with_both_engines(
    guest: Path, engine: str, calls: Calls, ended: str
) -> None:
    assert sample(Job(engine, str(guest), calls)).ended == ended


def test_the_clock_goes_through_the_stages_in_order(guest: Path) -> None:
    taken = sample(Job("ours", str(guest), [["nothing"]], memory=str(guest), settle=True))
    assert 0 < taken.imported < taken.ready < taken.called <= taken.optimised
    assert taken.instance > 0
    assert taken.memory > 0


def test_a_module_is_reduced_to_what_its_memory_needs() -> None:
    reduced = memory_alone(wat(GUEST))
    ast = Loader().load_buffer(reduced)
    Validator().validate(ast)
    assert (ast.list_imports(), ast.list_exports()) == ([], [])
    assert len(ast.memories) == len(ast.data_segments) == 1
    Executor().instantiate(Store(), ast)


def test_every_start_is_measured_and_has_its_aim(guest: Path) -> None:
    measured = list(start.rows("guest", start.measure(guest, [["exit"]], rounds=1)))
    assert all(row.ours > 0 and row.theirs > 0 for row in measured)
    assert {row.name: row.aim for row in measured if row.aim is not None} == {
        "guest: cold, ready": 1.0,
        "guest: warm, ready": 0.3,
    }
    assert len({row.name for row in measured}) == len(measured)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are ended on Linux only")
def test_what_a_sample_leaves_running_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = tmp_path / "number"
    script = f"""
import subprocess, sys
left = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, start_new_session=True)
open({str(number)!r}, "w").write(str(left.pid))
print("{{}}")
"""
    executable = tmp_path / "python"
    executable.write_text(f"#!{sys.executable}\n{script}")
    executable.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(executable))
    with start.adopting_orphans():
        start.run(Job("ours", "", []), tmp_path)
    assert not Path("/proc", number.read_text()).exists()


def test_engines_that_disagree_are_refused(guest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(job: Job, cache: Path) -> Sample:
        return Sample(ended=job.engine)

    monkeypatch.setattr(start, "run", run)
    with pytest.raises(AssertionError, match="disagree"):
        start.measure(guest, [["nothing"]], rounds=1)


def test_a_program_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Program("missing", "", "no-such-package-anywhere", "missing.wasm", [["_start"]])
    monkeypatch.setattr(programs, "PROGRAMS", (missing,))
    assert list(installed([])) == []
    assert "no-such-package-anywhere is not installed" in capsys.readouterr().out


def test_a_program_is_found_through_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Program("pytest", "", "pytest", "pytest/__init__.py", [["_start"]])
    monkeypatch.setattr(programs, "PROGRAMS", (module,))
    assert [(program.name, path.name) for program, path in installed(["pytest"])] == [
        ("pytest", "__init__.py")
    ]


def test_a_reset_that_leaves_something_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModuleInstance, "reset", lambda instance: None, raising=False)
    with pytest.raises(AssertionError, match="left the memory changed"):
        list(reset.rows())


def test_a_reset_is_compared_with_a_new_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(instance: ModuleInstance) -> None:
        memory = instance.exports["memory"]
        assert isinstance(memory, Memory)
        memory.set_data(b"0123456789abcdef" * (reset.DATA // 16), 0)

    monkeypatch.setattr(ModuleInstance, "reset", restore, raising=False)
    [row] = reset.rows()
    assert row.ours > 0
    assert row.theirs > 0


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(SystemExit, match="no such program: nginx; there are qjs"):
        list(installed(["nginx"]))


def test_without_native_code_the_table_has_no_columns_for_it() -> None:
    [heads, *_, row] = table(list(start.rows("p", _starts())), [], {}).splitlines()
    assert heads == "| | ours | wasmtime | ratio | aim |"
    assert row == "| p: further instance | 20 µs | 10 µs | 2.000 |  |"


def _starts() -> start.Starts:
    ours = Sample(1, 2, 3, 1, 2, 3, instance=20e-6)
    theirs = Sample(1, 2, 3, 1, 2, 3, instance=10e-6)
    return start.Starts(ours, ours, theirs, theirs, theirs, optimised=4)
