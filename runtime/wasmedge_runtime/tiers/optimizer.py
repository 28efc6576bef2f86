"""Helper processes that optimise the units of modules, and the threads that wait for them.

Processes, because LLVM runs one compilation at a time in a process, whatever its threads do, and
because Python that translates would take turns with the program's own. In the background they have
the lowest priority. They end when there has been nothing to do for a while, and, after the unit
that they are at, when this process ends: nobody waits for them at exit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import cache
from ..native import elf
from . import frames, helper
from .status import CodeStatus
from .unit import unpack

if TYPE_CHECKING:
    from .module import CompiledModule

_log = logging.getLogger("wasmedge")

Progress = Callable[[CodeStatus], None]

_MOST_HELPERS = 4
"""Each may take a few hundred megabytes."""

_IDLE_SECONDS = 2.0
"""How long a helper in the background waits for more work: another module often follows."""

_BOOT = (
    "import sys; sys.path[:] = {path!r}; "
    "from wasmedge_runtime.tiers.helper import main; main({background})"
)


class _Job:
    """The units of a module that are to be made."""

    def __init__(self, module: CompiledModule) -> None:
        ast = module.source()
        self.module = weakref.ref(module)
        self.request = [
            helper.MODULE,
            ast.data,
            [proposal.name for proposal in ast.proposals],
            list(module.variant),
            str(cache.folder() or ""),
        ]
        self.todo = module.missing()
        self.elsewhere: list[int] = []
        """Units that other processes are making."""
        self.unfinished = len(self.todo)
        self.started = time.perf_counter()


class Team:
    """Up to a few helpers, and what they have to do."""

    def __init__(self, background: bool) -> None:
        self._background = background
        self._jobs: list[_Job] = []
        self._threads = 0
        self._changed = threading.Condition()

    def submit(self, module: CompiledModule) -> None:
        """Have the missing units of a module made."""
        job = _Job(module)
        if not job.todo:
            return
        module.optimizing = True
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
            wanted = min(_processors(), _MOST_HELPERS, sum(j.unfinished for j in self._jobs))
            for number in range(self._threads, wanted):
                self._threads += 1
                name = f"wasmedge-optimizer-{number}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()

    def wait(self, module: CompiledModule, progress: Progress | None) -> None:
        """Wait until the helpers are done with a module."""
        shown = None
        while module.optimizing:
            with self._changed:
                self._changed.wait(0.1)
            if progress is not None and (status := module.status) != shown:
                shown = status
                progress(status)

    def _next(self) -> tuple[_Job, int, bool] | None:
        """What to do next, of which module, and whether to wait for another process that does it;
        None when there has been nothing for a while."""
        patience = _IDLE_SECONDS if self._background else 0.0
        with self._changed:
            while True:
                for job in list(self._jobs):
                    module = job.module()
                    if module is None:
                        self._jobs.remove(job)
                    elif job.todo:
                        # What the program calls most comes first.
                        number = max(job.todo, key=module.calls.__getitem__)
                        job.todo.remove(number)
                        return job, number, False
                for job in self._jobs:
                    if job.elsewhere:
                        return job, job.elsewhere.pop(), True
                if not self._changed.wait(patience):
                    self._threads -= 1
                    return None

    def _serve(self) -> None:
        """The life of a thread: hand work to a helper, and take what it made."""
        process = None
        while (task := self._next()) is not None:
            job, number, wait = task
            if process is None or not process.alive:
                process = _Helper(self._background)
            self._finish(job, number, process.ask(job, number, wait))
        if process is not None:
            process.close()

    def _finish(self, job: _Job, number: int, answer: list[Any]) -> None:
        module = job.module()
        if answer == [helper.BUSY]:
            with self._changed:
                job.elsewhere.append(number)
                self._changed.notify_all()
            return
        if module is not None and not _install(module, number, answer):
            _log.warning(
                "functions %s stay as they are: %s",
                module.plan.optimized[number],
                answer[1] if len(answer) > 1 else "damaged answer",
            )
        with self._changed:
            job.unfinished -= 1
            if job.unfinished == 0:
                with contextlib.suppress(ValueError):
                    self._jobs.remove(job)  # unless its module is gone, and it was dropped
                if module is not None:
                    module.optimizing = False
                    _log.debug(
                        "optimized %d functions in %.1f s",
                        module.status.functions,
                        time.perf_counter() - job.started,
                    )
            self._changed.notify_all()


def _install(module: CompiledModule, number: int, answer: list[Any]) -> bool:
    if len(answer) != 2 or answer[0] != helper.DONE or not isinstance(answer[1], bytes):
        return False
    unit = unpack(answer[1])
    if unit is None:
        return False
    try:
        module.install(number, unit)
    except (elf.ObjectError, MemoryError) as error:
        _log.warning("optimized code is not usable: %s", error)
        return False
    return True


class _Helper:
    """One helper process."""

    def __init__(self, background: bool) -> None:
        boot = _BOOT.format(
            path=[os.path.abspath(entry) for entry in sys.path], background=background
        )
        self._job: _Job | None = None
        self.alive = True
        # A session of its own: Ctrl-C is not for it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", boot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def ask(self, job: _Job, number: int, wait: bool) -> list[Any]:
        """The helper's answer, or [REFUSED, reason]."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            return [helper.REFUSED, "no pipe"]
        try:
            if self._job is not job:
                frames.write(requests, job.request)
                self._job = job
            frames.write(requests, [helper.UNIT, number, wait])
            answer = frames.read(answers)
            if answer is not None:
                return answer
        except (OSError, ValueError) as error:
            _log.debug("the helper is gone: %s", error)
        self.close()
        return [helper.REFUSED, f"the helper that optimised them {self._fate()}"]

    def _fate(self) -> str:
        code = self._process.returncode
        return f"was ended by signal {-code}" if code and code < 0 else f"exited with {code}"

    def close(self) -> None:
        """Let it end, and take notice."""
        self.alive = False
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.wait()


def _processors() -> int:
    return len(os.sched_getaffinity(0))


_background = Team(background=True)


def submit(module: CompiledModule) -> None:
    """Have a module optimised while the program goes on."""
    _background.submit(module)


def finish(module: CompiledModule, progress: Progress | None) -> None:
    """Have a module optimised now, by several processes, and wait for it."""
    team = Team(background=False)
    team.submit(module)
    team.wait(module, progress)
