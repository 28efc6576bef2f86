"""The reset of a used instance, beside a new instance of wasmtime."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import wasmtime

from benchmarks.engines import Ours
from benchmarks.measure import time_once
from benchmarks.rows import Row
from tests.wat import wat

ROUNDS = 101
DATA = 1 << 20  # bytes of data in the module
PAGE = 4096  # of the machine
PAGES = 16  # that a use dirties
LIMIT = 15e-6  # seconds that a reset may take

MODULE = f"""
(module
  (memory (export "memory") {DATA >> 16})
  (data (i32.const 0) "{"0123456789abcdef" * (DATA // 16)}")
  (func (export "use")
    (local $page i32)
    (loop $next
      (i32.store (i32.mul (local.get $page) (i32.const {DATA // PAGES})) (i32.const 1))
      (local.set $page (i32.add (local.get $page) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $page) (i32.const {PAGES})))))
  (func (export "sum") (result i32)
    (local $at i32) (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const {DATA}))))
    (local.get $sum)))
"""


def rows() -> Iterator[Row]:
    """Our reset of an instance, with its pages dirtied before each, and wasmtime's new store and
    instance. Raises `AssertionError` when a reset leaves something of the use."""
    module = wat(MODULE)
    ours, engine = Ours(module), wasmtime.Engine()
    use, total = ours.function("use"), ours.function("sum")
    before = total()
    reset: Callable[[], object] | None = getattr(ours.instance, "reset", None)
    if reset is None:
        print("reset is left out: this engine's instances have none")
        return
    compiled = wasmtime.Module(engine, module)

    def new() -> None:
        store = wasmtime.Store(engine)
        wasmtime.Instance(store, compiled, [])

    resets, news = [], []
    for _ in range(ROUNDS):
        use()
        resets.append(time_once(reset))
        news.append(time_once(new))
    if total() != before:
        raise AssertionError("the reset left the memory changed")
    yield Row(
        f"reset, {PAGES} of {DATA // PAGE} pages dirty",
        statistics.median(resets),
        statistics.median(news),
        peer="new instance",
    )
