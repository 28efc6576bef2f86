"""Guest code that uses up the stack: a trap, whatever the frames look like."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.runtime.engine import I32, Engine, Running, output_of
from wasmedge_runtime import CompilationMode, Configure, ErrCode, HostFunctionError, Trap

PLAIN = """(module (func $f (export "f") (param i32) (result i32)
  (i32.add (call $f (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "one") (result i32) (i32.const 1)))"""

MUTUAL = """(module (type $t (func (param i32) (result i32))) (table 2 funcref)
  (elem (i32.const 0) $f $g)
  (func $f (export "f") (type $t)
    (i32.add (call_indirect (type $t) (local.get 0) (i32.const 1)) (i32.const 1)))
  (func $g (type $t)
    (i32.mul (call_indirect (type $t) (local.get 0) (i32.const 0)) (i32.const 3)))
  (func (export "one") (result i32) (i32.const 1)))"""


def large_frame(count: int, kind: str) -> str:
    """A recursive function whose locals all live across the call, so that they need the stack."""
    value = "(v128.load (i32.const {at}))" if kind == "v128" else "(i64.load (i32.const {at}))"
    width = 16 if kind == "v128" else 8
    fill = "".join(f"(local.set {i + 1} {value.format(at=i % 4000 * width)})" for i in range(count))
    store = "v128.store" if kind == "v128" else "i64.store"
    use = "".join(
        f"({store} (i32.const {i % 4000 * width}) (local.get {i + 1}))" for i in range(count)
    )
    return f"""(module (memory 1)
      (func $f (export "f") (param i32) (result i32) (local {" ".join([kind] * count)})
        {fill} (local.set 0 (call $f (local.get 0))) {use} (local.get 0))
      (func (export "one") (result i32) (i32.const 1)))"""


def overflows(text: str, mode: CompilationMode = CompilationMode.TIERED) -> None:
    configuration = Configure()
    configuration.compilation_mode = mode
    engine = Engine(configuration)
    engine.instantiate(text)
    for _ in range(3):
        with pytest.raises(Trap) as caught:
            engine.call("f", 1)
        assert caught.value.code is ErrCode.RuntimeError
        assert caught.value.message.startswith("call stack exhausted")
        assert engine.call("one") == [1]


@contextmanager
def stack_size(size: int) -> Iterator[None]:
    """New threads get stacks of this size."""
    before = threading.stack_size(size)
    try:
        yield
    finally:
        threading.stack_size(before)


def in_small_thread(function: Callable[..., Any], *args: Any) -> Any:
    with stack_size(256 << 10):
        running = Running(function, *args)
    return running.result()


PROGRAMS = {
    "plain recursion": PLAIN,
    "mutual recursion through a table": MUTUAL,
    "frames above 64 KiB": large_frame(8400, "i64"),
    "vector frames": large_frame(4500, "v128"),
}


@pytest.mark.parametrize("mode", list(CompilationMode))
@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_recursion_without_end_exhausts_the_call_stack(text: str, mode: CompilationMode) -> None:
    overflows(text, mode)


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_recursion_without_end_in_a_thread_with_a_small_stack(text: str) -> None:
    in_small_thread(overflows, text)


@pytest.mark.parametrize(("count", "stack"), [(4500, 64 << 10), (45000, 256 << 10)])
def test_a_frame_larger_than_the_whole_stack_does_not_jump_over_its_end(
    count: int, stack: int
) -> None:
    """Memory below the stack, which a frame without probes would write to, stays as it was.

    The frames have 72 KB and 1.4 MB.
    """
    output = output_of(
        f"""
        import mmap, threading
        from tests.runtime.engine import Engine, Running
        from tests.runtime.test_stack import large_frame
        from wasmedge_runtime import Trap

        engine = Engine()
        engine.instantiate(large_frame({count}, "v128"))
        threading.stack_size({stack})
        for _ in range(3):
            fields = [mmap.mmap(-1, 1 << 20) for _ in range(8)]
            running = Running(engine.call, "f", 1)
            try:
                running.result()
            except Trap as trap:
                print(trap.message)
            assert all(field.read() == bytes(1 << 20) for field in fields)
        print(engine.call("one"))
        """
    )
    assert output.splitlines() == [*["call stack exhausted"] * 3, "[1]"]


def test_deep_recursion_that_ends_is_fine() -> None:
    engine = Engine()
    engine.instantiate(
        """(module (func $f (export "f") (param i32) (result i32)
          (if (result i32) (local.get 0)
            (then (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
            (else (i32.const 0)))))"""
    )
    assert engine.call("f", 20000) == [20000]


def test_the_frames_of_a_stack_overflow_are_named_and_bounded() -> None:
    engine = Engine()
    engine.instantiate(PLAIN)
    with pytest.raises(Trap) as caught:
        engine.call("f", 0)
    assert set(caught.value.frames) == {"f"}
    assert 1 < len(caught.value.frames) <= 64


THROUGH_HOST = """(module (import "host" "again" (func $again (param i32) (result i32)))
  (func (export "f") (param i32) (result i32)
    (i32.add (call $again (local.get 0)) (i32.const 1)))
  (func (export "one") (result i32) (i32.const 1)))"""


def through_host() -> None:
    engine = Engine()
    engine.host(again=([I32], [I32], lambda data, memory, n: engine.call("f", n + 1)))
    engine.instantiate(THROUGH_HOST)
    for _ in range(3):
        with pytest.raises((HostFunctionError, Trap)) as caught:
            engine.call("f", 0)
        if isinstance(caught.value, HostFunctionError):
            cause: BaseException | None = caught.value.__cause__
            assert isinstance(cause, RecursionError | Trap)
        assert engine.call("one") == [1]


def test_recursion_through_a_host_function_ends_in_an_error() -> None:
    through_host()


def test_recursion_through_a_host_function_in_a_thread_with_a_small_stack() -> None:
    in_small_thread(through_host)


def test_recursion_through_a_host_function_with_a_high_recursion_limit() -> None:
    """The guest's own limit ends it before the stack does."""
    output = output_of(
        """
        import sys, threading
        from tests.runtime.engine import Running
        from tests.runtime.test_stack import through_host
        sys.setrecursionlimit(1_000_000)
        through_host()
        threading.stack_size(512 << 10)
        Running(through_host).result()
        print("done")
        """
    )
    assert output == "done"


def test_each_depth_of_recursion_through_a_host_function_fails_in_order() -> None:
    """Python's limit strikes at every point of a call in turn, never as something else."""
    output = output_of(
        """
        import sys, warnings
        from tests.runtime.engine import I32, Engine
        from wasmedge_runtime import HostFunctionError

        unraisable = []
        sys.unraisablehook = lambda u: unraisable.append(u.exc_type)
        engine = Engine()
        engine.host(again=([I32], [I32], lambda data, memory, n: f(n + 1)))
        from tests.runtime.test_stack import THROUGH_HOST
        f = engine.exports(THROUGH_HOST)["f"]
        kinds = set()
        for limit in range(200, 230):
            sys.setrecursionlimit(limit)
            try:
                f(0)
            except HostFunctionError as error:
                kinds.add(type(error.__cause__).__name__)
            except RecursionError:
                kinds.add("RecursionError")
            assert engine.call("one") == [1]
        sys.setrecursionlimit(1000)
        print(kinds, set(unraisable) <= {RecursionError})
        """
    )
    assert output == "{'RecursionError'} True"


_TO_EVERY_END_OF_THE_STACK = """
import threading
from tests.runtime.engine import Engine, Running
from tests.runtime.test_stack import deep_leaf
from wasmedge_runtime import CompilationMode, Configure, Trap

def main():
    configuration = Configure()
    configuration.compilation_mode = CompilationMode.BASELINE
    engine = Engine(configuration)
    engine.instantiate(deep_leaf({last!r}))
    trapped = 0
    for depth in range(3000, 6100):
        try:
            engine.call("f", depth)
        except Trap:
            trapped += 1
    return trapped

threading.stack_size(256 << 10)
print(Running(main).result() > 1000)
"""


def deep_leaf(last: str) -> str:
    """A recursion to the depth of its parameter that ends in a function without calls. Its frame is
    large in the baseline tier, where a value that lives in two basic blocks has its own place."""
    step = """(local.set 1 (i8x16.add (local.get 1) (local.get 2))) (br_if 0 (local.get 0))
      (local.set 2 (i8x16.sub (local.get 1) (local.get 2))) (br_if 0 (local.get 0))"""
    return f"""(module (memory 1) (func $nothing)
      (func $leaf (param i32) (local v128 v128) (block {step * 2300} {last}))
      (func $f (export "f") (param i32) (if (local.get 0)
        (then (call $f (i32.sub (local.get 0) (i32.const 1))))
        (else (call $leaf (i32.const 0))))))"""


@pytest.mark.parametrize(
    "last", ["(drop (memory.grow (i32.const 0)))", "unreachable", "(call $nothing)"]
)
def test_a_frame_may_end_anywhere_near_the_end_of_the_stack(last: str) -> None:
    assert output_of(_TO_EVERY_END_OF_THE_STACK.format(last=last)) == "True"
