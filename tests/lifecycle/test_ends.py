"""Event loops that are closed early, and programs that end without closing: one warning, no more.

A program's warnings are errors, except where it forgets to close: there they are shown.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.test_cli import SLEEPER
from tests.lifecycle.script import LOOPS, Ended, Program
from tests.wat import wat

SHOWN = ("-X", "dev")

pytestmark = pytest.mark.parametrize("loop", LOOPS)


def warned_once(ended: Ended, what: str, method: str) -> bool:
    """Whether there is one warning that names the fix, and nothing else (but the line it is in)."""
    lines = [
        line
        for line in ended.err.splitlines()
        if line.strip() != "warnings.warn(message, ResourceWarning, source=self, stacklevel=1)"
        and not line.startswith("ResourceWarning: Enable tracemalloc")
    ]
    return (
        len(lines) == 1
        and f"ResourceWarning: unclosed <wasmedge_async.{what}" in lines[0]
        and lines[0].endswith(f"use `async with` or `await {method}()`")
    )


def test_a_program_that_closes_leaves_nothing(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        async def main():
            async with VM() as vm, VMPool(MODULE, workers=2) as pool:
                await vm.run_wasm_buffer(MODULE, "empty")
                print(await pool.execute("add", 1, 2))
            fds = len(os.listdir("/proc/self/fd"))
            async with VM() as vm, VMPool(MODULE, workers=2) as pool:
                await vm.run_wasm_buffer(MODULE, "empty")
            assert len(os.listdir("/proc/self/fd")) == fds
        run(main())
        """,
        loop,
    ).end()
    assert ended == (0, "[3]\n", "", [])


@pytest.mark.parametrize("holder", ["global vm", "pass"])
def test_a_vm_left_open_when_the_program_ends(loop: str, holder: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        f"""
        async def main():
            {holder}
            vm = await opened()
            print(await vm.execute("add", 1, 2))
        run(main())
        """,
        loop,
        SHOWN,
    ).end()
    assert ended[:2] == (0, "[3]\n")
    assert ended.left == []
    assert warned_once(ended, "VM", "vm.close"), ended.err


