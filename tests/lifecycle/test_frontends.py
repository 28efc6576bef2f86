"""Where code is run piece by piece: the REPL, notebooks, pytest with its plugins, threads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lifecycle.script import LOOPS, Program

REPL = (sys.executable, "-X", "dev", "-W", "error", "-m", "asyncio")


@pytest.mark.parametrize("last", ["await vm.close()", ""])
def test_the_asyncio_repl(last: str, tmp_path: Path) -> None:
    """`python -m asyncio`: its loop runs between the statements; at its end it is not closed."""
    program = Program(tmp_path, "", command=(*REPL,))
    ended = program.end(
        "from wasmedge_async import *\n"
        "vm = VM()\n"
        "await vm.load_wasm_file('calls.wasm')\n"
        "await vm.validate()\n"
        "await vm.instantiate()\n"
        "print('first', await vm.execute('add', 1, 2))\n"
        "import time; time.sleep(0.05)\n"
        "print('second', await vm.execute('add', 3, 4))\n"
        "pool = await VMPool('calls.wasm', workers=2).__aenter__()\n"
        "print('third', await pool.execute('add', 5, 6))\n"
        "await pool.close()\n"
        f"{last}\n"
        "exit()\n"
    )
    assert ended.code == 0
    for result in ("first [3]", "second [7]", "third [11]"):
        assert result in ended.out
    assert ended.left == []
    assert "Traceback" not in ended.err
    assert "never" not in ended.err
    assert "pending" not in ended.err
    shown = [line for line in ended.err.splitlines() if "Warning" in line]
    assert shown == [] or (
        not last and len(shown) == 1 and "unclosed <wasmedge_async.VM" in shown[0]
    )


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("last", ["cell(vm.close())", "pass"])
def test_a_notebook(loop: str, last: str, tmp_path: Path) -> None:
    """Its loop runs for ever in a thread, cells are handed to it, and it is never closed."""
    ended = Program(
        tmp_path,
        f"""
        kernel = new_loop()
        threading.Thread(target=kernel.run_forever, daemon=True).start()
        def cell(coroutine):
            return asyncio.run_coroutine_threadsafe(coroutine, kernel).result(20)
        vm = cell(opened())
        print(cell(vm.execute("add", 1, 2)))
        spinning = asyncio.run_coroutine_threadsafe(vm.execute("spin"), kernel)
        time.sleep(0.05)
        spinning.cancel()
        print(cell(vm.execute("add", 3, 4)))
        async def both():
            async with VMPool(MODULE, workers=2) as pool:
                return await asyncio.gather(pool.execute("add", 5, 6), vm.execute("add", 7, 8))
        print(cell(both()))
        {last}
        """,
        loop,
        ("-X", "dev"),
    ).end()
    assert ended[:2] == (0, "[3]\n[7]\n[[11], [15]]\n")
    assert ended.left == []
    errors = [line for line in ended.err.splitlines() if "unclosed event loop" not in line]
    assert len([line for line in errors if "unclosed <wasmedge_async.VM" in line]) <= (
        last == "pass"
    )
    assert [line for line in errors if "unclosed <wasmedge_async.VM" not in line] == []


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_in_threads_and_in_turn(loop: str, tmp_path: Path) -> None:
    """Each with VMs of its own: several at once in threads, and one after the other."""
    ended = Program(
        tmp_path,
        """
        async def main(n):
            async with VMPool(MODULE, workers=1) as pool:
                assert await pool.execute("add", n, 1) == [n + 1]
            vm = await opened()
            try:
                await vm.execute("spin", timeout=0.05)
            except CallTimeout:
                pass
            os.kill(pid_of(vm), signal.SIGKILL)
            try:
                await vm.execute("spin")
            except (WorkerDied, VMLost):
                print("died\\n", end="")  # threads write, too
            await vm.close()
        threads = [threading.Thread(target=lambda n=n: run(main(n))) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for n in range(2):
            run(main(n))
        """,
        loop,
    ).end()
    assert ended == (0, "died\n" * 5, "", [])


@pytest.mark.parametrize("loop", LOOPS)
def test_other_loops_are_refused_and_disturb_nothing(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        async def elsewhere(*things):
            for thing in things:
                for use in (lambda: thing.execute("add", 1, 2), thing.close):
                    try:
                        await asyncio.wait_for(use(), 5)
                    except RuntimeError as error:
                        print(str(error).split(":")[0])
        async def main():
            global vm
            vm = await opened()
            async with VMPool(MODULE, workers=1) as pool:
                await asyncio.to_thread(lambda: run(elsewhere(vm, pool)))
                print(await vm.execute("add", 1, 2), await pool.execute("add", 3, 4))
        run(main())
        run(elsewhere(vm))  # its loop is closed: so may the VM be, from everywhere
        print("closed")
        """,
        loop,
    ).end()
    expected = (
        "this VM belongs to another event loop\n" * 2
        + "this pool belongs to another event loop\n" * 2
        + "[3] [7]\n"
        + "this VM belongs to an event loop that has been closed\n"
        + "closed\n"
    )
    assert ended == (0, expected, "", [])


