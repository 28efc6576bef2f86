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
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from .. import cache
from . import frames
from .status import CodeStatus, Progress
from .unit import UnitCode, given_up_name, unpack

if TYPE_CHECKING:
    from ..codegen.context import Target, Variant
    from ..module import AST
    from .plan import Plan

_log = logging.getLogger("wasmedge")

_MOST_HELPERS = 4
"""Each may take a few hundred megabytes."""

_IDLE_SECONDS = 2.0
"""How long a helper in the background waits for more work: another module often follows."""

_PATIENCE_SECONDS = {True: 300.0, False: 5.0}
"""How long another process may take for a unit before it is made twice, in the background or not:
the other one may be in the background itself, and get no processor."""

_SLOT_SECONDS = 0.5
"""How often to look whether other programs have helpers to spare."""

_MOST_FAILURES = 3
"""Helpers that may die one after another before a module stays as it is."""

_QUIET_SECONDS = 0.1
_MOST_DELAY_SECONDS = 1.0
"""Helpers in the background begin when a module has not needed new code for the one time, or after
the other: a program that starts needs the processors itself. What it compiled is in the cache."""

_BOOT = (
    "import sys; sys.path[:] = {path!r}; "
    "from wasmedge_runtime.tiers.helper import main; main({background})"
)


_not_for_children: set[int] = set()
"""Descriptors of slots, and of pipes to helpers. A forked child would have them for as long as it
lives: the slots would stay taken, and the helpers would not see that their program has ended."""


def _in_forked_child() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in _not_for_children:
        os.dup2(null, descriptor, inheritable=False)  # not closed: objects still own the numbers
    os.close(null)


os.register_at_fork(after_in_child=_in_forked_child)


class Work(Protocol):
    """A module as helpers see it, whose optimised units are to be made."""

    plan: Plan
    variant: Variant
    target: Target
    optimizing: bool
    """Whether helpers have work to do for it."""
    calls: list[int]
    """Per unit, how many of its functions are called: the higher, the sooner it is made."""
    last_needed: float
    """When it needed code for the last time (`time.perf_counter`)."""

    @property
    def status(self) -> CodeStatus: ...
    def source(self) -> AST: ...
    def name(self, number: int) -> str: ...
    def missing(self) -> list[int]: ...
    def install(self, number: int, unit: UnitCode) -> None: ...
    def give_up(self, number: int) -> None: ...


class _Job:
    """The units of a module that are to be made."""

    def __init__(self, module: Work) -> None:
        ast = module.source()
        self.module = weakref.ref(module)
        self.request = [
            frames.MODULE,
            ast.data,
            [proposal.name for proposal in ast.proposals],
            list(module.variant),
            list(module.target),
            str(cache.folder() or ""),
            cache.engine_fingerprint(),
        ]
        self._names = [module.name(n) for n in range(len(module.calls))]
        self.todo = module.missing()
        self.elsewhere: list[int] = []
        """Units that other processes are making."""
        self.at_work = 0
        self.failures = 0
        """Helpers that died, one after another."""
        self.started = time.perf_counter()

    def may_begin(self, module: Work) -> bool:
        """Whether the program has had its time to start."""
        now = time.perf_counter()
        quiet = now - module.last_needed >= _QUIET_SECONDS
        return quiet or now - self.started >= _MOST_DELAY_SECONDS

    def remember_given_up(self, number: int) -> None:
        """Let no process try a unit again that is too much for LLVM."""
        cache.store(given_up_name(self._names[number]), b"")

    @property
    def finished(self) -> bool:
        return not (self.todo or self.elsewhere or self.at_work)


