"""Programs for WASI in worker processes: their streams are closed, their deadlines hold."""

from __future__ import annotations

import pytest

from tests.api.test_cli import PROGRAM, SLEEPER
from tests.wat import wat
from wasmedge_async import VM, CallTimeout, Configure, HostRegistration

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