@pytest.mark.parametrize("loop", LOOPS)
def test_a_vm_restarts_in_another_loop_when_its_own_is_closed(loop: str, tmp_path: Path) -> None:
    ended = Program(
        tmp_path,
        """
        async def restart():
            try:
                await vm.restart()
            except RuntimeError as error:
                print(str(error).split(":")[0])
        async def main():
            global vm
            vm = await opened()
            await asyncio.to_thread(lambda: run(restart()))
            print(await vm.execute("add", 1, 2))
        async def again():
            await restart()
            print(await vm.run_wasm_buffer(MODULE, "add", 3, 4))
            await vm.close()
        run(main())
        run(again())
        """,
        loop,
    ).end()
    expected = "this VM belongs to another event loop\n[3]\n[7]\n"
    assert ended == (0, expected, "", [])


PYTEST_ASYNCIO = """
import asyncio
import pytest
import pytest_asyncio
from wasmedge_async import VM, VMPool

with open("calls.wasm", "rb") as file:
    MODULE = file.read()

async def instantiate(vm):
    await vm.load_wasm_buffer(MODULE)
    await vm.validate()
    await vm.instantiate()

def fixtures(scope):
    @pytest_asyncio.fixture(loop_scope=scope, scope=scope)
    async def vm():
        async with VM() as vm:
            await instantiate(vm)
            yield vm

    @pytest_asyncio.fixture(loop_scope=scope, scope=scope)
    async def pool():
        pool = VMPool(MODULE, workers=1)
        yield pool
        await asyncio.create_task(pool.close())  # another task than the one that opened it

    return vm, pool

function_vm, function_pool = fixtures("function")
module_vm, module_pool = fixtures("module")
session_vm, session_pool = fixtures("session")

@pytest.mark.asyncio
@pytest.mark.parametrize("n", range(2))
async def test_function(function_vm, function_pool, n):
    assert await function_vm.execute("add", n, 2) == [n + 2]
    assert await function_pool.execute("add", n, 2) == [n + 2]

@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("n", range(2))
async def test_module(module_vm, module_pool, n):
    assert await module_vm.execute("add", n, 2) == [n + 2]
    assert await module_pool.execute("add", n, 2) == [n + 2]

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("n", range(2))
async def test_session(session_vm, session_pool, n):
    assert await session_vm.execute("add", n, 2) == [n + 2]
    assert await session_pool.execute("add", n, 2) == [n + 2]

@pytest.mark.asyncio
async def test_other_loop(session_vm):
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        await session_vm.execute("add", 1, 2)
"""

ANYIO = """
import anyio
import pytest
from wasmedge_async import VM, VMPool, WasmEdgeError

with open("calls.wasm", "rb") as file:
    MODULE = file.read()

async def instantiate(vm):
    await vm.load_wasm_buffer(MODULE)
    await vm.validate()
    await vm.instantiate()

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}

@pytest.fixture
async def vm():
    async with VM() as vm:
        await instantiate(vm)
        yield vm

@pytest.fixture(scope="module")
async def pool():
    async with VMPool(MODULE, workers=1) as pool:
        yield pool

@pytest.mark.parametrize("n", range(2))
async def test_calls(vm, pool, n):
    async with anyio.create_task_group() as group:
        group.start_soon(vm.execute, "add", n, 2)
        group.start_soon(pool.execute, "spin")
        assert await vm.execute("add", n, 2) == [n + 2]
        group.cancel_scope.cancel()
    assert await pool.execute("add", n, 2) == [n + 2]

async def test_another_task_closes(anyio_backend):
    vm = VM()
    await vm.run_wasm_buffer(MODULE, "empty")
    async with anyio.create_task_group() as group:
        group.start_soon(vm.close)

async def test_exceptions_come_unwrapped(anyio_backend):
    with pytest.raises(KeyError):
        async with VMPool(MODULE, workers=1), VM():
            raise KeyError
"""


@pytest.mark.parametrize(
    ("source", "without", "option", "passed"),
    [
        (PYTEST_ASYNCIO, "anyio", "asyncio_default_fixture_loop_scope = function", 7),
        (ANYIO, "asyncio", "", 8),
    ],
    ids=["pytest-asyncio", "anyio"],
)
def test_fixtures_of_pytest(
    source: str, without: str, option: str, passed: int, tmp_path: Path
) -> None:
    (tmp_path / "test_it.py").write_text(source)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{option}\n")
    plugins = ("-p", f"no:{without}", "-p", "no:cacheprovider")
    command = (sys.executable, "-X", "dev", "-m", "pytest", "-q", *plugins)
    ended = Program(tmp_path, "", command=command).end()
    assert f"{passed} passed" in ended.out, ended.out
    assert (ended.code, ended.err, ended.left) == (0, "", [])
