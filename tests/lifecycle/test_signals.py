"""Ctrl-C, and programs that are ended by signals: workers go with them, whatever they do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.api.test_cli import SLEEPER
from tests.lifecycle.script import LOOPS, Program
from tests.wat import wat


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("what", ["VM()", "VMPool(MODULE, workers=2)"])
def test_ctrl_c_during_a_call(loop: str, times: int, what: str, tmp_path: Path) -> None:
    """To the whole foreground process group, as a terminal does; an impatient user repeats it."""
    program = Program(
        tmp_path,
        f"""
        async def main():
            async with {what} as it:
                if isinstance(it, VM):
                    await it.load_wasm_buffer(MODULE)
                    await it.validate()
                    await it.instantiate()
                print("running", flush=True)
                await it.execute("spin")
        try:
            run(main())
        except KeyboardInterrupt as error:
            print(repr(error))
        """,
        loop,
    )
    assert program.line() == "running"
    for _ in range(times):
        os.killpg(program.process.pid, signal.SIGINT)
    assert program.end(seconds=20) == (0, "KeyboardInterrupt()\n", "", [])


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_while_a_pool_opens(loop: str, tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
        async def main():
            asyncio.get_running_loop().call_later(0.03, print, "opening")
            asyncio.get_running_loop().call_later(0.03, os.kill, os.getpid(), signal.SIGINT)
            async with VMPool(MODULE, workers=2) as pool:
                await pool.execute("spin")
        try:
            run(main())
        except KeyboardInterrupt as error:
            print(repr(error))
        """,
        loop,
    )
    assert program.end(seconds=20) == (0, "opening\nKeyboardInterrupt()\n", "", [])


BUSY = {
    "a guest's loop": 'await vm.run_wasm_buffer(MODULE, "spin")',
    "a sleep in WASI": 'await vm.run_wasm_file("sleeps.wasm", "_start")',
    "nothing": "await asyncio.sleep(60)",
    "stopped": """
            asyncio.get_running_loop().call_later(0.2, os.kill, pid_of(vm), signal.SIGSTOP)
            await vm.run_wasm_buffer(MODULE, "spin")""",
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("busy", sorted(BUSY))
def test_workers_end_with_a_program_that_is_killed(
    number: signal.Signals, busy: str, tmp_path: Path
) -> None:
    (tmp_path / "sleeps.wasm").write_bytes(wat(SLEEPER))
    program = Program(
        tmp_path,
        f"""
        async def main():
            vm = VM(Configure(HostRegistration.WASI))
            await vm.run_wasm_buffer(MODULE, "empty")
            asyncio.get_running_loop().call_later(0.4, tell, pid_of(vm))
            {BUSY[busy]}
        tell = functools.partial(print, flush=True)
        run(main())
        """,
    )
    worker = int(program.line())
    assert worker in program.processes()
    program.process.send_signal(number)
    ended = program.end()
    assert (ended.code, ended.err, ended.left) == (-number, "", [])


def test_a_worker_that_is_stuck_in_native_code_ends_with_its_parent(tmp_path: Path) -> None:
    """With the interpreter's lock held, its watchdog cannot run."""
    program = Program(
        tmp_path,
        """
        from tests.pool.test_process import actor, call
        async def main():
            vm = actor()
            await call(vm, "echo")
            stuck = asyncio.ensure_future(call(vm, "hang"))
            await asyncio.sleep(0.1)
            print(vm.pid, flush=True)
            await stuck
        run(main())
        """,
    )
    worker = int(program.line())
    assert worker in program.processes()
    program.process.kill()
    assert program.end().left == []
