"""Programs that write, read and ask for the time through WASI, and the start of a small one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import wasmtime

from benchmarks.measure import interleave
from benchmarks.rows import Row
from tests.wat import wat
from wasmedge_runtime import Executor, Loader, Store, Validator, WasiImportObject

PIECE = 65536
PIECES = 3200  # 200 MiB
TIMES = 100_000

_IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (data (i32.const 0) "\\00\\00\\01\\00\\00\\00\\01\\00")  ;; an iovec: 65536 bytes at 65536
  (data (i32.const 64) "file")
  (data (i32.const 96) "\\68\\00\\00\\00\\06\\00\\00\\00hello\\0a")
"""

WRITES = f"""(module {_IMPORTS} (func (export "_start") (local i32)
  (loop $more
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 16)) (i32.const {PIECE})) (then unreachable))
    (br_if $more (i32.ne (i32.const {PIECES})
      (local.tee 0 (i32.add (local.get 0) (i32.const 1))))))))"""

READS = f"""(module {_IMPORTS} (func (export "_start") (local i32)
  (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 24)) (then unreachable))
  (loop $more
    (if (call $read (i32.load (i32.const 24)) (i32.const 0) (i32.const 1) (i32.const 16))
      (then unreachable))
    (local.set 0 (i32.add (local.get 0) (i32.load (i32.const 16))))
    (br_if $more (i32.load (i32.const 16))))
  (if (i32.ne (local.get 0) (i32.const {PIECE * PIECES})) (then unreachable))))"""

ASKS = f"""(module {_IMPORTS} (func (export "_start") (local i32)
  (loop $more
    (if (call $time (i32.const 1) (i64.const 0) (i32.const 16)) (then unreachable))
    (br_if $more (i32.ne (i32.const {TIMES})
      (local.tee 0 (i32.add (local.get 0) (i32.const 1))))))))"""

HELLO = f"""(module {_IMPORTS} (func (export "_start")
  (drop (call $write (i32.const 1) (i32.const 96) (i32.const 1) (i32.const 16)))))"""

# What the shortest script for the peer is: the compiled module is loaded from a file.
_PEER = """
import sys, wasmtime
engine = wasmtime.Engine()
linker, store, wasi = wasmtime.Linker(engine), wasmtime.Store(engine), wasmtime.WasiConfig()
linker.define_wasi()
wasi.inherit_stdout()
store.set_wasi(wasi)
module = wasmtime.Module.deserialize_file(engine, sys.argv[1])
linker.instantiate(store, module).exports(store)["_start"](store)
"""


def rows() -> Iterator[Row]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(folder / "file", "wb") as file:
            for _ in range(PIECES):
                file.write(bytes(PIECE))
        for title, text, calls, aim in (
            ("write 200 MiB in pieces of 64 KiB", WRITES, 1, 1.5),
            ("read a file of 200 MiB", READS, 1, 1.5),
            ("clock_time_get", ASKS, TIMES, None),
        ):
            module = wat(text)
            times = interleave({"ours": _ours(module, folder), "theirs": _theirs(module, folder)})
            yield Row(title, times["ours"] / calls, times["theirs"] / calls, aim=aim)
        yield _start(folder)


def _ours(module: bytes, folder: Path) -> Callable[[], None]:
    wasi = WasiImportObject(preopens={"/": folder}, stdout=os.devnull)
    store, executor = Store(), Executor()
    executor.register_import(store, wasi)
    ast = Loader().load_buffer(module)
    Validator().validate(ast)

    def run() -> None:
        executor.instantiate(store, ast)
        executor.invoke(store, "_start")

    run()
    return run


def _theirs(module: bytes, folder: Path) -> Callable[[], None]:
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    compiled = wasmtime.Module(engine, module)

    def run() -> None:
        store, wasi = wasmtime.Store(engine), wasmtime.WasiConfig()
        wasi.preopen_dir(str(folder), "/")
        wasi.stdout_file = os.devnull
        store.set_wasi(wasi)
        start = linker.instantiate(store, compiled).exports(store)["_start"]
        if not isinstance(start, wasmtime.Func):
            raise TypeError("_start is no function")
        start(store)

    run()
    return run


def _start(folder: Path) -> Row:
    """A new process each time; the module was compiled before."""
    (folder / "hello.wasm").write_bytes(wat(HELLO))
    compiled = wasmtime.Module(wasmtime.Engine(), wat(HELLO)).serialize()
    (folder / "hello.compiled").write_bytes(compiled)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def process(*command: str) -> Callable[[], None]:
        def run() -> None:
            done = subprocess.run(
                [sys.executable, *command], env=environment, capture_output=True, check=True
            )
            if done.stdout != b"hello\n":
                raise ValueError(f"the program printed {done.stdout!r}")

        run()
        return run

    times = interleave(
        {
            "ours": process("-m", "wasmedge_async", "run", str(folder / "hello.wasm")),
            "theirs": process("-c", _PEER, str(folder / "hello.compiled")),
        }
    )
    return Row("start of a small program, a process each", times["ours"], times["theirs"])
