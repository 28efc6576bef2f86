"""Signal handlers beside those of others, and what happens in a forked process."""

from __future__ import annotations

import signal

import pytest

from tests.runtime.engine import output_of, python

GUEST = """
from tests.runtime.engine import Engine
from wasmedge_runtime import Trap

def fault():
    engine = Engine()
    engine.instantiate('(module (memory 1) (func (export "f") (result i32)'
                       '(i32.load (i32.const 65536))))')
    try:
        engine.call("f")
    except Trap as trap:
        print(trap.code.name, flush=True)
"""

CRASHES = [
    "import faulthandler; faulthandler._sigsegv()",  # raised, not by an instruction
    "import ctypes; ctypes.string_at(0)",
]


def script(*parts: str) -> str:
    return "\n".join((GUEST, *parts))


@pytest.mark.parametrize("order", ["before", "after"])
def test_guest_faults_are_traps_beside_faulthandler(order: str) -> None:
    enable = "import faulthandler; faulthandler.enable()"
    parts = [enable, "fault()"] if order == "before" else ["fault()", enable, "fault()"]
    output = output_of(script(*parts)).split()
    assert output == ["MemoryOutOfBounds"] * (1 if order == "before" else 2)


@pytest.mark.parametrize("crash", CRASHES)
@pytest.mark.parametrize("order", ["never", "before", "after", "after and instantiated"])
def test_a_crash_of_the_process_stays_one(crash: str, order: str) -> None:
    enable = "import faulthandler; faulthandler.enable()"
    parts = {
        "never": ["fault()"],
        "before": [enable, "fault()"],
        "after": ["fault()", enable],
        "after and instantiated": ["fault()", enable, "fault()"],
    }[order]
    done = python(script(*parts, crash))
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout.split() == ["MemoryOutOfBounds"] * parts.count("fault()")
    if order != "never":
        assert done.stderr.count("Fatal Python error: Segmentation fault") == 1


def test_a_crash_in_a_host_function_stays_one() -> None:
    done = python(
        script(
            "import ctypes",
            "engine = Engine()",
            "engine.host(go=([], [], lambda data, memory: ctypes.string_at(0) and None))",
            """engine.instantiate('(module (import "host" "go" (func $go))'"""
            """'(func (export "f") (call $go)))')""",
            "engine.call('f')",
        )
    )
    assert done.returncode == -signal.SIGSEGV


def test_a_handler_that_python_installs_afterwards_is_kept_behind_ours() -> None:
    output = output_of(
        script(
            "import os, signal",
            "fault()",
            "signal.signal(signal.SIGSEGV, lambda *args: print('python', flush=True))",
            "fault()",
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "fault()",
        )
    )
    assert output.split() == [*["MemoryOutOfBounds"] * 2, "python", "MemoryOutOfBounds"]


def test_another_signal_may_be_chosen_for_interruptions() -> None:
    output = output_of(
        """
        import signal, threading
        from tests.runtime.engine import Engine, Running, wait_until
        from wasmedge_runtime.native import support

        engine = Engine()
        engine.instantiate('(module (func (export "spin") (loop (br 0))))')
        running = Running(engine.call, "spin")
        wait_until(lambda: engine.running)
        engine.store.interrupt()
        print(running.trap().code.name, support.INTERRUPT_SIGNAL - signal.SIGRTMIN)
        """,
        WASMEDGE_INTERRUPT_SIGNAL="11",
    )
    assert output == "Interrupted 11"


def test_the_engine_refuses_to_work_in_a_forked_child() -> None:
    output = output_of(
        script(
            "import os, sys",
            "engine = Engine()",
            """one = engine.exports('(module (func (export "one") (result i32)'"""
            """'(i32.const 1)))')["one"]""",
            "print(one(), flush=True)",
            "child = os.fork()",
            "if not child:",
            "    for step in (one, fault):",
            "        try:",
            "            step()",
            "        except RuntimeError as error:",
            "            print(error, flush=True)",
            "    os._exit(7)",
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), one())",
        )
    )
    lines = output.splitlines()
    assert lines[0] == "[1]"
    assert all("before this process was forked" in line for line in lines[1:3])
    assert lines[3] == "7 [1]"


def test_a_child_forked_before_the_engine_was_used_may_use_it() -> None:
    output = output_of(
        script(
            "import os",
            "child = os.fork()",
            "if not child:",
            "    fault()",
            "    os._exit(0)",
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)",
            "fault()",
        )
    )
    assert output.split() == ["MemoryOutOfBounds", "0", "MemoryOutOfBounds"]


def test_a_thread_that_blocks_all_signals_gets_traps() -> None:
    """A fault whose signal is blocked would end the process."""
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    assert output_of(script(block, "fault()")) == "MemoryOutOfBounds"


def test_a_signal_handler_may_compile_while_its_thread_compiles() -> None:
    output = output_of(
        """
        import signal
        from tests.runtime.engine import Engine

        def instantiate(number):
            text = f'(module (func (export "f") (result i32) (i32.const {number})))'
            assert Engine().exports(text)["f"]() == [number]

        done = 0

        def handler(*args):
            global done
            done += 1
            instantiate(1000 + done)
            if done < 50:
                signal.setitimer(signal.ITIMER_REAL, 0.001)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        number = 0
        while done < 50:
            number += 1
            instantiate(number)
        print("done")
        """,
        WASMEDGE_CACHE_DIR="",
    )
    assert output == "done"


def test_an_interrupt_signal_that_there_is_none_of_is_refused_by_name() -> None:
    script = """
    try:
        import wasmedge_runtime.native.support
    except ValueError as error:
        print(error)
    """
    said = output_of(script, WASMEDGE_INTERRUPT_SIGNAL="many")
    assert said.startswith("WASMEDGE_INTERRUPT_SIGNAL must be a number from 0 to ")
    assert said.endswith("'many'")
