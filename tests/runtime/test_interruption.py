"""Calls that are stopped from outside: by another thread, by Ctrl-C, at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.runtime.engine import EXTERNREF, I32, Engine, Running, output_of, wait_until
from wasmedge_runtime import (
    VM,
    CompilationMode,
    Configure,
    ErrCode,
    HostFunctionError,
    Store,
    Trap,
    WasmEdgeError,
)

ENDLESS = """(module (memory (export "memory") 1)
  (func (export "spin") (i32.store (i32.const 8) (i32.const 77)) (loop (br 0)))
  (func (export "count") (loop
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (br 0)))
  (func $pair (result i64 i64) (i64.const 1) (i64.const 2))
  (func (export "calls") (loop (call $pair) (drop) (drop) (br 0)))
  (func (export "trap") unreachable)
  (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))"""


@contextmanager
def storm(store: Store, pause: float = 0.0003) -> Iterator[None]:
    """Interrupt whatever runs in a Store, all the time."""
    ended = threading.Event()

    def strike() -> None:
        while not ended.wait(pause):
            store.interrupt()

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def stopped(engine: Engine, name: str, *args: Any) -> Trap:
    """The trap of a call that is interrupted while it runs."""
    running = Running(engine.call, name, *args)
    wait_until(lambda: engine.running)
    assert engine.store.interrupt()
    return running.trap()


@pytest.mark.parametrize("mode", list(CompilationMode))
@pytest.mark.parametrize("name", ["spin", "count", "calls"])
def test_an_endless_loop_stops_and_the_store_is_usable_afterwards(
    name: str, mode: CompilationMode
) -> None:
    configuration = Configure()
    configuration.compilation_mode = mode
    engine = Engine(configuration)
    engine.instantiate(ENDLESS)
    for _ in range(5):
        trap = stopped(engine, name)
        assert trap.code is ErrCode.Interrupted
        assert trap.message.startswith("execution interrupted")
        assert engine.call("add", 2, 3) == [5]


def test_memory_is_left_as_the_guest_wrote_it() -> None:
    engine = Engine()
    memory = engine.exports(ENDLESS)["memory"]
    stopped(engine, "spin")
    assert memory.get_data(8, 4) == b"\x4d\0\0\0"


def test_an_interrupted_call_names_the_functions_it_was_in() -> None:
    engine = Engine()
    engine.instantiate(
        '(module (func $inner (loop (br 0))) (func (export "outer") (call $inner) (call $inner))'
        '(func (export "compiled")))'
    )
    engine.call("compiled")  # or else the interruption may come before any code runs
    frames = stopped(engine, "outer").frames
    assert frames[-1] == "outer"


def test_interrupting_an_idle_store_does_nothing() -> None:
    engine = Engine()
    assert not engine.store.interrupt()
    engine.instantiate(ENDLESS)
    assert not engine.store.interrupt()
    assert engine.call("add", 1, 2) == [3]


def test_a_vm_is_interrupted_and_usable_afterwards() -> None:
    from tests.wat import wat

    with VM() as vm:
        vm.load_wasm_buffer(wat(ENDLESS))
        vm.validate()
        vm.instantiate()
        running = Running(vm.execute, "spin")
        wait_until(lambda: bool(vm.store.core.activation.call_id))
        vm.interrupt()
        assert running.trap().code is ErrCode.Interrupted
        assert vm.execute("add", 20, 22) == [42]


def test_a_request_for_a_call_that_has_ended_does_not_hit_the_next_one() -> None:
    engine = Engine()
    engine.instantiate(ENDLESS)
    core = engine.store.core
    engine.call("add", 1, 2)
    stale = core.activation.last_call_id
    core.activation.interrupt_request = stale
    running = Running(engine.call, "spin")
    wait_until(lambda: engine.running)
    for _ in range(50):
        core.support.send_interrupt(core.activation.thread_id)
    assert engine.running
    assert core.activation.interrupt_request == stale
    assert engine.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted


def test_several_threads_may_interrupt_the_same_store() -> None:
    engine = Engine()
    engine.instantiate(ENDLESS)
    for _ in range(50):
        running = Running(engine.call, "spin")
        wait_until(lambda: engine.running)
        strikers = [Running(engine.store.interrupt) for _ in range(4)]
        assert running.trap().code is ErrCode.Interrupted
        assert any([striker.result() for striker in strikers])


@pytest.mark.parametrize(
    "body",
    [
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x8000000))",
        "(memory.copy (i32.const 1) (i32.const 0) (i32.const 0x7ffffff))",
        "(memory.copy (i32.const 0) (i32.const 1) (i32.const 0x7ffffff))",
    ],
)
def test_long_memory_operations_are_interrupted(body: str) -> None:
    engine = Engine()
    engine.instantiate(
        f'(module (memory 2048) (func (export "f") (loop {body} (br 0)))'
        '(func (export "g") (result i32) (i32.const 5)))'
    )
    assert stopped(engine, "f").code is ErrCode.Interrupted
    assert engine.call("g") == [5]


def test_a_long_memory_operation_ends_before_it_is_complete() -> None:
    engine = Engine()
    # The request is there before the operation starts: it ends at the first look.
    engine.host(ask=([], [], lambda data, memory: request()))
    exports = engine.exports(
        """(module (import "host" "ask" (func $ask)) (memory (export "memory") 64)
          (func (export "f") (call $ask)
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x400000))))"""
    )

    def request() -> None:
        activation = engine.store.core.activation
        activation.interrupt_request = activation.call_id

    with pytest.raises(Trap) as caught:
        engine.call("f")
    assert caught.value.code is ErrCode.Interrupted
    assert exports["memory"].get_data(0x3FFFFF, 1) == b"\0"


def test_interruption_in_a_host_function_takes_effect_when_it_returns() -> None:
    engine = Engine()
    entered, leave, returned = threading.Event(), threading.Event(), threading.Event()

    def wait(data: object, memory: object) -> None:
        entered.set()
        leave.wait()
        returned.set()

    engine.host(wait=([], [], wait))
    engine.instantiate(
        """(module (import "host" "wait" (func $wait)) (global (export "after") (mut i32)
          (i32.const 0)) (func (export "f") (call $wait) (global.set 0 (i32.const 1))))"""
    )
    running = Running(engine.call, "f")
    entered.wait()
    assert engine.store.interrupt()  # it does not wait for the host function
    assert not returned.is_set()
    leave.set()
    assert running.trap().code is ErrCode.Interrupted
    assert returned.is_set()
    after = engine.store.find_global("after")
    assert after is not None
    assert after.value == 0


def test_a_host_function_may_interrupt_its_own_call() -> None:
    engine = Engine()
    engine.host(stop=([], [], lambda data, memory: engine.store.interrupt() and None))
    engine.instantiate(
        '(module (import "host" "stop" (func $stop)) (func (export "f") (call $stop)))'
    )
    with pytest.raises(Trap) as caught:
        engine.call("f")
    assert caught.value.code is ErrCode.Interrupted


NESTING = """(module (import "host" "go" (func $go)) (func (export "outer") (call $go))
  (func (export "spin") (loop (br 0))) (func (export "one") (result i32) (i32.const 1)))"""


@pytest.mark.parametrize("swallow", [False, True])
def test_guest_code_nested_in_the_same_store_is_interrupted_with_the_outer_call(
    swallow: bool,
) -> None:
    engine = Engine()
    inner: list[BaseException] = []
    entered = threading.Event()

    def go(data: object, memory: object) -> None:
        entered.set()
        try:
            exports["spin"]()
        except Trap as trap:
            inner.append(trap)
            if not swallow:
                raise

    engine.host(go=([], [], go))
    exports = engine.exports(NESTING)
    running = Running(engine.call, "outer")
    entered.wait()
    wait_until(lambda: engine.store.core.activation.depth == 2)
    assert engine.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted
    assert [getattr(error, "code", None) for error in inner] == [ErrCode.Interrupted]
    assert engine.call("one") == [1]


@pytest.mark.parametrize("swallow", [False, True])
def test_guest_code_nested_in_another_store_is_interrupted_with_the_outer_call(
    swallow: bool,
) -> None:
    outer, inner = Engine(), Engine()
    inner.instantiate(ENDLESS)

    def go(data: object, memory: object) -> None:
        try:
            inner.call("spin")
        except Trap:
            if not swallow:
                raise

    outer.host(go=([], [], go))
    outer.instantiate(NESTING)
    running = Running(outer.call, "outer")
    wait_until(lambda: inner.running)
    assert outer.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted
    assert outer.call("one") == [1]
    assert inner.call("add", 1, 1) == [2]


def test_guest_code_that_another_store_starts_after_the_request_is_interrupted() -> None:
    outer, inner = Engine(), Engine()
    inner.instantiate(ENDLESS)
    entered, leave = threading.Event(), threading.Event()

    def go(data: object, memory: object) -> None:
        entered.set()
        leave.wait()
        inner.call("spin")

    outer.host(go=([], [], go))
    outer.instantiate(NESTING)
    running = Running(outer.call, "outer")
    entered.wait()
    assert outer.store.interrupt()
    leave.set()
    assert running.trap().code is ErrCode.Interrupted


def test_interrupting_the_inner_store_alone_lets_the_outer_call_go_on() -> None:
    outer, inner = Engine(), Engine()
    inner.instantiate(ENDLESS)
    seen = []

    def go(data: object, memory: object) -> None:
        with pytest.raises(Trap) as caught:
            inner.call("spin")
        seen.append(caught.value.code)

    outer.host(go=([], [], go))
    outer.instantiate(NESTING)
    running = Running(outer.call, "outer")
    wait_until(lambda: inner.running)
    inner.store.interrupt()
    assert running.result() == []
    assert seen == [ErrCode.Interrupted]


def test_a_start_function_is_interrupted() -> None:
    engine = Engine()
    running = Running(engine.instantiate, "(module (func $f (loop (br 0))) (start $f))")
    wait_until(lambda: engine.running)
    engine.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted


STORM = """(module (import "host" "echo" (func $echo (param i32 externref) (result i32)))
  (memory 1)
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (i32.const 1))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "short") (param i32) (result i32) (local.get 0))
  (func (export "work") (param i32) (result i32) (call $fib (i32.const 12)))
  (func (export "host") (param i32) (result i32)
    (i32.add (call $echo (local.get 0) (ref.null extern))
             (call $echo (i32.const 1) (ref.null extern))))
  (func (export "fault") (param i32) (result i32) (i32.load (i32.const -4)))
  (func $deep (export "deep") (param i32) (result i32)
    (i32.add (call $deep (local.get 0)) (i32.const 1)))
  (func (export "fill") (param i32) (result i32)
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (local.get 0)))"""


def test_a_storm_of_interrupts_over_short_calls_traps_and_host_calls() -> None:
    """Every call gives its result, or its own trap, or is interrupted."""
    expected: dict[str, Any] = {
        "short": lambda n: [n],
        "work": lambda n: [233],
        "host": lambda n: [n + 1],
        "fault": lambda n: ErrCode.MemoryOutOfBounds,
        "deep": lambda n: ErrCode.RuntimeError,
        "fill": lambda n: [n],
    }
    ended = threading.Event()

    def work() -> dict[str, int]:
        engine = Engine()
        engine.host(echo=([I32, EXTERNREF], [I32], lambda data, memory, n, r: n))
        functions = engine.exports(STORM)
        counts = dict.fromkeys((*expected, "interrupted"), 0)
        n = 0
        with storm(engine.store):
            while not ended.is_set():
                for name, result in expected.items():
                    n += 1
                    outcome: Any
                    try:
                        outcome = functions[name](n)
                    except Trap as trap:
                        outcome = trap.code
                    if outcome is ErrCode.Interrupted:
                        counts["interrupted"] += 1
                    else:
                        assert outcome == result(n)
                        counts[name] += 1
        assert functions["short"](5) == [5]
        return counts

    threads = [Running(work) for _ in range(3)]
    time.sleep(3)
    ended.set()
    for counts in [thread.result() for thread in threads]:
        assert all(counts[name] for name in ("short", "work", "host", "fault", "fill")), counts
        assert counts["interrupted"], counts


def test_ctrl_c_in_an_endless_loop_raises_keyboard_interrupt() -> None:
    script = """
    import os, signal, threading
    from tests.runtime.engine import Engine, wait_until

    engine = Engine()
    engine.instantiate('(module (func (export "spin") (loop (br 0)))'
                       '(func (export "one") (result i32) (i32.const 1)))')
    for _ in range(3):
        def strike():
            wait_until(lambda: engine.running)
            os.kill(os.getpid(), signal.SIGINT)
        striker = threading.Thread(target=strike)
        striker.start()
        try:
            engine.call("spin")
        except KeyboardInterrupt:
            print("interrupted", engine.call("one"))
        striker.join()
    """
    assert output_of(script).splitlines() == ["interrupted [1]"] * 3


def test_ctrl_c_in_guest_code_below_a_host_function_raises_keyboard_interrupt() -> None:
    script = """
    import os, signal, threading
    from tests.runtime.engine import Engine, wait_until

    outer, inner = Engine(), Engine()
    inner.instantiate('(module (func (export "spin") (loop (br 0))))')
    outer.host(go=([], [], lambda data, memory: inner.call("spin")))
    outer.instantiate('(module (import "host" "go" (func $go)) (func (export "f") (call $go))'
                      '(func (export "one") (result i32) (i32.const 1)))')
    def strike():
        wait_until(lambda: inner.running)
        os.kill(os.getpid(), signal.SIGINT)
    striker = threading.Thread(target=strike)
    striker.start()
    try:
        outer.call("f")
    except KeyboardInterrupt:
        print("interrupted", outer.call("one"))
    striker.join()
    """
    assert output_of(script) == "interrupted [1]"


def test_ctrl_c_in_a_host_function_raises_keyboard_interrupt() -> None:
    script = """
    import os, signal, time
    from tests.runtime.engine import Engine

    engine = Engine()
    def body(data, memory):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
    engine.host(go=([], [], body))
    engine.instantiate('(module (import "host" "go" (func $go)) (func (export "f") (call $go))'
                       '(func (export "one") (result i32) (i32.const 1)))')
    try:
        engine.call("f")
    except KeyboardInterrupt:
        print("interrupted", engine.call("one"))
    """
    assert output_of(script) == "interrupted [1]"


def test_ctrl_c_among_short_calls_is_never_lost() -> None:
    script = """
    import os, signal, threading
    from tests.runtime.engine import Engine

    engine = Engine()
    engine.host(echo=([], [], lambda data, memory: None))
    one = engine.instantiate('(module (import "host" "echo" (func $echo))'
        '(func (export "one") (result i32) (call $echo) (i32.const 1)))').exports["one"]
    go = threading.Event()
    def strike():
        for _ in range(300):
            go.wait()
            go.clear()
            os.kill(os.getpid(), signal.SIGINT)
    striker = threading.Thread(target=strike)
    striker.start()
    for _ in range(300):
        try:
            go.set()
            while True:
                assert one() == [1]
        except KeyboardInterrupt:
            pass
    striker.join()
    print("done")
    """
    assert output_of(script) == "done"


def test_a_handler_of_the_user_for_ctrl_c_does_not_stop_the_call() -> None:
    script = """
    import os, signal, threading
    from tests.runtime.engine import Engine, wait_until

    seen = []
    signal.signal(signal.SIGINT, lambda *args: seen.append(1))
    engine = Engine()
    engine.instantiate('(module (memory (export "m") 1) (func (export "spin")'
        '(loop (br_if 0 (i32.eqz (i32.load8_u (i32.const 0)))))))')
    def strike():
        wait_until(lambda: engine.running)
        os.kill(os.getpid(), signal.SIGINT)
        engine.store.find_memory("m").set_data(b"1", 0)
    striker = threading.Thread(target=strike)
    striker.start()
    print(engine.call("spin"), seen)
    striker.join()
    """
    assert output_of(script) == "[] [1]"


def test_ctrl_c_that_reaches_another_thread_does_not_stop_its_call() -> None:
    script = """
    import signal, threading, time
    from tests.runtime.engine import Engine, wait_until

    engine = Engine()
    engine.instantiate('(module (memory (export "m") 1) (func (export "spin")'
        '(loop (br_if 0 (i32.eqz (i32.load8_u (i32.const 0)))))))')
    results = []
    worker = threading.Thread(target=lambda: results.append(engine.call("spin")))
    worker.start()
    wait_until(lambda: engine.running)
    try:
        signal.pthread_kill(worker.ident, signal.SIGINT)
        while True:  # a long sleep would not notice a signal that another thread got
            time.sleep(0.001)
    except KeyboardInterrupt:
        engine.store.find_memory("m").set_data(b"1", 0)
        worker.join()
        print(results)
    """
    assert output_of(script) == "[[]]"


def test_a_host_function_that_raises_keyboard_interrupt() -> None:
    engine = Engine()

    def body(data: object, memory: object) -> None:
        raise KeyboardInterrupt

    engine.host(go=([], [], body))
    engine.instantiate(
        """(module (import "host" "go" (func $go)) (func (export "f") (call $go))
          (func (export "one") (result i32) (i32.const 1)))"""
    )
    with pytest.raises(KeyboardInterrupt):
        engine.call("f")
    assert engine.call("one") == [1]


def test_a_host_function_that_raises_system_exit() -> None:
    engine = Engine()

    def body(data: object, memory: object) -> None:
        raise SystemExit(3)

    engine.host(go=([], [], body))
    engine.instantiate('(module (import "host" "go" (func $go)) (func (export "f") (call $go)))')
    with pytest.raises(SystemExit):
        engine.call("f")


def test_a_closed_store_cannot_be_interrupted() -> None:
    store = Store()
    store.close()
    with pytest.raises(WasmEdgeError, match="this Store is closed"):
        store.interrupt()


def test_errors_of_nested_calls_do_not_pile_up() -> None:
    engine = Engine()

    def go(data: object, memory: object, n: int) -> None:
        if n == 0:
            raise ValueError("the bottom")
        engine.call("f", n - 1)

    engine.host(go=([I32], [], go))
    engine.instantiate(
        """(module (import "host" "go" (func $go (param i32)))
          (func (export "f") (param i32) (call $go (local.get 0))))"""
    )
    with pytest.raises(HostFunctionError) as caught:
        engine.call("f", 5)
    assert caught.value.message == "host function failed: ValueError: the bottom"
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "body",
    [
        "(memory.copy (i32.const 0) (i32.const 0x80000) (i32.const 0x80000))",
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x80000))",
        "(table.copy (i32.const 0) (i32.const 0x80000) (i32.const 0x80000))",
        "(table.fill (i32.const 0) (ref.null func) (i32.const 0x80000))",
    ],
)
def test_a_loop_that_is_almost_always_in_a_helper_is_interrupted(body: str) -> None:
    """Signals find the helper, not the guest: the helper has to look itself."""
    engine = Engine()
    engine.instantiate(
        f'(module (memory 64) (table 0x100000 funcref) (func (export "f") (loop {body} (br 0))))'
    )
    running = Running(engine.call, "f")
    wait_until(lambda: engine.running)
    begun = time.monotonic()
    assert engine.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted
    assert time.monotonic() - begun < 5  # it took minutes


def test_an_interrupted_table_grow_leaves_nothing_behind_in_the_elements_to_come() -> None:
    engine = Engine()
    exports = engine.exports(
        """(module (table $t (export "table") 1 10000000 funcref) (elem declare func $grow)
          (func $grow (export "grow")
            (drop (table.grow $t (ref.func $grow) (i32.const 9000000))))
          (func (export "add") (drop (table.grow $t (ref.null func) (i32.const 9000000)))))"""
    )
    running = Running(engine.call, "grow")
    wait_until(lambda: engine.running)
    engine.store.interrupt()
    try:
        running.result()
        assert exports["table"].size == 9000001
    except Trap:
        assert exports["table"].size == 1
        engine.call("add")
        assert exports["table"].get_data(1) is None


def many_functions(count: int) -> str:
    """Each function is a unit of its own when it is first called in the baseline tier."""
    functions = "".join(
        f'(func (export "f{n}") (result i32) (i32.add (i32.const {n}) (i32.const 1)))'
        for n in range(count)
    )
    return f"(module {functions})"


def test_interruptions_at_any_moment_of_first_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", "")
    configuration = Configure()
    configuration.compilation_mode = CompilationMode.BASELINE
    engine = Engine(configuration)
    engine.instantiate(many_functions(100))
    interrupted = 0
    with storm(engine.store):
        for n in range(100):
            try:
                assert engine.call(f"f{n}") == [n + 1]
            except Trap as trap:
                interrupted += trap.code is ErrCode.Interrupted
    assert interrupted
    assert [engine.call(f"f{n}") for n in range(100)] == [[n + 1] for n in range(100)]


def test_ctrl_c_at_any_moment_of_first_calls() -> None:
    script = """
    import os, signal, threading, time
    from tests.runtime.engine import Engine
    from tests.runtime.test_interruption import many_functions
    from wasmedge_runtime import CompilationMode, Configure

    configuration = Configure()
    configuration.compilation_mode = CompilationMode.BASELINE
    engine = Engine(configuration)
    engine.instantiate(many_functions(150))
    go = threading.Event()
    def strike():
        for n in range(1, 150):
            go.wait()
            go.clear()
            time.sleep(n % 30 * 0.0002)
            os.kill(os.getpid(), signal.SIGINT)
    engine.call("f0")
    threading.Thread(target=strike).start()
    seen = 0
    for n in range(1, 150):
        try:
            go.set()
            assert engine.call(f"f{n}") == [n + 1]
            while True:
                time.sleep(0.001)
        except KeyboardInterrupt:
            seen += 1
    assert [engine.call(f"f{n}") for n in range(150)] == [[n + 1] for n in range(150)]
    print(seen)
    """
    assert output_of(script, WASMEDGE_CACHE_DIR="") == "149"
