"""Programs for WASI in worker processes: their streams are closed, their deadlines hold."""

from __future__ import annotations

import asyncio

import pytest

from tests.api import modules
from tests.api.test_cli import PROGRAM, SLEEPER
from tests.wat import wat
from wasmedge_async import VM, CallTimeout, Configure, HostRegistration, LoadError, VMPool

pytestmark = pytest.mark.asyncio


async def test_a_program_runs_to_its_end() -> None:
    async with VM(Configure(HostRegistration.WASI)) as vm:
        assert await vm.run_wasm_buffer(wat(PROGRAM), "_start") == []


async def test_a_deadline_ends_a_program_that_sleeps() -> None:
    async with VM(Configure(HostRegistration.WASI)) as vm:
        with pytest.raises(CallTimeout):
            await vm.run_wasm_buffer(wat(SLEEPER), "_start", timeout=0.1)
        assert await vm.run_wasm_buffer(wat(PROGRAM), "_start") == []


async def test_a_program_that_is_told_to_end_before_it_began_ends() -> None:
    async with VM() as vm:
        process = await vm.spawn(wat(SLEEPER))
        process.terminate()
        assert await process.wait() == -15
        await process.aclose()
        ended = await vm.spawn(wat(PROGRAM))
        assert await ended.communicate() == (b"program.wasm\0", b"")


async def test_programs_of_a_pool_have_a_worker_each_while_they_run() -> None:
    async with VMPool(modules.fibonacci(), workers=2) as pool:
        programs = [await pool.spawn(wat(SLEEPER)) for _ in range(2)]
        for program in programs:
            assert program.stdout is not None
            assert await program.stdout.receive() == b"ready\n"
        waiting = asyncio.create_task(pool.execute("fib", 10))
        assert not (await asyncio.wait([waiting], timeout=0.05))[0]
        for program in programs:
            program.terminate()
            assert await program.wait() == -15
        assert await waiting == [89]


async def test_a_pool_goes_on_when_a_program_is_killed() -> None:
    async with VMPool(modules.fibonacci(), workers=1) as pool:
        async with await pool.spawn(wat(SLEEPER)) as program:
            assert program.stdout is not None
            await program.stdout.receive()
        assert program.returncode == -9
        assert await pool.execute("fib", 10) == [89]


async def test_what_is_no_program_leaves_the_worker_to_others() -> None:
    async with VMPool(modules.fibonacci(), workers=1) as pool:
        with pytest.raises(LoadError):
            await (await pool.spawn(b"no module")).wait()
        with pytest.raises(TypeError):
            await pool.spawn(b"", args=[1])  # type: ignore[list-item]
        assert await pool.execute("fib", 10) == [89]


async def test_closing_a_pool_waits_for_its_programs() -> None:
    async with VMPool(modules.fibonacci(), workers=1) as pool:
        program = await pool.spawn(wat(PROGRAM), args=["program", "x"])
        reading = asyncio.create_task(program.communicate())
        await pool.close()
        assert await reading == (b"program\0x\0", b"")
        assert program.returncode == 2
