"""The command line, as a process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.wat import wat
from wasmedge_async import __version__
from wasmedge_async._cli import main
from wasmedge_runtime.native.code import LoadedImage
from wasmedge_runtime.precompiled import Precompiled

FIBONACCI = """(module
  (func $fib (export "fib") (param i32) (result i32)
    (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return (i32.const 1))))
    (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
             (call $fib (i32.sub (local.get 0) (i32.const 2)))))
  (func (export "pair") (param i64 f32 f64) (result i64 f32 f64)
    (local.get 0) (local.get 1) (local.get 2))
  (func (export "object") (param externref))
  (func (export "divide") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
  (func (export "spin") (loop (br 0))))"""

# Prints its arguments, its variables, and a file; ends with the number of arguments.
PROGRAM = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $as (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $a (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $es (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $e (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 900) "file")
  (func $print (param i32 i32)
    (i32.store (i32.const 800) (local.get 0))
    (i32.store (i32.const 804) (local.get 1))
    (drop (call $write (i32.const 1) (i32.const 800) (i32.const 1) (i32.const 808))))
  (func (export "_start")
    (drop (call $as (i32.const 0) (i32.const 4)))
    (drop (call $a (i32.const 1024) (i32.const 2048)))
    (call $print (i32.const 2048) (i32.load (i32.const 4)))
    (drop (call $es (i32.const 8) (i32.const 4)))
    (drop (call $e (i32.const 1024) (i32.const 4096)))
    (call $print (i32.const 4096) (i32.load (i32.const 4)))
    (if (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 900) (i32.const 4)
                  (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
      (then
        (i32.store (i32.const 800) (i32.const 8192))
        (i32.store (i32.const 804) (i32.const 100))
        (drop (call $read (i32.load (i32.const 16)) (i32.const 800) (i32.const 1) (i32.const 20)))
        (call $print (i32.const 8192) (i32.load (i32.const 20)))))
    (call $exit (i32.load (i32.const 0)))))"""

SLEEPER = """(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 200) "ready\\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 200))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 3600000000000))
    (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192)))))"""

COMMAND = [sys.executable, "-m", "wasmedge_async"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("fib", FIBONACCI), ("program", PROGRAM), ("sleeper", SLEEPER)):
        (tmp_path / f"{name}.wasm").write_bytes(wat(text))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    paths = [entry for entry in sys.path if entry]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_program_runs_with_its_arguments_variables_and_folders(folder: Path) -> None:
    options = ("--dir", "/:data", "--env", "A=1", "--env", "B=2")
    done = run("run", *options, "program.wasm", "x", "--dir", "y")
    assert done.stdout == "program.wasm\0x\0--dir\0y\0A=1\0B=2\0content"
    assert (done.returncode, done.stderr) == (4, "")


def test_a_program_sees_nothing_by_itself(folder: Path) -> None:
    done = run("run", "program.wasm")
    assert done.stdout == "program.wasm\0"
    assert done.returncode == 1


def test_a_function_is_called_and_its_results_printed(folder: Path) -> None:
    assert main(["run", "--invoke", "fib", "fib.wasm", "21"]) == 0
    done = run("run", "--invoke", "pair", "fib.wasm", "-7", "0.5", "1e300")
    assert (done.stdout, done.returncode) == ("-7\n0.5\n1e+300\n", 0)


