"""Following: taking the optimised code of modules from the cache, where another process puts it.

For processes that leave the work to others, see `cache.follow`. A thread looks for what has come,
so that code is swapped in while a long guest call runs, too.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import cache
from .status import Progress

if TYPE_CHECKING:
    from .module import CompiledModule

_log = logging.getLogger("wasmedge")

_LOOK_SECONDS = 0.2
_WAIT_SECONDS = 0.02
"""How often to look, in the background and when somebody waits."""

_LONG_LOOK_SECONDS = 2.0
"""The same when nobody has said for a while that the code is being made."""

_HOPEFUL_SECONDS = 10.0
"""That while: who makes it may be about to start."""

_QUIET_SECONDS = 0.1
_MOST_DELAY_SECONDS = 2.0
"""What a module needs is told when it has not needed new code for the one time, or after the other:
who compiles it then competes for the processors with a program that starts."""

_MOST_TOLD = 4_096
"""Functions that are told at once."""

Tell = Callable[[bytes, list[int]], None]
"""What is told that functions needed code: of the module with a digest, by their indices."""


class _Follower:
    """A thread, while there is something that may come."""

    tell: Tell | None = None

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come here while its thread is here
        self._modules: list[weakref.ref[CompiledModule]] = []
        self._thread: threading.Thread | None = None
        self._started: weakref.WeakKeyDictionary[CompiledModule, float] = (
            weakref.WeakKeyDictionary()
        )
        self._hopeful_until = 0.0

    def follow(self, module: CompiledModule) -> None:
        with self._lock:
            self._modules.append(weakref.ref(module))
            self._hopeful_until = time.monotonic() + _HOPEFUL_SECONDS
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._serve, name="wasmedge-follower", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # too many threads, or the interpreter is ending
                _log.warning("optimised code is not looked for: %s", error)
                self._modules.clear()
                return
            self._thread = thread

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._modules = [one for one in self._modules if one() is not None]
                modules = list(self._modules)
                if not modules:
                    self._thread = None
                    return
            done = {one for one in modules if self._look(one())}
            with self._lock:
                self._modules = [one for one in self._modules if one not in done]
                hopeful = time.monotonic() < self._hopeful_until
            time.sleep(_LOOK_SECONDS if hopeful else _LONG_LOOK_SECONDS)

    def _report(self, module: CompiledModule) -> None:
        """Tell what a module has needed since the last time."""
        started = self._started.setdefault(module, time.perf_counter())
        now = time.perf_counter()
        quiet = now - module.last_needed >= _QUIET_SECONDS
        if self.tell is None or not (quiet or now - started >= _MOST_DELAY_SECONDS):
            return
        count = min(len(module.needed), _MOST_TOLD)  # it grows meanwhile
        if count:
            self.tell(module.digest, module.needed[:count])
            del module.needed[:count]

    def _look(self, module: CompiledModule | None) -> bool:
        """Take what has come; whether nothing more can come."""
        if module is None:
            return True
        try:
            self._report(module)
            module.optimizing = cache.announced(module.announcement)
            if module.optimizing:
                self._hopeful_until = time.monotonic() + _HOPEFUL_SECONDS
            if not module.refresh() or module.needed:
                return False
        except Exception as error:  # whatever it is, the program goes on with the code that it has
            _log.warning("optimised code is not looked for any more: %s", error)
        module.optimizing = False
        return True


_follower = _Follower()


def report_to(tell: Tell) -> None:
    """Have somebody told, in a thread, what modules need that are followed."""
    _follower.tell = tell


def follow(module: CompiledModule) -> None:
    """Swap in the optimised code of a module as others make it."""
    _follower.follow(module)


def wait(module: CompiledModule, progress: Progress | None) -> None:
    """Wait for the optimised code of a module, as long as a process says that it makes it."""
    shown = None
    while not module.refresh():
        module.optimizing = cache.announced(module.announcement)
        if not module.optimizing:
            module.refresh()  # it may have come just before
            break
        if progress is not None and (status := module.status) != shown:
            shown = status
            progress(status)
        time.sleep(_WAIT_SECONDS)
    module.optimizing = False
    if progress is not None and module.status != shown:
        progress(module.status)
