"""Optimisers as real processes: they and their programs are ended at any moment."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.runtime.engine import ROOT, output_of
from tests.runtime.helpers import Program, engine, module_of
from wasmedge_runtime import CodeState, CompilationMode, cache
from wasmedge_runtime.codegen.context import Variant
from wasmedge_runtime.tiers.plan import Plan
from wasmedge_runtime.tiers.unit import load_unit, unit_name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(place))
    return place


def start(units: int, then: str = "ready('started')") -> str:
    """A script that calls one function of a module that takes seconds to optimise."""
    return f"""
store = engine()
instance = store.instantiate(module_of({units}, slow=True))
assert store.call("f0", 5) == [5]
{then}
"""


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]


def optimized_units(units: int) -> list[str]:
    """The names in the cache of the optimised units of a slow module."""
    module = engine().load(module_of(units, slow=True))
    assert len(Plan(module).optimized) == units
    variant = Variant(guarded=True, counting=False, gas=False)
    return [unit_name(module.digest, variant, n) for n in range(units)]


def all_functions_work(units: int) -> None:
    store = engine(CompilationMode.OPTIMIZED)
    instance = store.instantiate(module_of(units, slow=True))
    assert instance.code_status.state is CodeState.OPTIMIZED
    assert [store.call(f"f{n}", 5) for n in range(units)] == [[5 + n] for n in range(units)]


def test_a_program_is_killed_while_it_is_optimised(folder: Path) -> None:
    """What the helpers were at is kept, they end, and the next program goes on from there."""
    with Program(start(6)) as program:
        assert program.line() == "started"
        program.wait_for_helpers(2)
        program.kill()
        program.wait_for_end_of_helpers()
    done = [name for name in optimized_units(6) if cache.contains(name)]
    assert done
    assert len(done) < 6
    assert all(load_unit(name) for name in done)
    all_functions_work(6)


def test_helpers_are_killed(folder: Path) -> None:
    """The program goes on and says so; units that no helper was at get optimised."""
    script = "import logging; logging.basicConfig(level=logging.WARNING)\n" + start(
        5,
        """
import logging
logging.getLogger("wasmedge").setLevel(logging.WARNING)
ready('started')
assert [store.call(f"f{n}", 5) for n in range(5)] == [[5], [6], [7], [8], [9]]
wait_until(lambda: not instance.loaded.optimizing)
print(*instance.code_status[:4])
assert [store.call(f"f{n}", 5) for n in range(5)] == [[5], [6], [7], [8], [9]]
""",
    )
    with Program(script) as program:
        assert program.line() == "started"
        program.wait_for_helpers(2)
        program.kill_helpers()
        status, output, errors = program.end()
    assert status == 0, errors
    lost = errors.count("was ended by signal 9")
    assert lost in (1, 2)
    assert output.split() == ["baseline", "5", str(lost), str(5 - lost)]


def test_a_program_that_ends_does_not_wait_for_its_helpers(folder: Path) -> None:
    """They are still at work when it has ended, and what they do is kept."""
    with Program(start(3)) as program:
        assert program.line() == "started"
        program.wait_for_helpers()
        status, _, errors = program.end()
        left = program.helpers()
        program.wait_for_end_of_helpers()
    assert (status, errors) == (0, "")
    assert left
    assert any(cache.contains(name) for name in optimized_units(3))


@pytest.mark.parametrize("moment", range(8))
def test_a_program_that_ends_at_any_moment_ends_well(folder: Path, moment: int) -> None:
    """Threads that start or hear from helpers are cut off by the interpreter's end."""
    with Program(start(3, f"import time; time.sleep({moment / 20})")) as program:
        status, _, errors = program.end()
    assert (status, errors) == (0, "")


WRITER = """
import os, sys
from wasmedge_runtime import cache
print("begun", flush=True)
for number in range(1_000_000):
    cache.store(cache.key(sys.argv[1], number % 50), bytes([number % 256]) * (1 << 20))
"""


def test_a_program_is_killed_while_it_writes_to_the_cache(folder: Path) -> None:
    chance = random.Random(3)
    paths = os.pathsep.join([str(ROOT / "runtime"), *filter(None, sys.path)])
    for turn in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(turn)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(chance.random() / 20)
            writer.kill()
    found = entries(folder)
    assert found
    for path in found:
        content = cache.load(path.name)
        assert content is not None
        assert content == content[:1] * (1 << 20)