class Team:
    """Up to a few helpers, and what they have to do.

    Args:
        background: whether they get only the time that nobody else needs.
        lasting: whether one finishes the unit that it is at when this process ends; otherwise they
            are in the group of this process, and whoever ends that ends them.
    """

    def __init__(self, background: bool, lasting: bool = True) -> None:
        self._background = background
        self._lasting = lasting
        self._jobs: list[_Job] = []
        self._threads = 0
        self._changed = threading.Condition()

    def submit(self, module: Work) -> None:
        """Have the missing units of a module made."""
        job = _Job(module)
        if not job.todo:
            return
        module.optimizing = True
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
            wanted = min(_processors(), _MOST_HELPERS, sum(len(j.todo) for j in self._jobs))
            for number in range(self._threads, wanted):
                name = f"wasmedge-optimizer-{number}"
                try:
                    threading.Thread(target=self._serve, name=name, daemon=True).start()
                except RuntimeError as error:  # too many threads, or the interpreter is ending
                    _log.warning("modules are not optimised: %s", error)
                    break
                self._threads += 1
            if not self._threads:
                self._jobs.remove(job)
                module.optimizing = False

    def wait(self, module: Work, progress: Progress | None) -> None:
        """Wait until the helpers are done with a module."""
        shown = None
        while module.optimizing:
            with self._changed:
                self._changed.wait(0.1)
            if progress is not None and (status := module.status) != shown:
                shown = status
                progress(status)
        if progress is not None and module.status != shown:
            progress(module.status)

    def _serve(self) -> None:
        """The life of a thread: hand work to a helper, and take what it made."""
        slot = self._wait_for_slot()
        if slot is None:
            return
        if slot >= 0:
            _not_for_children.add(slot)
        try:
            self._work()
        finally:
            if slot >= 0:
                _not_for_children.discard(slot)
                os.close(slot)

    def _wait_for_slot(self) -> int | None:
        """In the background, all programs of a user together have no more helpers than one may
        have: a pool's workers start at the same moment. None when the work is done before."""
        if not self._background:
            return -1
        while True:
            slot = cache.take_slot(min(_processors(), _MOST_HELPERS))
            if slot is not None:
                return slot
            with self._changed:
                self._changed.wait(_SLOT_SECONDS)
                self._jobs = [job for job in self._jobs if job.module() is not None]
                if not self._jobs:
                    self._threads -= 1
                    return None

    def _work(self) -> None:
        process = None
        while (task := self._next()) is not None:
            job, number, patience = task
            try:
                if process is not None and not process.alive:
                    process.close()  # ended while it had nothing to do
                    process = None
                if process is None:
                    process = _Helper(self._background, self._lasting)
                answer = process.ask(job, number, patience)
            except Exception as error:  # whatever it is: somebody may be waiting for this thread
                answer = [frames.REFUSED, f"no helper process can be used: {error}"]
                if process is not None:
                    process.close()  # what it says next could be the answer to this
            alive = process is not None and process.alive
            if process is not None and process.has_given_up:
                job.remember_given_up(number)
            self._take(job, number, answer, alive)
            del job, task  # and with it the bytes of the module
        if process is not None:
            process.close()

    def _next(self) -> tuple[_Job, int, float] | None:
        """What to do next, of which module, and how long to wait if another process does it; None
        when there has been nothing for a while."""
        leaving = False
        with self._changed:
            while True:
                task = self._choose()
                if task is not None:
                    task[0].at_work += 1
                    return task
                if self._jobs and self._background:
                    self._changed.wait(_QUIET_SECONDS)
                    continue
                if leaving:
                    self._threads -= 1
                    return None
                # Work that comes when the time is just up counts on this thread: it looks again.
                leaving = not self._changed.wait(_IDLE_SECONDS if self._background else 0.0)

    def _choose(self) -> tuple[_Job, int, float] | None:
        for job in list(self._jobs):
            module = job.module()
            if module is None:
                self._jobs.remove(job)
            elif job.todo and (not self._background or job.may_begin(module)):
                # What the program calls most comes first.
                number = max(job.todo, key=module.calls.__getitem__)
                job.todo.remove(number)
                return job, number, 0.0
        for job in self._jobs:
            if job.elsewhere:
                return job, job.elsewhere.pop(), _PATIENCE_SECONDS[self._background]
        return None

    def _take(self, job: _Job, number: int, answer: list[Any], alive: bool) -> None:
        """Use what a helper answered."""
        module = job.module()
        if answer != [frames.BUSY] and module is not None and not _install(module, number, answer):
            reason = answer[1] if len(answer) > 1 else "damaged answer"
            _log.warning(
                "%d functions from number %d are not optimised: %s",
                len(module.plan.optimized[number]),
                module.plan.optimized[number].start,
                reason,
            )
            module.give_up(number)
        with self._changed:
            job.at_work -= 1
            if answer == [frames.BUSY]:
                job.elsewhere.append(number)
            job.failures = 0 if alive else job.failures + 1
            if job.failures >= _MOST_FAILURES:
                while job.todo and module is not None:
                    module.give_up(job.todo.pop())
            if job.finished and job in self._jobs:
                self._jobs.remove(job)
                if module is not None:
                    module.optimizing = False
                    _log.debug("%s after %.1f s", module.status, time.perf_counter() - job.started)
            self._changed.notify_all()