def test_hexadecimal_numbers_are_arguments_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--invoke", "fib", "fib.wasm", "0x15"]) == 0
    assert capsys.readouterr().out == "17711\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nowhere.wasm"], "nowhere.wasm: invalid path"),
        (["run", "fib.wasm"], "no function _start; --invoke"),
        (["run", "data/file"], "magic header not detected"),
        (["run", "--invoke", "nothing", "fib.wasm"], "wasm function not found: 'nothing'"),
        (["run", "--invoke", "fib", "fib.wasm"], "takes 1 arguments"),
        (["run", "--invoke", "fib", "fib.wasm", "x"], "not a number for i32: 'x'"),
        (["run", "--invoke", "fib", "fib.wasm", str(1 << 33)], "argument 1"),
        (["run", "--invoke", "object", "fib.wasm", "x"], "externref cannot be given"),
        (["run", "--dir", "/:nowhere", "program.wasm"], "nowhere: No such file or directory"),
        (["run", "--env", "A", "program.wasm"], "NAME=value"),
        (["run", "--time-limit", "0", "program.wasm"], "more than 0 seconds"),
        (["run", "--time-limit", "x", "program.wasm"], "--time-limit"),
        (["run", "--gas-limit", "-1", "program.wasm"], "cost limit"),
        (["run", "--memory-page-limit", "0", "program.wasm"], "at most 0 pages"),
        (["run", "--nothing", "program.wasm"], "--nothing"),
        (["run"], "FILE"),
        (["inspect", "nowhere.wasm"], "nowhere.wasm"),
        ([], "COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(
    folder: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        code = main(arguments)
    except SystemExit as exit:  # of the parser of arguments
        code = int(str(exit.code))
    printed = capsys.readouterr()
    assert code == 1
    assert printed.out == ""
    assert printed.err.startswith("wasmedge-async: ")
    assert printed.err.count("\n") == 1
    assert words in printed.err


def test_a_trap_is_its_message_and_exit_code_134(folder: Path) -> None:
    done = run("run", "--invoke", "divide", "fib.wasm", "0")
    assert (done.returncode, done.stdout) == (134, "")
    assert done.stderr == "wasmedge-async: integer divide by zero (in divide)\n"


@pytest.mark.parametrize(
    ("first", "options"),
    [("(start $exit_3)", []), ('(export "_initialize" (func $exit_3))', ["--invoke", "_start"])],
)
def test_a_program_that_has_exited_is_not_called_again(
    folder: Path, capsys: pytest.CaptureFixture[str], first: str, options: list[str]
) -> None:
    text = f"""(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func $exit_3 (call $exit (i32.const 3)))
      {first}
      (func (export "_start") unreachable))"""
    (folder / "exits.wasm").write_bytes(wat(text))
    assert main(["run", *options, "exits.wasm"]) == 3
    assert capsys.readouterr().err == ""


def test_the_time_limit_stops_a_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--time-limit", "0.05", "--invoke", "spin", "fib.wasm"]) == 134
    assert "execution interrupted" in capsys.readouterr().err
    assert main(["run", "--time-limit", "0.05", "sleeper.wasm"]) == 134
    assert main(["run", "--time-limit", "60", "--invoke", "fib", "fib.wasm", "1"]) == 0


def test_the_gas_limit_stops_a_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--gas-limit", "100", "--invoke", "fib", "fib.wasm", "20"]) == 134
    assert "cost limit exceeded" in capsys.readouterr().err


def test_statistics_are_printed_at_the_end(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--enable-all-statistics", "--invoke", "fib", "fib.wasm", "5"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out == "8\n"
    assert "Executed wasm instructions count: " in printed.err
    assert "Gas costs: " in printed.err


def test_ctrl_c_ends_a_program_quietly(folder: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "sleeper.wasm"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == b""


def test_inspect_shows_imports_and_exports(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "all.wasm").write_bytes(
        wat("""(module (import "host" "f" (func (param i32 f64) (result i64)))
          (memory (export "m") 1 3) (table (export "t") 2 funcref)
          (global (export "g") (mut i32) (i32.const 1)) (global (export "c") f32 (f32.const 0)))""")
    )
    assert main(["inspect", "all.wasm"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "imports: 1",
        "  function host.f (i32, f64) -> (i64)",
        "exports: 4",
        "  memory   m 1 3",
        "  table    t 2 funcref",
        "  global   g (mut i32)",
        "  global   c f32",
    ]


def test_names_of_a_module_do_not_reach_the_terminal_as_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "names.wasm").write_bytes(wat('(module (func (export "a\\n\\1b[2Jb")))'))
    assert main(["inspect", "names.wasm"]) == 0
    assert "  function a\\u{a}\\u{1b}[2Jb () -> ()\n" in capsys.readouterr().out
    assert main(["run", "names.wasm"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a\\u{a}\\u{1b}[2Jb" in error


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"wasmedge-async {__version__}\n"


def test_the_command_does_not_load_what_drives_workers(folder: Path) -> None:
    script = (
        "import sys; from wasmedge_async._cli import main\n"
        "main(['run', '--invoke', 'fib', 'fib.wasm', '1'])\n"
        "print(*{'asyncio', 'anyio', 'wasmedge_pool'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_who_waits_for_optimised_code_sees_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = "".join(
        f'(func (export "f{n}") {"(drop (i32.const 1234567))" * 3_000})' for n in range(4)
    )
    path = tmp_path / "large.wasm"
    path.write_bytes(wat(f'(module {functions} (func (export "{os.urandom(8).hex()}")))'))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["run", "--compilation", "optimized", "--invoke", "f0", str(path)]) == 0
    shown = terminal.getvalue()
    assert "] 5 of 5 functions" in shown
    assert shown.endswith("\r\x1b[K")
    assert main(["run", "--invoke", "f0", str(path)]) == 0  # nothing to wait for
    assert terminal.getvalue() == shown


@pytest.mark.parametrize("kind", ["wasm", "native"])
def test_a_compiled_file_runs_like_its_module(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["compile", "fib.wasm"], ["compile", "--optimize", "s", "program.wasm"]):
        assert main([*arguments, "--format", kind, f"out-{arguments[-1]}"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["run", "--invoke", "fib", "out-fib.wasm", "20"]) == 0
    assert capsys.readouterr().out == "10946\n"
    arguments = ["run", "--env", "A=1", "--dir", ".:."]
    shown = [
        subprocess.run(
            [*COMMAND, *arguments, file, "x", "y"], capture_output=True, text=True, check=False
        )
        for file in ("program.wasm", "out-program.wasm")
    ]
    assert shown[0].returncode == shown[1].returncode == 3
    assert shown[0].stdout == shown[1].stdout.replace("out-", "")


def test_inspect_shows_what_compiled_code_a_file_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", "--optimize", "z", "--generic-binary", "--enable-all-statistics"]
    assert main([*arguments, "fib.wasm", "out.wasm"]) == 0
    assert main(["inspect", "out.wasm"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "compiled code (universal: a section)",
        "  optimization: Oz",
        "  processor: any from ",
        "  variant: guarded and counting and measuring cost",
        f"  made by: wasmedge-async {__version__}",
        "  used: yes",
        "exports: 5",
    ):
        assert line in shown
    data = bytearray((folder / "out.wasm").read_bytes())
    data[-1] ^= 1
    (folder / "out.wasm").write_bytes(data)
    assert main(["inspect", "out.wasm"]) == 0
    assert "  used: no, it is damaged or was altered\n" in capsys.readouterr().out


def test_code_that_somebody_else_made_runs_when_it_is_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "fib.wasm", "out.wasm"]) == 0
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(folder / "of somebody else"))
    used = []
    load = Precompiled.load

    def note(self: Precompiled) -> LoadedImage:
        used.append(1)
        return load(self)

    monkeypatch.setattr(Precompiled, "load", note)
    assert main(["run", "--invoke", "fib", "out.wasm", "5"]) == 0
    assert used == []
    assert main(["run", "--trust-precompiled", "--invoke", "fib", "out.wasm", "5"]) == 0
    assert used == [1]
    assert capsys.readouterr().out == "8\n8\n"


def test_compile_writes_ir_and_names_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "--dump-ir", "fib.wasm", "out.wasm"]) == 0
    assert (folder / "out.wasm.0.ll").read_text().startswith("define ")
    assert main(["compile", "fib.wasm", "fib.wasm"]) == 1
    assert main(["compile", "none.wasm", "out.wasm"]) == 1
    assert main(["compile", "fib.wasm", "none/out.wasm"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "is the module itself; write to another file" in lines[0]
    assert "none.wasm: invalid path" in lines[1]
    assert "cannot write none/out.wasm: No such file or directory" in lines[2]
    assert len(lines) == 3


def test_who_waits_for_compiling_sees_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = "".join(
        f'(func (export "f{n}") {"(drop (i32.const 1234567))" * 3_000})' for n in range(4)
    )
    path = tmp_path / "large.wasm"
    path.write_bytes(wat(f'(module {functions} (func (export "{os.urandom(8).hex()}")))'))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["compile", "--optimize", "1", str(path), str(tmp_path / "out.wasm")]) == 0
    assert "compiling [" in terminal.getvalue()
    assert "] 5 of 5 functions" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
