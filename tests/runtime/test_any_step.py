"""An exception that arrives at any step of a call, as KeyboardInterrupt does, leaves all usable."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from tests.runtime.engine import EXTERNREF, I32, Engine, Running
from wasmedge_runtime import Configure, HostFunctionError, Statistics

MODULE = """(module
  (import "host" "double" (func $double (param i32) (result i32)))
  (import "host" "same" (func $same (param externref) (result externref)))
  (import "host" "fail" (func $fail))
  (memory (export "memory") 1)
  (func (export "number") (param i32) (result i32) (call $double (local.get 0)))
  (func (export "object") (param externref) (result externref) (call $same (local.get 0)))
  (func (export "failing") (call $fail)))"""


class Strike:
    """Raises KeyboardInterrupt at the n-th point where Python looks for signals."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        # A call of a Python function has begun, or one of a C function has ended.
        if event in ("call", "c_return") and frame.f_code.co_filename != __file__:
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    @property
    def struck(self) -> bool:
        return self.left <= 0


def fail(data: Any, memory: Any) -> None:
    raise ValueError("as planned")


@pytest.fixture(params=[False, True], ids=["plain", "measured"])
def engine(request: pytest.FixtureRequest) -> Engine:
    configuration = Configure()
    configuration.statistics_cost_measuring = request.param
    configuration.statistics_time_measuring = request.param
    engine = Engine(configuration, Statistics() if request.param else None)
    engine.host(
        double=([I32], [I32], lambda data, memory, n: 2 * n),
        same=([EXTERNREF], [EXTERNREF], lambda data, memory, thing: thing),
        fail=([], [], fail),
    )
    engine.instantiate(MODULE)
    return engine


def is_free(lock: Any) -> bool:
    """Whether another thread could take a lock."""
    if not lock.acquire(blocking=False):
        return False
    lock.release()
    return True


def outcome(engine: Engine, name: str, *args: Any) -> object:
    try:
        results = engine.call(name, *args)
    except HostFunctionError as error:
        return str(error.__cause__)
    return getattr(results[0], "value", results[0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [("number", (21,), 42), ("object", ("thing",), "thing"), ("failing", (), "as planned")],
)
def test_a_keyboard_interrupt_at_any_step_is_raised_and_leaves_the_store_usable(
    engine: Engine, name: str, args: tuple[Any, ...], expected: object
) -> None:
    core = engine.store.core
    steps = 0
    while True:
        steps += 1
        strike = Strike(steps)
        sys.setprofile(strike)
        try:
            result = outcome(engine, name, *args)
        except KeyboardInterrupt:
            result = KeyboardInterrupt
        finally:
            sys.setprofile(None)
        assert result in ((KeyboardInterrupt,) if strike.struck else (expected,)), steps
        assert not core.metering
        assert not core.activation.depth
        assert not core.activation.call_id
        assert not core.reference_calls
        assert Running(is_free, core.lock).result(), steps
        if not strike.struck:
            break
        assert outcome(engine, name, *args) == expected
    assert steps > 3
