"""The set-up is done again when its declarations change, and only then."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

DECLARATIONS = """
[build-system]
requires = ["hatchling"]

[project]
dependencies = ["anyio"]

[tool.hatch.version]
path = "version.py"

[tool.ruff]
line-length = 100
"""


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`tools/setup.py`, for a checkout in a temporary folder."""
    spec = importlib.util.spec_from_file_location("setup_tool", ROOT / "tools" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RECORD", tmp_path / "setup.json")
    (tmp_path / "pyproject.toml").write_text(DECLARATIONS)
    return module


def test_a_time_stamp_changes_nothing(setup: ModuleType, tmp_path: Path) -> None:
    before = setup.fingerprint()
    os.utime(tmp_path / "pyproject.toml", (0, 0))
    assert setup.fingerprint() == before


def test_settings_of_other_tools_change_nothing(setup: ModuleType, tmp_path: Path) -> None:
    before = setup.fingerprint()
    (tmp_path / "pyproject.toml").write_text(DECLARATIONS.replace("100", "90"))
    assert setup.fingerprint() == before


@pytest.mark.parametrize(
    ("old", "new"), [('["anyio"]', '["anyio>=4"]'), ('["hatchling"]', '["hatchling>=1"]')]
)
def test_a_dependency_changes_the_fingerprint(
    setup: ModuleType, tmp_path: Path, old: str, new: str
) -> None:
    before = setup.fingerprint()
    (tmp_path / "pyproject.toml").write_text(DECLARATIONS.replace(old, new))
    assert setup.fingerprint() != before


def test_another_place_changes_the_fingerprint(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = setup.fingerprint()
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "pyproject.toml").write_text(DECLARATIONS)
    monkeypatch.setattr(setup, "ROOT", moved)
    assert setup.fingerprint() != before


@pytest.mark.parametrize(
    ("before", "served", "not_served"),
    [
        ([""], [""], ["dev", "bench", "docs"]),
        (["dev"], ["", "dev"], ["bench", "docs"]),
        (["bench"], ["", "dev", "bench"], ["docs"]),
        (["docs", "dev"], ["", "dev", "docs"], ["bench"]),
    ],
)
def test_a_larger_set_up_serves_for_a_smaller_one(
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    before: list[str],
    served: list[str],
    not_served: list[str],
) -> None:
    monkeypatch.setattr(setup.venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(setup.subprocess, "run", lambda *_, **__: None)
    for extra in before:
        setup.set_up(extra)
    there = setup.installed(setup.fingerprint())
    assert there >= set(served)
    assert not there & set(not_served)
    assert setup.installed("another fingerprint") == set()


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"fingerprint": "f"}'])
def test_a_missing_or_damaged_record_counts_as_not_done(
    setup: ModuleType, content: str | None
) -> None:
    if content is not None:
        setup.RECORD.write_text(content)
    assert setup.installed("f") == set()
