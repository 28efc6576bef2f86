"""The team of helpers, from inside: who does what, what is shown of it, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.engine import Running, wait_until
from tests.runtime.helpers import engine, module_of
from wasmedge_runtime import (
    CodeState,
    CodeStatus,
    CompilationMode,
    Configure,
    Executor,
    ModuleInstance,
    Store,
    cache,
)
from wasmedge_runtime.tiers import frames, optimizer
from wasmedge_runtime.tiers.module import CompiledModule
from wasmedge_runtime.tiers.plan import Tier
from wasmedge_runtime.tiers.unit import TARGETS, compile_unit, unpack

OPTIMIZED, TIERED = CompilationMode.OPTIMIZED, CompilationMode.TIERED


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(place))
    return place


class Spy:
    """Every helper of this process, and what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.asked: list[tuple[int, int, bool]] = []  # process, unit, whether to wait
        self.before: Callable[[subprocess.Popen[bytes], int], object] = lambda process, number: None
        begin, ask = optimizer._Helper.__init__, optimizer._Helper.ask

        def note_process(this: optimizer._Helper, background: bool, lasting: bool) -> None:
            begin(this, background, lasting)
            self.processes.append(this._process)

        def note_request(
            this: optimizer._Helper, job: optimizer._Job, number: int, wait: bool
        ) -> list[Any]:
            self.asked.append((this._process.pid, number, wait))
            self.before(this._process, number)
            return ask(this, job, number, wait)

        monkeypatch.setattr(optimizer._Helper, "__init__", note_process)
        monkeypatch.setattr(optimizer._Helper, "ask", note_request)

    @property
    def units(self) -> list[int]:
        return sorted(number for _, number, _ in self.asked)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def instantiate(
    text: str, progress: Callable[[CodeStatus], None] | None = None
) -> tuple[ModuleInstance, Store]:
    """An instance in the mode that optimises first."""
    configuration = Configure()
    configuration.compilation_mode = OPTIMIZED
    store = Store()
    executor = Executor(configuration, progress=progress)
    return executor.instantiate(store, engine().load(text)), store


def results(instance: ModuleInstance, units: int) -> list[list[int]]:
    exports: Any = instance.exports
    return [exports[f"f{number}"](0) for number in range(units)]


def settled(code: CompiledModule) -> CodeStatus:
    wait_until(lambda: not code.optimizing)
    return code.status


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_several_helpers_share_a_large_module(spy: Spy) -> None:
    instance, _ = instantiate(module_of(5))
    assert spy.units == [0, 1, 2, 3, 4]
    assert len({process for process, _, _ in spy.asked}) > 1
    assert instance.code_status == (CodeState.OPTIMIZED, 5, 0, 5, False)
    assert results(instance, 5) == [[0], [1], [2], [3], [4]]


def test_helpers_of_a_module_that_is_optimised_first_end_with_it(spy: Spy) -> None:
    instantiate(module_of(3, 10))
    wait_until(lambda: all(process.poll() is not None for process in spy.processes))
    assert {process.returncode for process in spy.processes} == {0}


def test_a_module_of_one_unit_needs_no_helper(spy: Spy) -> None:
    instance, _ = instantiate(module_of(1, 20))
    assert spy.processes == []
    assert instance.code_status == (CodeState.OPTIMIZED, 1, 0, 1, False)


def test_progress_is_shown() -> None:
    seen: list[CodeStatus] = []
    instance, _ = instantiate(module_of(4, 30, slow=True), seen.append)
    assert seen[0] == (CodeState.OPTIMIZING, 4, 0, 0, False)
    done = [status.optimized for status in seen]
    assert done == sorted(set(done))
    assert {status.functions for status in seen} == {4}
    assert instance.code_status.optimized == 4
    seen.clear()
    instantiate(module_of(4, 30, slow=True), seen.append)
    assert seen == []  # nothing to wait for


def test_progress_may_end_the_waiting() -> None:
    def enough(status: CodeStatus) -> None:
        raise TimeoutError("enough")

    text = module_of(3, 40, slow=True)
    with pytest.raises(TimeoutError, match="enough"):
        instantiate(text, enough)
    instance, _ = instantiate(text)
    assert instance.code_status.state is CodeState.OPTIMIZED
    assert results(instance, 3) == [[40], [41], [42]]


def test_two_threads_that_wait_for_the_same_module(spy: Spy) -> None:
    """Each has it made; what the slower one gets must not replace code that runs."""
    text = module_of(3, 50, slow=True)
    begin = threading.Barrier(2)

    def run() -> list[list[int]]:
        begin.wait()
        instance, _ = instantiate(text)
        for _ in range(300):
            found = results(instance, 3)
        return found

    both = [Running(run), Running(run)]
    assert [one.result() for one in both] == [[[50], [51], [52]]] * 2


