"""The modes of the runner: what each does with code, and a sample of the suite in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec import suite
from tests.spec.__main__ import MODES
from tests.spec.runner import Mode, Script, run_file
from wasmedge_runtime import CodeState
from wasmedge_runtime.tiers.module import CompiledModule
from wasmedge_runtime.tiers.plan import Tier

SAMPLE = [
    "block",
    "call",
    "call_indirect",
    "data",
    "fac",
    "func",
    "func_ptrs",
    "i32",
    "i64",
    "if",
    "linking",
    "loop",
    "memory_copy",
    "memory_trap",
    "simd_lane",
    "start",
    "table_copy",
    "traps",
]
"""Control, calls between instances, traps, memory, tables, values that need lowering functions."""

SCRIPT = """(module (func $g (result i32) (i32.const 1)) (func (export "f") (result i32) (call $g))
  (func (export "h") (result i32) (i32.const 2)))
(assert_return (invoke "f") (i32.const 1))
(assert_return (invoke "f") (i32.const 1))
(assert_return (invoke "h") (i32.const 2))"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converted script."""
    monkeypatch.setattr(suite, "CACHE", tmp_path / "cache")
    (tmp_path / "a.wast").write_text(SCRIPT)
    return suite.convert(tmp_path / "a.wast")


def run(folder: Path, mode: Mode) -> CompiledModule:
    """Run a script; gives the code of its module as it is afterwards."""
    script = Script(folder, mode)
    for command in suite.read_commands(folder):
        script.run(command)
    return script.instance(None).loaded


def test_the_command_line_knows_all_modes() -> None:
    assert sorted(MODES) == sorted(mode.value for mode in Mode)


def test_baseline_is_baseline_alone(folder: Path) -> None:
    status = run(folder, Mode.BASELINE).status
    assert (status.state, status.baseline, status.optimized) == (CodeState.BASELINE, 3, 0)


def test_optimized_is_optimized_before_the_first_call(folder: Path) -> None:
    script = Script(folder, Mode.OPTIMIZED)
    script.run(suite.read_commands(folder)[0])
    status = script.instance(None).loaded.status
    assert (status.state, status.baseline, status.optimized) == (CodeState.OPTIMIZED, 0, 3)


def test_swapping_changes_the_tier_after_every_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    use = CompiledModule.use

    def noting(self: CompiledModule, tier: Tier) -> None:
        used.append(tier)
        use(self, tier)

    monkeypatch.setattr(CompiledModule, "use", noting)
    run(folder, Mode.SWAPPING)
    assert used == [Tier.OPTIMIZED, Tier.BASELINE, Tier.OPTIMIZED]


@pytest.mark.parametrize("mode", [Mode.BASELINE, Mode.OPTIMIZED, Mode.SWAPPING])
@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_the_suite_passes(name: str, mode: Mode) -> None:
    directory = suite.find_suite()
    if directory is None:
        pytest.skip(suite.NOT_FOUND)
    assert run_file(directory, name, mode).failures == []
