"""What the benchmarks of awaited calls compare does the same on both sides."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import awaited, first, in_flight, streaming
from benchmarks.measure import interleave_awaited, repeat_awaited
from benchmarks.peers import ThreadedWasmtime, echo, executor, identity
from tests.wat import wat
from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.messages import Call
from wasmedge_pool.protocol import address, encode


def test_an_echo_is_as_long_as_what_was_sent() -> None:
    async def main() -> list[object]:
        async with echo(21) as call:
            return [await call(), await call()]

    assert asyncio.run(main()) == [bytes(21), bytes(21)]


def test_the_echo_is_as_long_as_the_message_of_a_call() -> None:
    call = encode(Call(0, VM_NAME, None, "empty", (), None))
    assert awaited.request_size() == len(address(call, 1))


def test_the_peers_return_what_they_are_given() -> None:
    threaded = ThreadedWasmtime(wat(in_flight.IDENTITY))
    assert threaded.call("identity", 7) == 7
    with executor(1) as processes:
        assert processes.submit(identity, 7).result() == 7


def test_awaited_alternatives_are_timed_in_turns() -> None:
    order: list[str] = []

    async def call(name: str) -> None:
        order.append(name)

    runs = {"a": lambda: call("a"), "b": lambda: call("b")}
    times = asyncio.run(interleave_awaited(runs, rounds=3))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert sorted(times) == ["a", "b"]


def test_tasks_make_their_calls_side_by_side() -> None:
    running = most = made = 0

    async def call() -> None:
        nonlocal running, most, made
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        made += 1

    async def main() -> None:
        await repeat_awaited(call, 2, tasks=3)()

    asyncio.run(main())
    assert (made, most) == (6, 3)


def test_every_measurement_gives_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, sizes in (
        (awaited, {"CALLS": 2, "ROUNDS": 1, "HOST_CALLS": 2}),
        (in_flight, {"TASKS": 3, "CALLS": 1, "SLOW_CALLS": 1, "ROUNDS": 1, "MANY": 4}),
        (in_flight, {"FIBONACCI": 2, "COMPUTATIONS": 2}),
        (streaming, {"PIECES": 2, "LINE_PIECES": 1, "ROUNDS": 1}),
        (first, {"ROUNDS": 1}),
    ):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)
    found = awaited.measure()
    names = [row.name for row in found.rows]
    assert len(set(names)) == len(names)
    assert all(row.ours > 0 and row.theirs > 0 for row in found.rows)
    for loop in awaited.LOOPS:
        assert {f"{loop}: {rate}" for rate in ("1,000 in flight", "execute_many", "lines")} <= set(
            found.rates
        )


def test_a_start_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit code 3"):
        first.first_line("raise SystemExit(3)", tmp_path, tmp_path)


def test_the_program_prints_what_cat_is_given(tmp_path: Path) -> None:
    program = tmp_path / "program.wasm"
    program.write_bytes(streaming.program(2))
    command = [sys.executable, "-m", "wasmedge_async", "run", str(program)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == streaming.printed(2)