def _install(module: Work, number: int, answer: list[Any]) -> bool:
    if len(answer) != 2 or answer[0] != frames.DONE or not isinstance(answer[1], bytes):
        return False
    try:
        unit = unpack(answer[1])
        if unit is None:
            return False
        module.install(number, unit)
    except Exception as error:  # whatever it is, the program goes on with the code that it has
        _log.warning("optimised code is not usable: %s", error)
        return False
    return True


class _Helper:
    """One helper process."""

    def __init__(self, background: bool, lasting: bool) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise OSError("sys.executable does not name a Python interpreter")
        boot = _BOOT.format(
            path=[os.path.abspath(entry) for entry in sys.path], background=background
        )
        self._job: _Job | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._last_words = ""
        try:
            # A session of its own: Ctrl-C is not for it.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", boot],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=lasting,
            )
        except BaseException:
            self._errors.close()
            raise
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _not_for_children.add(stream.fileno())

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask(self, job: _Job, number: int, patience: float) -> list[Any]:
        """The helper's answer, or [REFUSED, reason]."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            return [frames.REFUSED, "no pipe"]
        try:
            if self._job is not job:
                frames.write(requests, job.request)
                self._job = job
            frames.write(requests, [frames.UNIT, number, patience])
            answer = frames.read(answers)
            if answer is not None:
                return answer
        except (OSError, ValueError) as error:
            _log.debug("the helper is gone: %s", error)
        self.close()
        return [frames.REFUSED, f"the helper process {self._fate()}"]

    def _fate(self) -> str:
        code = self._process.returncode
        if code and code < 0:
            return f"was ended by signal {-code}"
        return f"exited with {code}: {self._last_words.rpartition(chr(10))[2][:200]}"

    def close(self) -> None:
        """Let it end, and take notice."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                _not_for_children.discard(stream.fileno())
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.wait()
        if not self._errors.closed:
            self._errors.seek(0)
            self._last_words = self._errors.read().decode(errors="replace").strip()
            self._errors.close()

    @property
    def has_given_up(self) -> bool:
        """Whether it ended because a unit is too much for LLVM."""
        return self._process.returncode in (-signal.SIGXCPU, -signal.SIGABRT)


def _processors() -> int:
    return len(os.sched_getaffinity(0))


_background = Team(background=True)


def submit(module: Work) -> None:
    """Have a module optimised while the program goes on."""
    _background.submit(module)


def finish(
    module: Work,
    progress: Progress | None,
    background: bool = False,
    lasting: bool = True,
) -> None:
    """Have a module optimised by several processes, and wait for it; see `Team`."""
    team = Team(background, lasting)
    team.submit(module)
    team.wait(module, progress)
