"""What is public is used in this folder, so that type checkers see it."""

from __future__ import annotations

import ast
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import wasmedge_async
import wasmedge_pool
import wasmedge_runtime
from tools.public_members import PUBLIC, is_public

FOLDER = Path(__file__).parent
PACKAGES = [(wasmedge_async, "asynchronous.py"), (wasmedge_runtime, "engine.py")]


def trees(file: str) -> list[ast.Module]:
    return [ast.parse((FOLDER / name).read_text(encoding="utf-8")) for name in (file, "shared.py")]


def used(trees: list[ast.Module]) -> set[str]:
    """The names of all attributes that are read, written or called."""
    return {
        node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def members(cls: type) -> set[tuple[str, str]]:
    """Public members of a class and its bases in this project, each with where it is defined."""
    return {
        (f"{base.__module__}.{base.__qualname__}", name)
        for base in cls.__mro__
        if base.__module__.startswith("wasmedge_")
        for name in vars(base)
        if is_public(f"{base.__module__}.{base.__qualname__}", name)
    }


@pytest.mark.parametrize(("package", "file"), PACKAGES, ids=["wasmedge_async", "wasmedge_runtime"])
def test_every_public_member_is_used(package: ModuleType, file: str) -> None:
    seen = used(trees(file))
    classes = [
        value for name in package.__all__ if isinstance(value := getattr(package, name), type)
    ]
    missing = {
        f"{path}.{name}"
        for cls in classes
        if not issubclass(cls, Enum)
        for path, name in members(cls)
        if name not in seen
    }
    assert missing == set(), f"use these in tests/typing/{file}, or see tools/public_members.py"


@pytest.mark.parametrize(("package", "file"), PACKAGES, ids=["wasmedge_async", "wasmedge_runtime"])
def test_every_public_name_is_imported(package: ModuleType, file: str) -> None:
    imported = {
        alias.name
        for tree in trees(file)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(set(package.__all__) - imported) == []


def test_the_members_said_to_be_public_exist() -> None:
    for path, names in PUBLIC.items():
        module, _, name = path.rpartition(".")
        cls = getattr(import_module(module), name)
        lost = {member for member in names if not hasattr(cls, member)}
        assert lost <= {"name"}, path  # an attribute of instances


def test_every_package_says_that_it_is_typed() -> None:
    for package in (wasmedge_async, wasmedge_pool, wasmedge_runtime):
        assert (Path(package.__file__ or "").parent / "py.typed").is_file()
