"""A pool compiles its module once: the compile process does, and workers only read the cache."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loops import Run
from tests.runtime.helpers import module_of
from tests.wat import wat
from wasmedge_async import (
    CodeState,
    CodeStatus,
    CompilationMode,
    Configure,
    PoolClosed,
    VMPool,
    WorkerDied,
)
from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.code_status import status_from_wire
from wasmedge_pool.compilation import Compilation
from wasmedge_pool.messages import GetCodeStatus
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.request import Request

SPIN = '(func (export "spin") (loop (br 0)))'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(place))
    return place


def module(units: int, seed: int = 0, slow: bool = False) -> bytes:
    """See `module_of`; and `spin`, which does not return."""
    return wat(module_of(units, seed, slow).replace("(module", f"(module {SPIN}", 1))


def in_mode(mode: CompilationMode) -> Configure:
    config = Configure()
    config.compilation_mode = mode
    return config


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def is_optimized(pool: VMPool) -> bool:
    return pool.code_status is not None and pool.code_status.state is CodeState.OPTIMIZED


def compile_process(pool: VMPool) -> int:
    return pool._compilation._process.pid


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()  # a zombie is still there


async def statuses(pool: VMPool) -> list[CodeStatus | None]:
    """What each worker says of its own code."""
    requests = []
    for worker in pool._pool._crew.ready:
        requests.append(Request(GetCodeStatus(0, VM_NAME)))
        worker.mailbox.submit(requests[-1])
    return [status_from_wire(await request.future) for request in requests]


def has_compiled(pid: int) -> bool:
    return "llvmlite" in Path(f"/proc/{pid}/maps").read_text()


def test_all_workers_get_the_code_that_one_process_makes(run: Run[None], folder: Path) -> None:
    """Also during a call that does not end, and a worker that starts later."""

    async def main() -> None:
        async with VMPool(module(3), workers=2) as pool:
            calls = [asyncio.ensure_future(pool.execute("f1", n)) for n in range(20)]
            assert [await call for call in calls] == [[n + 1] for n in range(20)]
            spinning = asyncio.ensure_future(pool.execute("spin"))
            await until(lambda: is_optimized(pool))
            made = entries(folder)
            await until(lambda: gone(compile_process(pool)))
            idle = [w for w in pool._pool._crew.ready if not w.mailbox.load]
            busy = next(w for w in pool._pool._crew.ready if w not in idle)
            os.kill(busy.mailbox.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await spinning
            await until(lambda: len(pool._pool.pids) == 2 and not busy.ready)
            later = pool._pool._crew.ready[-1]
            await asyncio.gather(*[pool.execute("f1", n) for n in range(200)])
            async with asyncio.timeout(60):
                while {s.state for s in await statuses(pool) if s} != {CodeState.OPTIMIZED}:
                    await asyncio.sleep(0.01)
            assert not has_compiled(later.mailbox.pid)
            assert entries(folder) == made

    run(main())


@pytest.mark.parametrize("mode", list(CompilationMode))
def test_workers_write_nothing(mode: CompilationMode, run: Run[None], folder: Path) -> None:
    async def main() -> None:
        pool = VMPool(module(2, 10), workers=2, config=in_mode(mode))
        # In its place something that makes nothing.
        pool._compilation = pool._pool._compilation = compilation = Compilation(
            in_mode(mode), None, "tests.pool.hostile_worker:fails_to_start"
        )
        pool._pool._crew._make_backend = compilation.make_worker
        async with pool:
            assert await pool.execute("f1", 5) == [16]
            assert await pool.execute("f0", 5) == [15]
            assert all(has_compiled(pid) for pid in pool._pool.pids[:1])
            if mode is CompilationMode.TIERED:
                await until(lambda: pool._compilation._begun)
        assert not folder.exists()

    run(main())


def test_progress_is_shown_in_the_event_loop(run: Run[None]) -> None:
    seen: list[CodeStatus] = []
    threads = set()

    def progress(status: CodeStatus) -> None:
        asyncio.get_running_loop()
        threads.add(threading.get_ident())
        seen.append(status)

    async def main() -> None:
        config = in_mode(CompilationMode.OPTIMIZED)
        code = module(4, 20, slow=True)
        async with VMPool(code, workers=1, config=config, progress=progress) as pool:
            assert pool.code_status == (CodeState.OPTIMIZED, 5, 0, 5, False)
            [status] = await statuses(pool)
            assert status == (CodeState.OPTIMIZED, 5, 0, 5, True)
            assert await pool.execute("f1", 5) == [26]
            assert not any(map(has_compiled, pool._pool.pids))
            await asyncio.sleep(0)
        assert threads == {threading.get_ident()}
        done = [status.optimized for status in seen]
        assert done == sorted(done)
        assert done[0] < done[-1], "it is shown before the end, too"
        assert seen[-1] == (CodeState.OPTIMIZED, 5, 0, 5, False)
        seen.clear()
        async with VMPool(code, workers=1, progress=progress) as pool:
            await until(lambda: bool(seen))
            assert not compile_process(pool)  # there is nothing to do
        assert seen == [(CodeState.OPTIMIZED, 5, 0, 5, True)]

    run(main())


def test_a_callback_that_fails_is_logged(run: Run[None], caplog: pytest.LogCaptureFixture) -> None:
    def progress(status: CodeStatus) -> None:
        raise KeyError("a mistake in the callback")

    async def main() -> None:
        config = in_mode(CompilationMode.OPTIMIZED)
        async with VMPool(module(2, 30), workers=1, config=config, progress=progress) as pool:
            assert await pool.execute("f1", 5) == [36]
            await until(lambda: bool(caplog.records))

    run(main())
    assert {record.message for record in caplog.records} == {"the pool's progress callback failed"}
    assert all(record.exc_info is not None for record in caplog.records)


@pytest.mark.parametrize("mode", [CompilationMode.TIERED, CompilationMode.OPTIMIZED])
def test_a_compile_process_that_is_killed_harms_no_call(
    mode: CompilationMode, run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    """Functions run baseline code."""
    caplog.set_level(logging.WARNING, "wasmedge")

    async def main() -> None:
        pool = VMPool(module(8, 40 + mode, slow=True), workers=2, config=in_mode(mode))
        call = asyncio.ensure_future(pool.execute("f1", 5))
        await until(lambda: pool.code_status is not None and pool.code_status.optimized < 8)
        await until(lambda: bool(compile_process(pool)))
        os.kill(compile_process(pool), signal.SIGKILL)
        assert await call == [46 + mode]
        await until(lambda: gone(compile_process(pool)))
        assert await pool.execute("f7", 5) == [52 + mode]
        await until(lambda: pool.code_status.state is CodeState.BASELINE)  # type: ignore[union-attr]
        await pool.close()

    run(main())
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "was ended by signal 9" in warning


@pytest.mark.parametrize("end", ["close", "kill"])
@pytest.mark.parametrize("cached", [True, False])
def test_a_pool_that_ends_while_it_compiles_leaves_nothing(
    end: str,
    cached: bool,
    run: Run[None],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not cached:
        monkeypatch.setenv("WASMEDGE_CACHE_DIR", "")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main() -> None:
        config = in_mode(CompilationMode.OPTIMIZED)
        async with VMPool(module(0), workers=1, config=config):
            pass  # uvloop opens descriptors of its own when they are first needed
        before = os.listdir("/proc/self/fd")
        pool = VMPool(module(8, 60, slow=True), workers=1, config=config)
        pool._pool.begin()
        await until(lambda: pool.code_status is not None and pool.code_status.optimized > 0)
        pid = compile_process(pool)
        private = list(tmp_path.glob("wasmedge-pool-*"))
        assert len(private) == (not cached)
        if private:
            assert stat.S_IMODE(private[0].stat().st_mode) == 0o700
            assert entries(private[0])
            assert helpers_of(pid)
        else:
            assert entries(folder)
        if end == "kill":
            pool.kill()
        helpers = helpers_of(pid)
        await pool.close()
        assert gone(pid)
        assert not list(tmp_path.glob("wasmedge-pool-*"))
        if not cached:
            await until(lambda: all(map(gone, helpers)))
            assert not list(tmp_path.glob("wasmedge-pool-*"))
        assert os.listdir("/proc/self/fd") == before

    run(main())


def helpers_of(pid: int) -> list[int]:
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and _parent(path) == pid
    ]


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_without_a_cache_a_pool_still_compiles_once(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main() -> None:
        config = in_mode(CompilationMode.OPTIMIZED)
        async with VMPool(module(2, 70), workers=2, config=config) as pool:
            assert await pool.execute("f1", 5) == [76]
            await until(lambda: len(pool._pool.pids) == 2)
            assert not any(map(has_compiled, pool._pool.pids))
            assert list(tmp_path.iterdir()) == [Path(pool._compilation._folder or "")]
        assert not list(tmp_path.iterdir())

    run(main())


@pytest.mark.parametrize("mode", list(CompilationMode))
def test_opening_a_pool_can_be_cancelled_while_it_compiles(
    mode: CompilationMode, run: Run[None]
) -> None:
    async def main() -> None:
        pool = VMPool(module(8, 80 + mode, slow=True), workers=2, config=in_mode(mode))
        opening = asyncio.ensure_future(pool.__aenter__())
        await asyncio.sleep(0.2)
        opening.cancel()
        await asyncio.wait([opening])
        await pool.close()
        assert not compile_process(pool) or gone(compile_process(pool))
        await until(lambda: not pool._pool._crew._tasks)  # none waits for ever

    run(main())


@pytest.mark.parametrize("lie", ["impossible_progress", "endless_progress", "garbage", "silent"])
def test_a_compile_process_that_lies_harms_no_call(lie: str, run: Run[None]) -> None:
    async def main() -> None:
        pool = VMPool(module(2, 90), workers=1)
        pool._compilation._process._target = f"tests.pool.hostile_worker:{lie}"
        async with pool:
            assert await pool.execute("f1", 5) == [96]
            await until(lambda: bool(compile_process(pool)))
            for n in range(300):
                assert await pool.execute("f0", n) == [n + 90]
                await asyncio.sleep(0.001)
            if lie != "silent":
                await until(lambda: gone(compile_process(pool)))
                assert not is_optimized(pool)
        assert gone(compile_process(pool))

    run(main())


def test_a_worker_that_needs_everything_costs_little(run: Run[None]) -> None:
    async def main() -> None:
        pool = VMPool(module(2, 92), workers=1)
        worker = pool._compilation.make_worker()
        assert isinstance(worker, WorkerProcess)
        worker._target = "tests.pool.hostile_worker:wants_for_ever"
        pool._pool._crew._make_backend = lambda: worker
        call = asyncio.ensure_future(pool.execute("f1", 5))
        await until(lambda: len(pool._compilation._wanted) > 50_000)
        await asyncio.sleep(0.2)
        assert len(pool._compilation._wanted) <= 1 << 16
        pool.kill()
        with pytest.raises(PoolClosed):
            await call
        await pool.close()

    run(main())