def test_a_unit_is_never_replaced() -> None:
    """A call may be in it."""
    store = engine(OPTIMIZED)
    code = store.instantiate(module_of(1, 60)).loaded
    before = code._units[Tier.OPTIMIZED, 0]
    unit = unpack(cache.load(code.name(0)) or b"")
    assert unit is not None
    code.install(0, unit)
    assert code._units[Tier.OPTIMIZED, 0] is before
    assert store.call("f0", 1) == [61]


def test_status_at_each_stage(spy: Spy) -> None:
    go = threading.Event()
    spy.before = lambda process, number: go.wait(60)
    store = engine()
    instance = store.instantiate(module_of(3, 70))
    assert instance.code_status == (CodeState.BASELINE, 3, 0, 0, False)
    store.call("f1", 1)
    assert instance.code_status == (CodeState.OPTIMIZING, 3, 1, 0, False)
    store.call("f2", 1)
    assert instance.code_status == (CodeState.OPTIMIZING, 3, 2, 0, False)
    go.set()
    assert settled(instance.loaded) == (CodeState.OPTIMIZED, 3, 0, 3, False)
    del instance, store
    again = engine().instantiate(module_of(3, 70))
    assert again.code_status == (CodeState.OPTIMIZED, 3, 0, 3, True)
    assert results(again, 3) == [[70], [71], [72]]
    assert again.code_status == (CodeState.OPTIMIZED, 3, 0, 3, True)


def test_what_is_called_is_optimised_first(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "_processors", lambda: 1)
    monkeypatch.setattr(optimizer, "_background", optimizer.Team(background=True))
    store = engine()
    code = store.instantiate(module_of(4, 80)).loaded
    store.call("f2", 0)
    settled(code)
    assert next(number for _, number, _ in spy.asked) == 2


@pytest.mark.parametrize("mode", [TIERED, OPTIMIZED])
def test_a_unit_that_kills_helpers_stays_baseline(
    mode: CompilationMode, spy: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    """As if LLVM had crashed; nobody tries it within this process."""

    def crash(process: subprocess.Popen[bytes], number: int) -> None:
        if number == 1:
            process.kill()
            process.wait()

    caplog.set_level("WARNING", "wasmedge")
    spy.before = crash
    store = engine(mode)
    instance = store.instantiate(module_of(3, 90 + 10 * mode))
    results(instance, 3)
    assert settled(instance.loaded) == (CodeState.BASELINE, 3, 1, 2, False)
    assert spy.units == [0, 1, 2]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "1 functions from number 1 are not optimised: the helper process was ended by signal 9"
    ]


