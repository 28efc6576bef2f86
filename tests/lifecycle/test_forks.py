"""A program that forks, by itself or through `multiprocessing`, beside a VM or a pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lifecycle.script import LOOPS, Program

pytestmark = pytest.mark.parametrize("loop", LOOPS)

# The child does not close the event loop that it has inherited, and should not.
QUIET = ("-X", "dev", "-W", "error", "-W", "ignore:unclosed")


@pytest.mark.parametrize("exit", ["sys.exit(5)", "os._exit(5)"])
def test_a_fork_in_a_task_leaves_the_parent_alone(loop: str, exit: str, tmp_path: Path) -> None:
    """Its `sys.exit` unwinds the event loop, with calls of others that still wait."""
    ended = Program(
        tmp_path,
        f"""
        async def main():
            vm = await opened()
            pool = VMPool(MODULE, workers=2)
            await pool.execute("empty")
            spinning = [asyncio.ensure_future(each.execute("spin")) for each in (pool, pool, vm)]
            behind = asyncio.ensure_future(vm.execute("add", 1, 2))
            await asyncio.sleep(0.05)
            pid = os.fork()
            if not pid:
                {exit}
            while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
                await asyncio.sleep(0.01)
            print(os.waitstatus_to_exitcode(ended[1]))
            assert not any(call.done() for call in spinning)
            spinning[2].cancel()
            print(await behind)
            pool.kill()
            await vm.close()
            await pool.close()
            await asyncio.wait(spinning)
            for call in spinning[:2]:
                assert isinstance(call.exception(), PoolClosed)
        run(main())
        """,
        loop,
        QUIET,
    ).end(seconds=30)
    assert ended == (0, "5\n[3]\n", "", [])


def test_a_fork_cannot_use_what_it_has_inherited(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        loop = new_loop()
        async def start():
            pool = VMPool(MODULE, workers=1)
            await pool.execute("empty")
            return await opened(), pool
        vm, pool = loop.run_until_complete(start())
        sys.stdout.flush()
        child = os.fork()
        if not child:
            async def use():
                for call in (vm.execute("add", 1, 2), vm.load_wasm_buffer(MODULE),
                             pool.execute("add", 1, 2)):
                    try:
                        await call
                    except RuntimeError as error:
                        print(error)
                await vm.close()  # as the end of an `async with` block does: nothing to do
                await pool.close()
                async with VM() as own:
                    print(await own.run_wasm_buffer(MODULE, "add", 40, 2))
            run(use())
            sys.exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(loop.run_until_complete(vm.execute("add", 1, 2)))
        print(loop.run_until_complete(pool.execute("add", 1, 2)))
        loop.run_until_complete(vm.close())
        loop.run_until_complete(pool.close())
        loop.close()
        """,
        loop,
        QUIET,
    ).end(seconds=30)
    other = "belongs to the process that this one was forked from: open another one here\n"
    expected = f"this VM {other}" * 2 + f"this pool {other}" + "[42]\n5\n[3]\n[3]\n"
    assert ended == (0, expected, "", [])


def test_a_fork_does_not_keep_workers_alive(loop: str, tmp_path: Path) -> None:
    """It goes on when its parent is killed; the parent's workers do not."""
    program = Program(
        tmp_path,
        """
        async def main():
            vm = await opened()
            pool = VMPool(MODULE, workers=1)
            await pool.execute("empty")
            calls = [asyncio.ensure_future(each.execute("spin")) for each in (vm, pool)]
            await asyncio.sleep(0.05)
            if not (child := os.fork()):
                sys.stdin.read(1)
                os._exit(0)
            print(child, pid_of(vm), *pool._pool.pids, flush=True)
            await asyncio.wait(calls)
        run(main())
        """,
        loop,
    )
    child, *workers = map(int, program.line().split())
    assert set(workers) < set(program.processes())
    program.process.kill()
    program.process.wait()
    assert program.wait_for({child})
    program.end("\n")


def test_a_worker_is_missed_also_when_a_fork_has_its_wires(loop: str, tmp_path: Path) -> None:
    """The child is forked while workers start, from another thread."""
    ended = Program(
        tmp_path,
        """
        async def main():
            children, done = [], threading.Event()
            def fork():
                while not done.is_set():
                    if not (child := os.fork()):
                        time.sleep(30)
                        os._exit(0)
                    children.append(child)
                    time.sleep(0.005)
            thread = threading.Thread(target=fork)
            thread.start()
            for _ in range(10):
                vm = VM()
                await vm.run_wasm_buffer(MODULE, "empty")
                call = asyncio.ensure_future(vm.execute("spin"))
                os.kill(pid_of(vm), signal.SIGKILL)
                try:
                    await asyncio.wait_for(call, 10)
                except (WorkerDied, VMLost):
                    pass
                await vm.close()
            done.set()
            thread.join()
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        run(main())
        """,
        loop,
        (*QUIET, "-W", "ignore::DeprecationWarning"),  # a fork beside threads, from Python 3.12 on
    ).end(seconds=60)
    assert ended == (0, "", "", [])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_beside_a_pool(loop: str, method: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        f"""
        import concurrent.futures, multiprocessing

        async def main():
            async with VMPool(MODULE, workers=2) as pool:
                spinning = asyncio.ensure_future(pool.execute("spin"))
                await asyncio.sleep(0.05)
                context = multiprocessing.get_context("{method}")
                with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as processes:
                    loop = asyncio.get_running_loop()
                    calls = [loop.run_in_executor(processes, abs, -n) for n in range(4)]
                    print(await asyncio.gather(*calls))
                    print(await pool.execute("add", 1, 2))
                assert not spinning.done()
                spinning.cancel()
        if __name__ == "__main__":
            run(main())
        """,
        loop,
        (*QUIET, "-W", "ignore::DeprecationWarning"),
    ).end(seconds=60)
    assert ended == (0, "[0, 1, 2, 3]\n[3]\n", "", [])


@pytest.mark.parametrize("how", ["close_fds=False", "preexec_fn=int"])
def test_a_subprocess_inherits_nothing(loop: str, how: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        f"""
        import subprocess

        async def main():
            async with VM() as vm:
                await vm.run_wasm_buffer(MODULE, "empty")
                program = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:4])"
                command = [sys.executable, "-I", "-c", program]
                done = subprocess.run(
                    command, {how}, stdin=subprocess.DEVNULL, capture_output=True
                )
                print(done.stdout.decode(), end="")
                print(await vm.run_wasm_buffer(MODULE, "add", 1, 2))
        run(main())
        """,
        loop,
    ).end()
    assert ended == (0, "[0, 1, 2, 3]\n[3]\n", "", [])  # 3 reads the folder
