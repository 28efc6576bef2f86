"""What a WASI program prints, as it arrives in the event loop, beside the same from `cat`."""

from __future__ import annotations

import asyncio
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from benchmarks.measure import AwaitedRun, interleave_awaited
from benchmarks.rows import Figures, Row
from tests.wat import wat
from wasmedge_async import VM, Process, ReceiveStream

PIECE = 65_536  # bytes in one write
PIECES = 3_200  # 200 MiB
ROUNDS = 7
LINE_PIECES = 100  # 204,800 lines
LINE = "a line of thirty-two characters"

_PROGRAM = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\\00\\00\\01\\00\\00\\00\\01\\00")  ;; an iovec: 65536 bytes at 65536
  (data (i32.const 65536) "{line}\\0a")
  (func (export "_start") (local $place i32) (local $pieces i32)
    (loop $fill
      (local.set $place (i32.add (local.get $place) (i32.const 32)))
      (memory.copy (i32.add (i32.const 65536) (local.get $place)) (i32.const 65536) (i32.const 32))
      (br_if $fill (i32.lt_u (local.get $place) (i32.const 65504))))
    (loop $more
      (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))
        (then unreachable))
      (if (i32.ne (i32.load (i32.const 16)) (i32.const 65536)) (then unreachable))
      (local.set $pieces (i32.add (local.get $pieces) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $pieces) (i32.const {pieces}))))))"""


def program(pieces: int) -> bytes:
    """A program that prints so many pieces, full of lines."""
    return wat(_PROGRAM.format(line=LINE, pieces=pieces))


def printed(pieces: int) -> bytes:
    """What it prints."""
    return f"{LINE}\n".encode() * (pieces * PIECE // 32)


async def bytes_of(vm: VM, pieces: int) -> None:
    """Take what the program prints as bytes."""
    size = 0
    async with await vm.spawn(program(pieces), stderr=DEVNULL) as process:
        async for chunk in _stdout(process):
            size += len(chunk)
        await process.wait()
    _expect(size, pieces * PIECE)


async def bytes_of_cat(file: Path, pieces: int) -> None:
    """Take what `cat` prints as bytes."""
    size = 0
    process, stdout = await _cat(file)
    while chunk := await stdout.read(PIECE):
        size += len(chunk)
    await process.wait()
    _expect(size, pieces * PIECE)


async def lines_of(vm: VM, pieces: int) -> None:
    """Take what the program prints as lines of text."""
    count = 0
    async with await vm.spawn(program(pieces), stderr=DEVNULL) as process:
        async for _ in _stdout(process).lines():
            count += 1
        await process.wait()
    _expect(count, pieces * PIECE // 32)


async def lines_of_cat(file: Path, pieces: int) -> None:
    """Take what `cat` prints as lines of text."""
    count = 0
    process, stdout = await _cat(file)
    async for line in stdout:
        line.decode()
        count += 1
    await process.wait()
    _expect(count, pieces * PIECE // 32)


def _stdout(process: Process) -> ReceiveStream:
    if process.stdout is None:
        raise TypeError("the program has no standard output")
    return process.stdout


async def _cat(file: Path) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec("cat", file, stdout=PIPE)
    if process.stdout is None:
        raise TypeError("the process has no standard output")
    return process, process.stdout


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise AssertionError(f"{found} instead of {wanted} have arrived")


async def output(loop: str) -> Figures:
    """The time from a program's start until all that it prints has been taken."""
    with tempfile.TemporaryDirectory() as name:
        large, small = Path(name, "large"), Path(name, "small")
        large.write_bytes(printed(PIECES))
        small.write_bytes(printed(LINE_PIECES))
        async with VM() as vm:
            taken = await _compare(
                lambda: bytes_of(vm, PIECES), lambda: bytes_of_cat(large, PIECES)
            )
            lines = await _compare(
                lambda: lines_of(vm, LINE_PIECES), lambda: lines_of_cat(small, LINE_PIECES)
            )
    count, size = LINE_PIECES * PIECE // 32, PIECES * PIECE / 2**20
    mebibyte = Row(f"{loop}: 1 MiB printed", taken["ours"] / size, taken["theirs"] / size, "cat")
    line = Row(f"{loop}: a line printed", lines["ours"] / count, lines["theirs"] / count, "cat")
    return Figures(
        [mebibyte, line],
        {
            f"{loop}: output": f"{_speed(mebibyte.ours)}, cat {_speed(mebibyte.theirs)}",
            f"{loop}: lines": f"{_count(line.ours)}, cat {_count(line.theirs)}",
        },
    )


def _speed(seconds: float) -> str:
    return f"{2**20 / 1e6 / seconds:,.0f} MB/s"


def _count(seconds: float) -> str:
    return f"{round(1 / seconds, -3):,.0f} lines/s"


async def _compare(ours: AwaitedRun, theirs: AwaitedRun) -> dict[str, float]:
    await ours()
    await theirs()
    return await interleave_awaited({"ours": ours, "theirs": theirs}, ROUNDS)
