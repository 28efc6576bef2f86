"""A process that only reads the cache, and one that fills it ahead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.engine import output_of
from tests.runtime.helpers import Program, module_of
from tests.wat import wat
from wasmedge_runtime import CodeState, Configure, LoadError, ValidationError, cache
from wasmedge_runtime.tiers.ahead import Ahead
from wasmedge_runtime.tiers.unit import journal_name

FOLLOWER = "from wasmedge_runtime import cache; cache.follow()\n"
IMPORTS = (
    "import sys, threading; from tests.runtime.helpers import *; from wasmedge_runtime import *\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(place))
    return place


def make(text: str, background: bool = False) -> Ahead:
    ahead = Ahead(wat(text), Configure())
    status = ahead.make(background, True, lambda status: None)
    assert status.state is CodeState.OPTIMIZED
    return ahead


def make_elsewhere(text: str, folder: Path, background: bool = False) -> Path:
    """The same in a process that has made nothing yet, not even stubs; the module's file."""
    path = folder / "module.wasm"
    path.write_bytes(wat(text))
    script = f"""
from pathlib import Path
from wasmedge_runtime.tiers.ahead import Ahead
ahead = Ahead(Path({str(path)!r}).read_bytes(), Configure())
print(ahead.make({background}, True, lambda status: None).state)
"""
    assert output_of(IMPORTS + script) == "optimized"
    return path


@pytest.mark.parametrize("mode", ["BASELINE", "TIERED", "OPTIMIZED"])
def test_a_follower_writes_nothing(mode: str, folder: Path) -> None:
    """Neither code of either tier, nor a validation; and it starts no helper."""
    script = f"""
store = engine(CompilationMode.{mode})
instance = store.instantiate(module_of(3))
print(store.call("f1", 5), instance.code_status.optimized, instance.loaded.optimizing)
store = engine(CompilationMode.{mode})
store.instantiate('(module (func (export "f") (result i32) (i32.const 7)))')
print(store.call("f"))
"""
    assert output_of(IMPORTS + FOLLOWER + script) == "[6] 0 False\n[7]"
    assert not folder.exists()


def test_a_follower_takes_what_comes_while_a_call_runs() -> None:
    script = """
text = module_of(3).replace("(module", '(module (func (export "spin") (loop (br 0)))', 1)
store = engine()
instance = store.instantiate(text)
assert store.call("f1", 5) == [6]
from tests.runtime.engine import Running
spinning = Running(store.call, "spin")
wait_until(lambda: store.running)
ready(*instance.code_status)
wait_until(lambda: instance.code_status.state is CodeState.OPTIMIZED)
print(instance.loaded._has_code(2), instance.loaded._has_code(3))
store.store.interrupt()
spinning.trap()
print(store.call("f1", 5), store.call("f2", 5))
"""
    text = module_of(3).replace("(module", '(module (func (export "spin") (loop (br 0)))', 1)
    with Program(IMPORTS + FOLLOWER + script) as program:
        assert program.line() == "baseline 4 2 0 False"
        make(text)
        status, output, errors = program.end()
    assert (status, errors) == (0, "")
    # What was not called before is loaded when it is.
    assert output.splitlines() == ["True False", "[6] [7]"]


OPTIMIZED_FIRST = """
configuration = Configure()
configuration.compilation_mode = CompilationMode.OPTIMIZED
store = engine(CompilationMode.OPTIMIZED)
executor = Executor(configuration, progress=lambda status: print(status.state, flush=True))
instance = executor.instantiate(store.store, store.load(module_of(2)))
ready(instance.code_status.optimized)
print(store.call("f1", 5), instance.code_status.baseline)
"""


def test_a_follower_that_wants_optimised_code_waits_for_it() -> None:
    ahead = Ahead(wat(module_of(2)), Configure())
    with (
        cache.announce(ahead._module.announcement),
        Program(IMPORTS + FOLLOWER + OPTIMIZED_FIRST) as program,
    ):
        assert program.line() == "optimizing"
        ahead.make(False, True, lambda status: None)
        while (line := program.line()) != "2":
            assert line in ("optimizing", "optimized")
        assert program.end()[1:] == ("[6] 0\n", "")


