"""From nothing to a first result, and from a worker's death to the next one's first result.

Each sample is a new interpreter that runs one of these scripts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import build
from benchmarks.measure import medians, turns
from benchmarks.rows import Figures, Row
from tests.wat import wat

ROUNDS = 7

_POOL = """
import asyncio, sys
from wasmedge_async import VMPool
async def main():
    async with VMPool(sys.argv[1], workers=2) as pool:
        print(await pool.execute("run", 20), flush=True)
asyncio.run(main())
"""

# Optimises everything, and so fills the cache.
_FILL = """
import asyncio, sys
from wasmedge_async import CompilationMode, Configure, VMPool
async def main():
    configuration = Configure()
    configuration.compilation_mode = CompilationMode.OPTIMIZED
    async with VMPool(sys.argv[1], workers=2, config=configuration) as pool:
        print(await pool.execute("run", 20), flush=True)
asyncio.run(main())
"""

_WASMTIME = """
import sys, wasmtime
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
instance = wasmtime.Instance(store, wasmtime.Module.from_file(engine, sys.argv[1]), [])
print([instance.exports(store)["run"](store, 20)], flush=True)
"""

_EXECUTOR = """
import asyncio
from concurrent.futures import ProcessPoolExecutor
async def main():
    with ProcessPoolExecutor(2) as executor:
        loop = asyncio.get_running_loop()
        print([await loop.run_in_executor(executor, int, "10946")], flush=True)
asyncio.run(main())
"""

# These print how long it took: the interpreter's start does not belong to it.
_REPLACED = """
import asyncio, os, signal, sys, time
from wasmedge_async import VMPool
async def main():
    async with VMPool(sys.argv[1], workers=1) as pool:
        await pool.execute("run", 20)
        [worker] = pool.stats().workers
        os.kill(worker.pid, signal.SIGKILL)
        started = time.perf_counter()
        await pool.execute("run", 20)
        print(time.perf_counter() - started)
asyncio.run(main())
"""

# An executor does not replace a process: it is broken, and the program makes a new one.
_EXECUTOR_REPLACED = """
import asyncio, multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
async def main():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1) as executor:
        await loop.run_in_executor(executor, int, "10946")
        [process] = multiprocessing.active_children()
        os.kill(process.pid, signal.SIGKILL)
        started = time.perf_counter()
        while True:
            try:
                await loop.run_in_executor(executor, int, "10946")
            except BrokenProcessPool:
                break
    with ProcessPoolExecutor(1) as executor:
        await loop.run_in_executor(executor, int, "10946")
        print(time.perf_counter() - started)
asyncio.run(main())
"""


def first_line(script: str, module: Path, cache: Path) -> tuple[str, float]:
    """The first line that a script prints in a new interpreter, and how long that took."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "WASMEDGE_CACHE_DIR": str(cache),
    }
    command = [sys.executable, "-c", script, str(module)]
    started = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with child:
        line = child.stdout.readline() if child.stdout else ""
        taken = time.perf_counter() - started
    if child.returncode or not line:
        raise RuntimeError(f"a script failed with exit code {child.returncode}:\n{script}")
    return line.strip(), taken


def starts() -> Figures:
    """All figures."""
    scripts = {
        "cold": _POOL,
        "warm": _POOL,
        "wasmtime": _WASMTIME,
        "an executor": _EXECUTOR,
        "replaced": _REPLACED,
        "a new executor": _EXECUTOR_REPLACED,
    }
    times: dict[str, list[float]] = {name: [] for name in scripts}
    with tempfile.TemporaryDirectory() as folder:
        module, filled = Path(folder, "fib.wasm"), Path(folder, "filled")
        module.write_bytes(wat((build.KERNELS / "fib.wat").read_text()))
        first_line(_FILL, module, filled)
        for name in turns(list(scripts), ROUNDS):
            with tempfile.TemporaryDirectory(dir=folder) as empty:
                cache = Path(empty) if name == "cold" else filled
                line, taken = first_line(scripts[name], module, cache)
            if name in ("replaced", "a new executor"):
                taken = float(line)
            elif line != "[10946]":
                raise AssertionError(f"{name}: the first result is {line}")
            times[name].append(taken)
    middle = medians(times)
    replaced = Row(
        "a killed worker's successor",
        middle["replaced"],
        middle["a new executor"],
        "a new executor",
    )
    return Figures(
        [
            *(
                Row(f"first result, {cache}, beside {peer}", middle[cache], middle[peer], peer)
                for cache in ("cold", "warm")
                for peer in ("wasmtime", "an executor")
            ),
            replaced,
        ]
    )
