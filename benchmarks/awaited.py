"""What awaiting costs: calls into virtual machines and pools, streams, and their start.

Everything is measured in a process of its own, in which nothing has loaded the engine, as in the
programs of users. `python -m benchmarks.awaited` measures only this and prints a table.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import first, in_flight, report, streaming
from benchmarks.measure import AwaitedRun, interleave_awaited, repeat_awaited
from benchmarks.peers import ThreadedWasmtime, echo, executor, identity
from benchmarks.rows import Figures, Row
from tests.wat import wat
from wasmedge_async import VM, Function, FunctionType, ImportObject, ValType
from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.messages import Call
from wasmedge_pool.protocol import encode

ROOT = Path(__file__).resolve().parent.parent
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

CALLS = 100  # awaited one after the other, in each run
ROUNDS = 61  # many short runs: the system's scheduler is what varies most
HOST_CALLS = 500  # from a loop in wasm, in each run

EMPTY = '(module (func (export "empty")))'
_HOSTS = {
    "coroutine": "coroutine",
    "plain": "plain",
    "memory": "plain, uses memory",
    "worker": "in the worker",
}


def request_size() -> int:
    """The bytes that a call of `empty` in a VM sends, its number in eight of them."""
    return len(encode(Call(2**32, VM_NAME, None, "empty", (), None)))


async def calls(loop: str) -> Figures:
    """One awaited call of an empty function, the next when it has returned."""
    threaded = ThreadedWasmtime(wat(EMPTY))
    running = asyncio.get_running_loop()
    with executor(1) as processes:
        async with VM() as vm, echo(request_size()) as echoed:
            await vm.load_wasm_buffer(wat(EMPTY))
            await vm.validate()
            await vm.instantiate()
            alternatives = {
                "ours": lambda: vm.execute("empty"),
                "an echo": echoed,
                "wasmtime in a thread": lambda: asyncio.to_thread(threaded.call, "empty"),
                "an executor": lambda: running.run_in_executor(processes, identity, 1),
            }
            for call in alternatives.values():
                await repeat_awaited(call, CALLS)()
            times = await interleave_awaited(
                {name: repeat_awaited(call, CALLS) for name, call in alternatives.items()}, ROUNDS
            )
    return Figures(
        [
            Row(
                f"{loop}: a call, beside {peer}",
                times["ours"] / CALLS,
                times[peer] / CALLS,
                peer,
                aim,
            )
            for peer, aim in (
                ("an echo", 1.5),
                ("wasmtime in a thread", None),
                ("an executor", None),
            )
        ]
    )


def worker_identity(_: object, memory: object, number: int) -> int:
    """A host function that runs in the worker."""
    return number


def _host_module() -> bytes:
    imports = (f'(import "host" "{n}" (func ${n} (param i32) (result i32)))' for n in _HOSTS)
    loops = (
        f"""(func (export "call_{name}") (param $n i32) (result i32) (local $x i32)
          (loop $again
            (local.set $x (i32.add (call ${name} (local.get $x)) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $x) (local.get $n))))
          (local.get $x))"""
        for name in _HOSTS
    )
    return wat(
        f"""(module {" ".join(imports)} (memory (export "memory") 1)
        (func (export "empty")) {" ".join(loops)})"""
    )


def _host_functions() -> ImportObject:
    async def coroutine(data: object, memory: object, number: int) -> int:
        return number

    def plain(data: object, memory: object, number: int) -> int:
        return number

    def with_memory(data: object, memory: Any, number: int) -> int:
        memory.set_data(number.to_bytes(4, "little"), 8)
        return int.from_bytes(memory.get_data(8, 4), "little")

    bodies: tuple[Callable[..., Any] | str, ...] = (
        coroutine,
        plain,
        with_memory,
        "benchmarks.awaited:worker_identity",
    )
    imports = ImportObject("host")
    kind = FunctionType([ValType.I32], [ValType.I32])
    for name, body in zip(_HOSTS, bodies, strict=True):
        imports.add_function(name, Function(kind, body))
    return imports


async def host_functions(loop: str) -> Figures:
    """One call of each kind of host function, from a loop in wasm, beside an empty call."""
    async with VM() as vm:
        await vm.register_import(_host_functions())
        await vm.load_wasm_buffer(_host_module())
        await vm.validate()
        await vm.instantiate()

        async def through(name: str) -> None:
            if await vm.execute(f"call_{name}", HOST_CALLS) != [HOST_CALLS]:
                raise AssertionError(f"{name}: a host function gave something else")

        alternatives: dict[str, AwaitedRun] = {name: partial(through, name) for name in _HOSTS}
        for run in alternatives.values():
            await run()
        alternatives["empty"] = repeat_awaited(lambda: vm.execute("empty"), HOST_CALLS)
        times = await interleave_awaited(alternatives)
    empty = times["empty"] / HOST_CALLS
    return Figures(
        [
            Row(f"{loop}: host function, {about}", times[name] / HOST_CALLS, empty, "an empty call")
            for name, about in _HOSTS.items()
        ]
    )


LOOP_MEASUREMENTS = (
    calls,
    host_functions,
    in_flight.calls,
    in_flight.many,
    streaming.output,
)
# These take the same time with any.
OTHER_MEASUREMENTS = (in_flight.speed_up, in_flight.clean_instances)


def _add(found: Figures, more: Figures) -> None:
    for row in more.rows:
        print(f"  {row.name}: {row.ratio:.2f}", file=sys.stderr, flush=True)
    found.rows.extend(more.rows)
    found.rates.update(more.rates)


def measure() -> Figures:
    """All figures, measured in this process."""
    found = Figures([])
    for name, factory in LOOPS.items():
        with asyncio.Runner(loop_factory=factory) as runner:
            for each in LOOP_MEASUREMENTS:
                _add(found, runner.run(each(name)))
    for other in OTHER_MEASUREMENTS:
        _add(found, asyncio.run(other()))
    _add(found, first.starts())
    return found


def in_child() -> Figures:
    """All figures, measured in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        subprocess.run(
            [sys.executable, "-m", "benchmarks.awaited", str(file)], cwd=ROOT, check=True
        )
        data = json.loads(file.read_text())
    return Figures([Row(**row) for row in data["rows"]], data["rates"])


def main(files: list[str]) -> None:
    """Print a table, or write the figures into a file as JSON."""
    found = measure()
    if files:
        Path(files[0]).write_text(json.dumps(asdict(found)))
    else:
        print(report.table(found.rows, [], found.rates))


if __name__ == "__main__":
    main(sys.argv[1:])