def test_a_follower_does_not_wait_for_what_nobody_makes() -> None:
    """Who said so has died, perhaps: baseline code runs."""
    ahead = Ahead(wat(module_of(2)), Configure())
    with Program(IMPORTS + FOLLOWER + OPTIMIZED_FIRST) as program:
        with cache.announce(ahead._module.announcement):
            line = program.line()
        assert line in ("optimizing", "baseline")  # it came before, or after
        while line != "0":
            line = program.line()
        assert program.end()[1:] == ("[6] 1\n", "")


def test_what_is_damaged_is_left_alone_by_followers(folder: Path, tmp_path: Path) -> None:
    ahead = make(module_of(2, 7))
    for number in range(2):
        name = ahead._module.name(number)
        (folder / name[:2] / name).write_bytes(b"damaged")
    script = """
store = engine()
instance = store.instantiate(module_of(2, 7))
print(store.call("f0", 5), store.call("f1", 5))
wait_until(lambda: instance.code_status.state is CodeState.BASELINE)
print(*instance.code_status[1:4])
"""
    assert output_of(IMPORTS + FOLLOWER + script) == "[12] [13]\n2 2 0"
    make_elsewhere(module_of(2, 7), tmp_path)
    assert output_of(IMPORTS + FOLLOWER + script.replace("BASELINE", "OPTIMIZED")) == (
        "[12] [13]\n2 0 2"
    )


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("text", [module_of(3), '(module (func (export "f0") (param i32)))'])
def test_who_runs_what_was_made_ahead_compiles_nothing(
    text: str, background: bool, tmp_path: Path
) -> None:
    path = make_elsewhere(text, tmp_path, background)
    script = f"""
vm = VM()
vm.run_wasm_file({str(path)!r}, "f0", 1)
print(vm.get_code_status().state, vm.get_code_status().from_cache, "llvmlite" in sys.modules)
"""
    alone = "import sys; from wasmedge_runtime import *\n" + FOLLOWER
    assert output_of(alone + script) == "optimized True False"


def test_what_is_made_ahead_is_not_run() -> None:
    make("(module (start $f) (func $f (loop (br 0))))")


def test_what_is_made_ahead_is_validated() -> None:
    with pytest.raises(LoadError):
        Ahead(b"nothing", Configure())
    with pytest.raises(ValidationError):
        Ahead(wat("(module (func (result i32)))"), Configure())


def test_functions_that_are_wanted_get_baseline_code_too() -> None:
    """For processes that start before all is optimised."""
    text = module_of(2, slow=True)
    ahead = Ahead(wat(text), Configure())
    module = ahead._module
    ahead.want(b"another module", [0])
    ahead.want(module.digest, [1, 2, 99])
    journal = cache.Journal(journal_name(module.digest, module.variant))
    assert [journal.get(number) is not None for number in (0, 1)] == [False, True]
    assert module.calls == [0, 1]


def test_several_processes_may_announce_the_same() -> None:
    name = cache.key("something")
    assert not cache.announced(name)
    with cache.announce(name):
        with cache.announce(name):
            assert cache.announced(name)
        assert cache.announced(name)
    assert not cache.announced(name)


def test_what_a_follower_needs_is_told() -> None:
    script = """
from wasmedge_runtime.tiers import follower
told = []
follower.report_to(lambda digest, functions: told.append((digest, functions)))
store = engine()
instance = store.instantiate(module_of(3))
store.call("f1", 5)
wait_until(lambda: told)
store.call("f0", 5)
wait_until(lambda: len(told) > 1)
assert {digest for digest, _ in told} == {instance.loaded.digest}
print(*[functions for _, functions in told])
"""
    assert output_of(IMPORTS + FOLLOWER + script) == "[1] [0]"


def test_threads_of_followers_end_with_their_modules() -> None:
    script = """
store = engine()
store.instantiate(module_of(2))
store.call("f0", 5)
names = lambda: [thread.name for thread in threading.enumerate()]
assert "wasmedge-follower" in names()
store.store.clear_anonymous()
del store
wait_until(lambda: "wasmedge-follower" not in names())
print("ended")
"""
    assert output_of(IMPORTS + FOLLOWER + script) == "ended"
