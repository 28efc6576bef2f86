"""Compiled files in asynchronous VMs and pools: their workers load them as they load modules."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.api import modules
from tests.loops import Run
from wasmedge_async import VM, Configure, VMPool
from wasmedge_runtime import CodeState, Compiler, CompilerOutputFormat
from wasmedge_runtime.tiers.status import CodeStatus


@pytest.fixture(params=list(CompilerOutputFormat))
def compiled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    config = Configure()
    config.compiler_output_format = request.param
    (tmp_path / "module.wasm").write_bytes(modules.fibonacci())
    Compiler(config).compile(tmp_path / "module.wasm", tmp_path / "compiled")
    return tmp_path / "compiled"


async def status_of(path: Path, config: Configure | None = None) -> CodeStatus | None:
    async with VM(config) as vm:
        assert await vm.run_wasm_file(path, "fib", 20) == [10946]
        return await vm.get_code_status()


def test_a_vm_runs_the_code_in_a_file(run: Run[None], compiled: Path) -> None:
    async def main() -> None:
        assert await status_of(compiled) == CodeStatus(CodeState.PRECOMPILED, 1, 0, 1, True)

    run(main())


def test_a_pool_runs_compiled_files(run: Run[None], compiled: Path) -> None:
    async def main() -> None:
        async with VMPool(compiled, workers=1) as pool:
            assert await pool.execute("fib", 20) == [10946]
            while pool.code_status is None:
                await asyncio.sleep(0.01)
            assert pool.code_status.state == CodeState.PRECOMPILED

    run(main())


def test_a_worker_trusts_what_its_configuration_trusts(
    run: Run[None], compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(tmp_path / "of somebody else"))
    config = Configure()
    config.trust_precompiled = True

    async def main() -> None:
        foreign, trusted = await status_of(compiled), await status_of(compiled, config)
        assert foreign is not None
        assert foreign.state != CodeState.PRECOMPILED
        assert trusted is not None
        assert trusted.state == CodeState.PRECOMPILED

    run(main())