def test_a_unit_that_is_too_much_for_llvm_is_left_alone_by_the_next_process(
    spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, LLVM would end it."""

    def crash(process: subprocess.Popen[bytes], number: int) -> None:
        if number == 1:
            process.send_signal(signal.SIGABRT)
            process.wait()

    spy.before = crash
    text = module_of(3, 120)
    instance, store = instantiate(text)
    assert instance.code_status == (CodeState.BASELINE, 3, 0, 2, False)
    del instance, store
    compiled = []

    def note(*args: Any) -> Any:
        compiled.append(args[3])
        return compile_unit(*args)

    monkeypatch.setattr("wasmedge_runtime.tiers.module.compile_unit", note)
    instance, _ = instantiate(text)
    assert results(instance, 3) == [[120], [121], [122]]
    assert set(compiled) <= {TARGETS[Tier.BASELINE]}


@pytest.mark.parametrize("mode", [TIERED, OPTIMIZED])
def test_a_host_where_no_process_may_be_started(
    mode: CompilationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(optimizer, "_background", optimizer.Team(background=True))
    store = engine(mode)
    module = store.load(module_of(5, 130 + 10 * mode))
    monkeypatch.setattr(subprocess, "Popen", refuse)
    instance = store.executor.instantiate(store.store, module)
    assert results(instance, 5) == [[130 + 10 * mode + n] for n in range(5)]
    assert settled(instance.loaded).state is CodeState.BASELINE


def test_a_helper_that_was_ended_while_idle_is_replaced(
    spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "_processors", lambda: 1)
    monkeypatch.setattr(optimizer, "_background", optimizer.Team(background=True))
    first, second = engine(), engine()
    code = first.instantiate(module_of(1, 160)).loaded
    first.call("f0", 0)
    assert settled(code).state is CodeState.OPTIMIZED
    (idle,) = spy.processes
    os.kill(idle.pid, signal.SIGKILL)
    os.waitid(os.P_PID, idle.pid, os.WEXITED | os.WNOWAIT)
    code = second.instantiate(module_of(1, 170)).loaded
    second.call("f0", 0)
    assert settled(code).state is CodeState.OPTIMIZED
    assert len(spy.processes) == 2


def test_threads_that_look_after_helpers_end(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(optimizer, "_background", optimizer.Team(background=True))
    store = engine()
    code = store.instantiate(module_of(2, 180)).loaded
    store.call("f0", 0)
    assert settled(code).state is CodeState.OPTIMIZED
    team = optimizer._background
    wait_until(lambda: team._threads == 0)
    wait_until(lambda: all(process.poll() == 0 for process in spy.processes))
    assert team._jobs == []


def test_work_that_comes_when_the_time_is_just_up_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that is about to end is counted as one that does it."""
    team = optimizer.Team(background=True)
    monkeypatch.setattr(optimizer, "_background", team)
    monkeypatch.setattr(optimizer, "_processors", lambda: 1)
    store, later = engine(), engine()
    code = store.instantiate(module_of(1, 190)).loaded
    other = later.instantiate(module_of(1, 200)).loaded
    waits = 0

    def wait(timeout: float | None = None) -> bool:
        nonlocal waits
        if threading.current_thread().name.startswith("wasmedge-optimizer"):
            waits += 1
            if waits == 1:
                team.submit(other)  # the lock is free while a thread waits
                return False
        return real_wait(timeout)

    real_wait = team._changed.wait
    monkeypatch.setattr(team._changed, "wait", wait)
    store.call("f0", 0)
    assert settled(code).state is CodeState.OPTIMIZED
    wait_until(lambda: waits > 0)
    assert settled(other).state is CodeState.OPTIMIZED


def test_a_module_that_is_gone_is_not_optimised(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "_processors", lambda: 1)
    monkeypatch.setattr(optimizer, "_background", optimizer.Team(background=True))
    go = threading.Event()
    spy.before = lambda process, number: go.wait(60)
    store = engine()
    store.instantiate(module_of(4, 210))
    store.call("f0", 0)
    wait_until(lambda: len(spy.asked) == 1)
    del store
    go.set()
    wait_until(lambda: optimizer._background._jobs == [])
    assert len(spy.asked) <= 2


# The helper, as its parent sees it.


class Helper:
    """A helper process and its pipes."""

    def __init__(self) -> None:
        boot = optimizer._BOOT.format(path=sys.path, background=False)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", boot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout

    def say(self, *request: Any) -> None:
        frames.write(self.requests, list(request))

    def ask(self, *request: Any) -> list[Any] | None:
        self.say(*request)
        return frames.read(self.answers)

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *args: object) -> None:
        self.requests.close()
        self.answers.close()
        self.process.kill()
        self.process.wait()


def test_the_answers_of_a_helper(folder: Path) -> None:
    store = engine(CompilationMode.BASELINE)
    module = store.load(module_of(2, 220))
    code = store.executor.instantiate(store.store, module).loaded
    request = [
        frames.MODULE,
        module.data,
        [proposal.name for proposal in module.proposals],
        list(code.variant),
        list(code.target),
        str(folder),
        cache.engine_fingerprint(),
    ]
    with Helper() as process:
        assert process.ask(frames.UNIT, 0, False) == [frames.REFUSED, "no module"]
        process.say(*request)
        with cache.claim(code.name(0), 0) as mine:
            assert mine
            assert process.ask(frames.UNIT, 0, False) == [frames.BUSY]
            process.say(frames.UNIT, 0, True)  # waits for this process
        found, data = frames.read(process.answers) or [None, b""]
        assert found == frames.DONE
        code.install(0, unpack(data) or pytest.fail("not a unit"))
        assert store.call("f0", 1) == [221]
        process.requests.close()
        assert process.process.wait(60) == 0


def test_a_helper_ends_when_its_input_is_not_a_message() -> None:
    with Helper() as process:
        process.requests.write(b"\xff" * 64)
        process.requests.flush()
        assert process.process.wait(60) == 1


def test_an_engine_that_was_updated_meanwhile_makes_no_code_for_this_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "wasmedge")
    store = engine(OPTIMIZED)
    module = store.load(module_of(2, 230))
    monkeypatch.setattr(cache, "engine_fingerprint", lambda: "that of another version")
    instance = store.executor.instantiate(store.store, module)
    assert "the engine that is installed now" in caplog.text
    assert instance.code_status.optimized == 0
    assert results(instance, 2) == [[230], [231]]


@pytest.mark.parametrize("error", [MemoryError("none left"), RuntimeError("of any kind")])
def test_a_failure_of_a_thread_lets_nobody_wait_for_it(
    error: Exception, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(process: subprocess.Popen[bytes], number: int) -> None:
        raise error

    spy.before = fail
    instance, _ = instantiate(module_of(2, 240))
    assert results(instance, 2) == [[240], [241]]
