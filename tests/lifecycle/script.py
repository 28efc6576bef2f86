"""Programs of users, each in an interpreter of its own: how they end, and what they leave.

The processes that a program starts are found by a variable of their environment, so that also
those are seen whose parent has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.api import modules

_MARK = "WASMEDGE_TEST_PROGRAM"

LOOPS = ["asyncio", "uvloop"]

# What every program begins with. A slow machine must not write of slow callbacks.
PRELUDE = """\
import asyncio, functools, gc, os, signal, sys, threading, time
import uvloop
from wasmedge_async import *

with open({module!r}, "rb") as file:
    MODULE = file.read()

def new_loop():
    loop = {{"asyncio": asyncio, "uvloop": uvloop}}[{loop!r}].new_event_loop()
    loop.slow_callback_duration = 60
    return loop

def run(main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)

async def opened():
    vm = VM()
    await vm.load_wasm_buffer(MODULE)
    await vm.validate()
    await vm.instantiate()
    return vm

def pid_of(vm):
    return vm._actor.pid
"""


class Ended(NamedTuple):
    """How a program ended; `left` are processes that it has left."""

    code: int
    out: str
    err: str
    left: list[int]


class Program:
    """A running program.

    Args:
        folder: its working directory; the module of `tests.api.modules` is written there.
        source: what it does, after the prelude.
        loop: the event loop that `run` uses.
        options: of the interpreter; by default what finds the most mistakes.
        command: instead of running the source.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        loop: str = "asyncio",
        options: Sequence[str] = ("-X", "dev", "-W", "error"),
        command: Sequence[str] | None = None,
    ) -> None:
        module = folder / "calls.wasm"
        module.write_bytes(modules.calls())
        program = folder / "program.py"
        program.write_text(PRELUDE.format(module=str(module), loop=loop) + textwrap.dedent(source))
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = subprocess.Popen(
            command or [sys.executable, *options, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path, name: value},
            start_new_session=True,
            text=True,
        )

    def line(self) -> str:
        """Wait for a line of its output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.end())
        return line.rstrip("\n")

    def end(self, stdin: str | None = None, seconds: float = 60) -> Ended:
        """Wait for its end, and that of its processes, which have 5 seconds more."""
        try:
            out, err = self.process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            out, err = self.process.communicate()
            err += "\nkilled by the test: it did not end"
        deadline = time.monotonic() + 5
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in left:
            os.kill(pid, 9)
        return Ended(self.process.returncode, out, err, left)

    def wait_for(self, processes: set[int], seconds: float = 5) -> bool:
        """Wait until these are all of its processes; False when it takes too long."""
        deadline = time.monotonic() + seconds
        while (same := set(self.processes()) == processes) is False:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        return same

    def processes(self) -> list[int]:
        """Those of its processes that run, without the program itself."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                try:
                    # Of a process that has ended it is empty.
                    if self._mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found
