"""How soon compiled files start: from the start of a process to the program's first line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import wasmtime

from benchmarks.measure import interleave
from benchmarks.programs import installed
from benchmarks.rows import Row
from wasmedge_runtime import Compiler, CompilerOutputFormat, Configure

AIM = 1.2
SCRIPT = "print('first line')\n"

# What the shortest scripts are. The peer lacks WasmEdge's socket functions, which are not called.
_PEER = """
import sys, wasmtime
engine = wasmtime.Engine()
module = wasmtime.Module.deserialize_file(engine, sys.argv[1])
linker, store, wasi = wasmtime.Linker(engine), wasmtime.Store(engine), wasmtime.WasiConfig()
linker.define_wasi()
wasi.argv = ["program", "script.js"]
wasi.inherit_stdout()
wasi.preopen_dir(".", ".")
store.set_wasi(wasi)
linker.define_unknown_imports_as_traps(module)
linker.instantiate(store, module).exports(store)["_start"](store)
"""
_OURS = """
import sys
from wasmedge_runtime import Executor, Loader, Store, Validator, WasiImportObject
module = Loader().load_file(sys.argv[1])
Validator().validate(module)
store, executor = Store(), Executor()
executor.register_import(store, WasiImportObject(["program", "script.js"], (), {".": "."}))
executor.instantiate(store, module)
executor.invoke(store, "_start")
"""


def rows() -> Iterator[Row]:
    """The start of QuickJS from files of both formats, if its module is there."""
    for _, module in installed(["qjs"]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "script.js").write_text(SCRIPT)
            engine = wasmtime.Engine()
            theirs = folder / "theirs"
            theirs.write_bytes(wasmtime.Module(engine, module.read_bytes()).serialize())
            starts = {"theirs": _process(folder, _PEER, theirs)}
            for output_format in CompilerOutputFormat:
                config = Configure()
                config.compiler_output_format = output_format
                path = folder / output_format.name.lower()
                Compiler(config).compile(module, path)
                starts[path.name] = _process(folder, _OURS, path)
            times = interleave(starts)
        for kind, title in (("wasm", "universal file"), ("native", "shared library")):
            yield Row(
                f"qjs, {title}: a process to its first line",
                times[kind],
                times["theirs"],
                "deserialize_file",
                AIM,
            )


def _process(folder: Path, script: str, file: Path) -> Callable[[], None]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # it would compile the engine each time

    def run() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", script, str(file)],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            line = "" if process.stdout is None else process.stdout.readline()
            process.kill()  # how long it takes to end is another question
        if line != "first line\n":
            raise ValueError(f"the program printed {line!r}")

    run()
    return run