def test_what_is_left_of_an_entry_does_no_harm(folder: Path) -> None:
    name = cache.key("left")
    (folder / name[:2]).mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    (folder / name[:2] / ".abcdef").write_bytes(b"half of it")
    cache.store(name, b"content")
    assert cache.load(name) == b"content"


def test_a_cache_without_space(folder: Path) -> None:
    """As good as a full disk: files may not grow. What helpers make arrives all the same."""
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
{start(3, "wait_until(lambda: not instance.loaded.optimizing)")}
print(*instance.code_status[:4])
"""
    with Program(script) as program:
        status, output, errors = program.end()
    assert (status, errors) == (0, "")
    assert output.split() == ["optimized", "3", "0", "3"]
    assert all(path.stat().st_size <= 100 for path in entries(folder))
    left = [path for path in folder.rglob(".*") if path.name[:5] not in (".lock", ".slot")]
    assert left == []


def test_a_cache_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", "")
    all_functions_work(2)


_CREATED = 0x80  # IN_MOVED_TO


def test_two_programs_at_once_optimise_no_unit_twice(folder: Path) -> None:
    """Entries appear by being renamed: the kernel tells how often that happens."""
    names = optimized_units(4)
    folder.mkdir(mode=0o700, exist_ok=True)
    library = ctypes.CDLL(None, use_errno=True)
    watch = library.inotify_init1(os.O_NONBLOCK)
    for name in names:
        (folder / name[:2]).mkdir(mode=0o700, exist_ok=True)
        assert library.inotify_add_watch(watch, os.fsencode(folder / name[:2]), _CREATED) >= 0
    finish = "wait_until(lambda: not instance.loaded.optimizing); print(*instance.code_status[:4])"
    with Program(start(4, finish)) as one, Program(start(4, finish)) as other:
        for program in (one, other):
            status, output, errors = program.end()
            assert (status, errors) == (0, "")
            assert output.split() == ["optimized", "4", "0", "4"]
    events = os.read(watch, 1 << 16)
    os.close(watch)
    written = Counter[str]()
    while events:
        length = struct.unpack_from("I", events, 12)[0]
        written[events[16 : 16 + length].rstrip(b"\0").decode()] += 1
        events = events[16 + length :]
    assert [written[name] for name in names] == [1, 1, 1, 1]


def test_helpers_end_after_a_while_without_work(folder: Path) -> None:
    script = start(2, "ready('started'); wait_until(lambda: not instance.loaded.optimizing)")
    with Program(script + "ready('done')") as program:
        assert program.line() == "started"
        program.wait_for_helpers()
        assert program.process.stdin is not None
        program.process.stdin.write("\n")
        program.process.stdin.flush()
        assert program.line() == "done"
        program.wait_for_end_of_helpers()
        assert program.process.poll() is None


def test_the_limits_of_the_parent_are_kept() -> None:
    """Raising them takes privileges, and would be wrong with these."""
    script = """
    import resource
    from wasmedge_runtime.tiers import helper
    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 32))
    helper._limit(resource.RLIMIT_AS, 1 << 33)
    print(resource.getrlimit(resource.RLIMIT_AS) == (1 << 32, 1 << 32))
    helper._limit(resource.RLIMIT_AS, 1 << 30)
    print(resource.getrlimit(resource.RLIMIT_AS) == (1 << 30, 1 << 32))
    """
    assert output_of(script).split() == ["True", "True"]


def test_a_forked_child_keeps_neither_helpers_nor_their_slots(folder: Path) -> None:
    fork = """ready('started')
import os, signal
child = os.fork()
if child == 0:
    signal.pause()
ready(child)
"""
    with Program(start(6, fork)) as program:
        assert program.line() == "started"
        program.wait_for_helpers(1)
        assert program.process.stdin is not None
        program.process.stdin.write("\n")
        program.process.stdin.flush()
        child = int(program.line())
        try:
            program.process.kill()
            program.process.wait()
            program.wait_for_end_of_helpers()
            slot = cache.take_slot(1)
            assert slot is not None
            os.close(slot)
        finally:
            os.kill(child, signal.SIGKILL)