def test_a_pool_left_open_with_calls_when_the_program_ends(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        async def main():
            global pool, calls
            pool = VMPool(MODULE, workers=2)
            print(await pool.execute("add", 1, 2))
            calls = [asyncio.ensure_future(pool.execute("spin")) for _ in range(5)]
            await asyncio.sleep(0.05)
        run(main())
        """,
        loop,
        SHOWN,
    ).end()
    assert ended[:2] == (0, "[3]\n")
    assert ended.left == []
    assert warned_once(ended, "VMPool", "pool.close"), ended.err


def test_a_pool_that_is_still_starting_when_the_program_ends(loop: str, tmp_path: Path) -> None:
    """All tasks are cancelled at once: the pool's own, and the one that holds it."""
    ended = Program(
        tmp_path,
        """
        async def hold():
            async with VMPool(MODULE, workers=2):
                pass
        async def main():
            global holding
            holding = asyncio.ensure_future(hold())
            await asyncio.sleep(0.02)
        run(main())
        """,
        loop,
    ).end(seconds=20)
    assert ended == (0, "", "", [])


def test_a_program_that_ends_by_an_exception(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        async def main():
            async with VM() as vm:
                call = asyncio.ensure_future(vm.run_wasm_buffer(MODULE, "spin"))
                await asyncio.sleep(0.1)
                try:
                    raise KeyError("mine")
                finally:
                    call.cancel()
        try:
            run(main())
        except KeyError as error:
            print(repr(error))
        """,
        loop,
    ).end()
    assert ended == (0, "KeyError('mine')\n", "", [])


def test_a_loop_closed_without_a_word(loop: str, tmp_path: Path) -> None:
    """By hand, not by `asyncio.run`: with calls that run, a pool, and a VM that starts."""
    ended = Program(
        tmp_path,
        """
        async def main():
            global vm, pool
            vm = await opened()
            pool = VMPool(MODULE, workers=2)
            await pool.execute("add", 1, 2)
            calls = [asyncio.ensure_future(each.execute("spin")) for each in (vm, pool)]
            await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        loop = new_loop()
        loop.run_until_complete(main())
        fds = len(os.listdir("/proc/self/fd"))
        loop.close()
        try:
            run(vm.close())
            run(pool.close())
            del vm, pool
        except BaseException as error:
            print(repr(error))
        print(len(os.listdir("/proc/self/fd")) < fds - 8)
        """,
        loop,
        # uvloop has its own word to say of a transport when warnings are shown.
        ("-X", "dev", "-W", "error", "-W", "ignore:unclosed resource <UnixTransport")
        if loop == "uvloop"
        else ("-X", "dev", "-W", "error"),
    ).end()
    assert ended == (0, "True\n", "", [])


@pytest.mark.parametrize("last", ["loop.close()", "loop.close(); del vm", "pass"])
def test_a_vm_left_open_when_its_loop_is_closed(loop: str, last: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        f"""
        loop = new_loop()
        vm = loop.run_until_complete(opened())
        {last}
        """,
        loop,
        (*SHOWN, "-W", "ignore:unclosed resource <UnixTransport", "-W", "ignore:unclosed event"),
    ).end()
    assert ended[:2] == (0, "")
    assert ended.left == []
    assert warned_once(ended, "VM", "vm.close"), ended.err


def test_a_pool_left_open_when_its_loop_is_closed(loop: str, tmp_path: Path) -> None:
    """The other workers are still starting."""
    ended = Program(
        tmp_path,
        """
        async def main():
            global pool
            pool = VMPool(MODULE, workers=3)
            print(await pool.execute("add", 1, 2))
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
        loop,
        (*SHOWN, "-W", "ignore:unclosed resource <UnixTransport"),
    ).end()
    assert ended[:2] == (0, "[3]\n")
    assert ended.left == []
    assert warned_once(ended, "VMPool", "pool.close"), ended.err


@pytest.mark.parametrize(
    "end",
    [
        "run(main())",
        "loop = new_loop()\n        loop.run_until_complete(main())\n        loop.close()",
    ],
    ids=["shut down", "closed"],
)
def test_a_program_of_wasi_left_running(loop: str, end: str, tmp_path: Path) -> None:
    """Its process and its VM are reported, each once."""
    (tmp_path / "sleeper.wasm").write_bytes(wat(SLEEPER))
    ended = Program(
        tmp_path,
        f"""
        async def main():
            global vm, process, reading
            vm = VM(Configure(HostRegistration.WASI))
            process = await vm.spawn("sleeper.wasm")
            print((await process.stdout.receive()).decode(), end="")
        {end}
        """,
        loop,
        (*SHOWN, "-W", "ignore:unclosed resource <UnixTransport"),
    ).end()
    assert ended[:2] == (0, "ready\n")
    assert ended.left == []
    warned = [line for line in ended.err.splitlines() if not line.startswith(("  ", "ResourceW"))]
    assert all("ResourceWarning: unclosed <wasmedge_async." in line for line in warned), ended.err
    assert len(warned) == len({"VM" in line for line in warned}) >= 1


def test_a_loop_that_is_stopped_and_run_again(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        loop = new_loop()
        vm = loop.run_until_complete(opened())
        calls = [loop.create_task(vm.execute("busy", 100_000)) for _ in range(20)]
        for _ in range(5):
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            time.sleep(0.02)
        print(loop.run_until_complete(asyncio.gather(*calls)) == [[7]] * 20)
        loop.run_until_complete(vm.close())
        loop.close()
        """,
        loop,
    ).end()
    assert ended == (0, "True\n", "", [])


def test_a_forgotten_vm_ends_also_when_warnings_are_errors(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        async def main():
            vm = await opened()
            pid = pid_of(vm)
            del vm
            gc.collect()
            while os.path.exists(f"/proc/{pid}"):
                await asyncio.sleep(0.005)
            print("gone")
        run(main())
        """,
        loop,
    ).end(seconds=20)
    assert (ended.code, ended.out, ended.left) == (0, "gone\n", [])
    assert "unclosed <wasmedge_async.VM" in ended.err


def test_a_vm_forgotten_in_another_thread_is_ended(loop: str, tmp_path: Path) -> None:
    """The garbage collector runs wherever it likes."""
    ended = Program(
        tmp_path,
        """
        async def main():
            vm = await opened()
            pid = pid_of(vm)
            held = [vm]
            del vm
            await asyncio.to_thread(held.clear)
            while os.path.exists(f"/proc/{pid}"):
                await asyncio.sleep(0.005)
        run(main())
        """,
        loop,
        SHOWN,
    ).end(seconds=20)
    assert ended.code == 0
    assert ended.left == []
    assert warned_once(ended, "VM", "vm.close"), ended.err


def test_a_program_without_descriptors_left_is_told_and_leaks_none(
    loop: str, tmp_path: Path
) -> None:
    """At whichever step of starting a worker they run out."""
    ended = Program(
        tmp_path,
        """
        import resource

        async def main():
            async with VM() as vm:
                await vm.run_wasm_buffer(MODULE, "empty")
            before = len(os.listdir("/proc/self/fd"))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            os.close(free := os.dup(0))
            refused = 0
            for more in range(18):
                resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
                try:
                    async with VM():
                        pass
                except OSError as error:
                    assert error.errno == 24, repr(error)
                    refused += 1
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert len(os.listdir("/proc/self/fd")) == before, more
            print(refused >= 8)
        run(main())
        """,
        loop,
    ).end()
    assert ended == (0, "True\n", "", [])


def test_a_pool_ends_at_once_by_kill_from_another_thread(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        async def main():
            async with VMPool(MODULE, workers=1) as pool:
                spinning = asyncio.ensure_future(pool.execute("spin"))
                await asyncio.sleep(0.05)
                await asyncio.to_thread(pool.kill)
                try:
                    await spinning
                except PoolClosed as error:
                    print(error)
        run(main())
        """,
        loop,
    ).end(seconds=20)
    assert ended == (0, "the pool was closed during the call\n", "", [])
