"""WASI programs in a pool: spawned ones, and what pooled calls see of the world."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.loops import Run
from tests.wat import wat
from wasmedge_async import (
    VMPool,
    WasiImportObject,
    WasmEdgeProcessImportObject,
    WorkerDied,
)

# Copies stdin to stdout, and ends with the exit code 3.
ECHO = wat("""(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (loop $more
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (if (i32.load (i32.const 8))
        (then
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
          (br $more))))
    (call $exit (i32.const 3))))""")

# What a call opens, and whether the folder is still there.
FILES = wat("""(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "file.txt")
  (func (export "open") (result i32 i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64))
    (i32.load (i32.const 64)))
  (func (export "close") (param i32) (result i32) (call $close (local.get 0))))""")

EMPTY = wat('(module (func (export "f")))')

COMMAND = wat("""(module
  (import "wasmedge_process" "wasmedge_process_set_prog_name" (func $name (param i32 i32)))
  (import "wasmedge_process" "wasmedge_process_add_arg" (func $arg (param i32 i32)))
  (import "wasmedge_process" "wasmedge_process_run" (func $run (result i32)))
  (import "wasmedge_process" "wasmedge_process_get_stdout_len" (func $length (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "echohello")
  (func (export "set") (call $name (i32.const 0) (i32.const 4)))
  (func (export "echo") (result i32 i32)
    (call $name (i32.const 0) (i32.const 4))
    (call $arg (i32.const 4) (i32.const 5))
    (call $run) (call $length)))""")


def test_programs_run_beside_calls(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(EMPTY, workers=2) as pool, await pool.spawn(ECHO) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(b"one\ntwo\n")
            lines = process.stdout.lines()
            assert [await anext(lines), await anext(lines)] == ["one", "two"]
            assert await pool.execute("f") == []
            await process.stdin.aclose()
            assert await process.wait() == 3

    run(main())


def test_more_programs_than_workers_take_turns(run: Run[None]) -> None:
    async def one(pool: VMPool, number: int) -> bytes | None:
        async with await pool.spawn(ECHO) as process:
            output, _ = await process.communicate(b"%d" % number * 100_000)
            assert process.returncode == 3
            return output

    async def main() -> None:
        async with VMPool(EMPTY, workers=2) as pool:
            outputs = await asyncio.gather(*[one(pool, number) for number in range(6)])
            assert outputs == [b"%d" % number * 100_000 for number in range(6)]
            async with pool.acquire(), pool.acquire():
                pass  # both workers are free again

    run(main())


def test_a_program_that_is_killed_costs_its_worker_only(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(EMPTY, workers=1) as pool:
            process = await pool.spawn(ECHO)
            waiting = asyncio.create_task(pool.execute("f"))
            await asyncio.sleep(0.05)
            process.kill()
            assert await process.wait() == -9
            await process.aclose()
            assert await waiting == []

    run(main())


def test_a_program_that_is_terminated_frees_its_worker(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(EMPTY, workers=1) as pool:
            [pid] = [worker.pid for worker in pool.stats().workers]
            process = await pool.spawn(ECHO)
            process.terminate()
            assert await process.wait() == -15
            await process.aclose()
            assert await pool.execute("f") == []
            assert [worker.pid for worker in pool.stats().workers] == [pid]

    run(main())


def test_what_is_wrong_with_a_program_takes_no_worker(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(EMPTY, workers=1) as pool:
            with pytest.raises(TypeError):
                await pool.spawn(ECHO, stdout=3.5)  # type: ignore[arg-type]
            async with await pool.spawn(b"nonsense") as process:
                with pytest.raises(Exception, match="magic"):
                    await process.wait()
            assert await pool.execute("f") == []

    run(main())


def test_each_pooled_call_sees_the_files_as_configured(run: Run[None], tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("content")

    async def main() -> None:
        wasi = WasiImportObject(preopens={"/": tmp_path})
        async with VMPool(FILES, workers=1, imports=[wasi]) as pool:
            errno, number = await pool.execute("open")
            assert errno == 0
            assert await pool.execute("close", number) == [8], "BADF: it was closed with its call"
            assert await pool.execute("close", 3) == [0]
            assert await pool.execute("open") == [0, number], "the folder is there again"
            assert await pool.execute_many("close", [(3,), (3,)]) == [[0], [0]]

    run(main())


def test_a_pools_calls_run_allowed_commands_and_share_nothing(run: Run[None]) -> None:
    async def main() -> None:
        commands = WasmEdgeProcessImportObject(allowed_commands=["echo"])
        async with VMPool(COMMAND, workers=1, imports=[commands]) as pool:
            assert await pool.execute("echo") == [0, 6]
            assert await pool.execute("echo") == [0, 6], "the argument of the first call is gone"

    run(main())


def test_a_worker_that_dies_under_a_program_says_so(run: Run[None]) -> None:
    async def main() -> None:
        async with VMPool(EMPTY, workers=1) as pool:
            [pid] = [worker.pid for worker in pool.stats().workers]
            async with await pool.spawn(ECHO) as process:
                await asyncio.sleep(0.05)
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(WorkerDied):
                    await process.wait()
                assert process.returncode == -9
            assert await pool.execute("f") == []

    run(main())
