"""What tests of the optimiser share: modules of several units, and its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path

from tests.runtime.engine import ROOT, Engine, wait_until
from wasmedge_runtime import CompilationMode, Configure, Store

_PADDING = "(drop (i64.const 0x7fffffffffffffff))" * 1750
"""21,000 bytes of code: no second function fits into the unit. LLVM has no work with it."""

_STEPS = 500
_STEP = """(local.set 0
  (i32.xor (i32.mul (local.get 0) (i32.const 1000001)) (i32.shr_u (local.get 0) (i32.const 3))))"""


@cache
def module_of(units: int, seed: int = 0, slow: bool = False) -> str:
    """A module that takes as many optimised units: in each, one function f0, f1 ... that adds its
    number and `seed` to its parameter. `slow` ones take some tenths of a second to optimise."""
    body = _STEP * _STEPS + _PADDING if slow else _PADDING
    functions = (
        f"""(func (export "f{number}") (param i32) (result i32) (local i32)
          (local.set 1 (i32.add (local.get 0) (i32.const {seed + number})))
          {body} (global.set 0 (local.get 0)) (local.get 1))"""
        for number in range(units)
    )
    return f"(module (global (mut i32) (i32.const 0)) {' '.join(functions)})"


def engine(mode: CompilationMode = CompilationMode.TIERED, store: Store | None = None) -> Engine:
    configuration = Configure()
    configuration.compilation_mode = mode
    return Engine(configuration, store=store)


class Program:
    """A script in a process of its own, in a group of processes that can be told from all others.

    The script says `ready()` when this one is to go on, and waits then until it is ended.
    """

    _BEFORE = """
import sys
from tests.runtime.helpers import *
def ready(*words):
    print(*words, flush=True)
    sys.stdin.readline()
"""

    def __init__(self, script: str, **environment: str) -> None:
        self._mark = f"{uuid.uuid4()}"
        paths = [str(ROOT), str(ROOT / "runtime"), *sys.path]
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", self._BEFORE + script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "WASMEDGE_TEST": self._mark}
            | environment,
        )

    def line(self) -> str:
        """What the script says next."""
        if self.process.stdout is None:
            raise ValueError("no pipe")
        said = self.process.stdout.readline().strip()
        if not said:
            raise AssertionError(self.process.communicate()[1])
        return said

    def kill(self) -> None:
        """End it at once: it gets no chance to clean up."""
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str, str]:
        """Let it end by itself: exit status, what it printed, and its errors."""
        output, errors = self.process.communicate("\n", timeout=60)
        return self.process.returncode, output, errors

    def helpers(self) -> list[int]:
        """The optimisers of this program that run now."""
        return [
            pid
            for pid in self._all()
            if b"tiers.helper" in _read(Path(f"/proc/{pid}/cmdline"))  # not a fork on its way there
        ]

    def wait_for_helpers(self, count: int = 1) -> None:
        """Wait until so many optimisers work: they have loaded LLVM."""
        wait_until(lambda: sum(_maps(pid, b"llvmlite") for pid in self.helpers()) >= count)

    def wait_for_end_of_helpers(self) -> None:
        wait_until(lambda: not self.helpers())

    def kill_helpers(self) -> None:
        for pid in self.helpers():
            os.kill(pid, signal.SIGKILL)

    def _all(self) -> list[int]:
        mark = f"WASMEDGE_TEST={self._mark}".encode()
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdecimal() and mark in _read(folder / "environ")
        ]

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *args: object) -> None:
        self.kill()
        self.kill_helpers()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def _maps(pid: int, name: bytes) -> bool:
    return name in _read(Path(f"/proc/{pid}/maps"))
