"""Stores and threads: in parallel without the interpreter lock, or one call after another."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from tests.runtime.engine import I32, PATIENCE, Engine, Running, wait_until
from wasmedge_runtime import ErrCode, Limit, Memory, MemoryType, Store
from wasmedge_runtime.core import StoreCore

SPIN = """(module (memory (export "memory") 1)
  (func (export "wait") (loop (br_if 0 (i32.eqz (i32.load8_u (i32.const 0))))))
  (func (export "spin") (loop (br 0))))"""


def test_python_runs_while_a_guest_spins() -> None:
    """The guest ends only because this thread, meanwhile, writes to its memory."""
    engine = Engine()
    memory = engine.exports(SPIN)["memory"]
    running = Running(engine.call, "wait")
    wait_until(lambda: engine.running)
    memory.set_data(b"\1", 0)
    assert running.result() == []


def test_two_guests_run_at_the_same_time() -> None:
    """A calls its host function, which ends the loop that B has been in all the while."""
    a, b = Engine(), Engine()
    memory = b.exports(SPIN)["memory"]
    seen = []

    def release(data: object, other: object) -> None:
        seen.append(b.running)
        memory.set_data(b"\1", 0)

    a.host(release=([], [], release))
    a.instantiate(
        """(module (import "host" "release" (func $release))
          (func (export "f") (param i32) (result i32) (local i32)
            (loop (local.set 1 (i32.add (local.get 1) (i32.const 1)))
              (br_if 0 (i32.lt_u (local.get 1) (local.get 0))))
            (call $release) (local.get 1)))"""
    )
    spinning = Running(b.call, "wait")
    wait_until(lambda: b.running)
    assert Running(a.call, "f", 1000).result() == [1000]
    assert spinning.result() == []
    assert seen == [True]


def test_two_guests_that_wait_for_each_other_both_end() -> None:
    """Each spins until the other has written: they must run in parallel."""
    first, second = Engine(), Engine()
    shared = """(module (import "host" "say" (func $say)) (memory (export "memory") 1)
      (func (export "f") (call $say)
        (loop (br_if 0 (i32.eqz (i32.load8_u (i32.const 0)))))))"""
    memories: list[Any] = []
    for engine, other in ((first, 1), (second, 0)):

        def say(data: int, memory: object, other: int = other) -> None:
            memories[other].set_data(b"\1", 0)

        engine.host(say=([], [], say))
    memories += [first.exports(shared)["memory"], second.exports(shared)["memory"]]
    both = [Running(first.call, "f"), Running(second.call, "f")]
    assert [running.result() for running in both] == [[], []]


def test_one_store_runs_one_call_at_a_time() -> None:
    engine = Engine()
    inside: list[int] = []
    overlaps: list[int] = []

    def enter(data: object, memory: object, n: int) -> int:
        inside.append(n)
        overlaps.append(len(inside))
        threading.Event().wait(0.0005)
        inside.remove(n)
        return n

    engine.host(enter=([I32], [I32], enter))
    engine.instantiate(
        """(module (import "host" "enter" (func $enter (param i32) (result i32)))
          (memory 1) (func (export "f") (param i32) (result i32)
            (i32.store (i32.const 0) (local.get 0))
            (drop (call $enter (local.get 0)))
            (i32.load (i32.const 0))))"""
    )

    def work(start: int) -> list[Any]:
        return [engine.call("f", start + i) for i in range(50)]

    threads = [Running(work, n * 1000) for n in range(3)]
    for n, thread in enumerate(threads):
        assert thread.result() == [[n * 1000 + i] for i in range(50)]
    assert set(overlaps) == {1}


def test_a_second_thread_waits_while_the_store_is_busy() -> None:
    engine = Engine()
    engine.instantiate(SPIN)
    first = Running(engine.call, "spin")
    wait_until(lambda: engine.running)
    second = Running(engine.call, "spin")
    engine.store.interrupt()
    assert first.trap().code is ErrCode.Interrupted
    wait_until(lambda: engine.running)
    assert second.thread.is_alive()
    engine.store.interrupt()
    assert second.trap().code is ErrCode.Interrupted


def test_terminate_is_decided_by_its_own_call_not_by_another_thread() -> None:
    from wasmedge_runtime import Terminate

    engine = Engine()

    def stop(data: object, memory: object) -> None:
        raise Terminate

    engine.host(stop=([], [], stop))
    engine.instantiate(
        '(module (import "host" "stop" (func $stop)) (func (export "f") (call $stop)))'
    )

    def work() -> int:
        return sum(engine.call("f") == [] for _ in range(2000))

    assert [thread.result() for thread in [Running(work) for _ in range(3)]] == [2000] * 3


def test_modules_are_linked_while_another_thread_creates_memories() -> None:
    ended = threading.Event()
    made = []

    def create() -> None:
        while not ended.is_set():
            memories = [Memory(MemoryType(Limit(1))) for _ in range(8)]
            for memory in memories:
                memory.set_data(b"\xff" * 65536, 0)
            made.append(len(memories))

    creator = Running(create)
    try:
        wait_until(lambda: bool(made))
        for n in range(40):
            engine = Engine()
            engine.instantiate(
                f"""(module (memory 1) (func $g (param i32) (result i32)
                    (i32.add (local.get 0) (i32.const {n})))
                  (func (export "f") (param i32) (result i32)
                    (i32.store (i32.const 0) (call $g (local.get 0))) (i32.load (i32.const 0))))"""
            )
            assert engine.call("f", 1) == [n + 1]
    finally:
        ended.set()
        creator.result()


def test_modules_are_instantiated_in_many_threads() -> None:
    texts = [
        f'(module (memory 1) (func (export "f") (result i32) (i32.const {n})))' for n in range(8)
    ]

    def work(number: int) -> None:
        for i in range(30):
            n = (number + i) % len(texts)
            engine = Engine()
            engine.instantiate(texts[n])
            assert engine.call("f") == [n]

    for thread in [Running(work, number) for number in range(4)]:
        thread.result()


def test_threads_end_after_they_have_run_guest_code() -> None:
    engine = Engine()
    engine.instantiate(
        """(module (memory 1) (func (export "f") (param i32) (result i32) (local.get 0))
          (func (export "fault") (drop (i32.load (i32.const -1)))))"""
    )
    for n in range(200):
        assert Running(engine.call, "f", n).result() == [n]
        if n % 20 == 0:
            assert Running(engine.call, "fault").trap().code is ErrCode.MemoryOutOfBounds


def test_a_store_moves_between_threads() -> None:
    engine = Running(Engine).result()
    Running(engine.instantiate, SPIN).result()
    running = Running(engine.call, "spin")
    wait_until(lambda: engine.running)
    Running(engine.store.interrupt).result()
    assert running.trap().code is ErrCode.Interrupted


def test_host_and_guest_grow_a_memory_at_the_same_time() -> None:
    """No growth is lost."""
    text = """(module (memory (export "memory") 0 400)
      (func (export "f") (result i32) (local i32 i32)
        (loop
          (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
            (then (local.set 1 (i32.add (local.get 1) (i32.const 1)))))
          (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1)))
                             (i32.const 150))))
        (local.get 1)))"""
    for _ in range(20):
        exports = Engine().exports(text)
        memory = exports["memory"]
        running = Running(exports["f"])
        for _ in range(150):
            memory.grow_page(1)
        assert running.result() == [150]
        assert memory.page_size == 300


def test_garbage_is_collected_while_modules_are_loaded() -> None:
    """Instances in cycles are freed by the collector, at any point of another instantiation."""

    class Holder:
        def __init__(self, held: object) -> None:
            self.held = held
            self.me = self

    references = []
    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for n in range(60):
            engine = Engine()
            holder = Holder(
                engine.instantiate(f'(module (func (export "f") (result i32) (i32.const {n})))')
            )
            assert engine.call("f") == [n]
            references.append(weakref.ref(holder.held))
            del holder, engine
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert all(reference() is None for reference in references)


def test_threads_that_use_a_store_first_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = threading.Barrier(2)

    class Slow(StoreCore):
        def __init__(self) -> None:
            super().__init__()
            made.wait(PATIENCE)

    monkeypatch.setattr("wasmedge_runtime.store.StoreCore", Slow)
    store = Store()
    threads = [Running(lambda: store.core) for _ in range(2)]
    assert len({id(thread.result()) for thread in threads}) == 1
