"""The parent's side of a pool's compile process: when it runs, what it has to say, and its end.

Workers only read the cache of compiled code; this process writes it, see `compiler.py`. With
`CompilationMode.OPTIMIZED` the workers wait for it. Otherwise it begins when a worker says that it
needed code which was not there, and that its program has had its time to start. In `BASELINE` there
is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import anyio

from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.backend import Backend, Death, Receiver
from wasmedge_pool.code_status import status_from_wire
from wasmedge_pool.home import background
from wasmedge_pool.hosting import outlast
from wasmedge_pool.mailbox import Mailbox
from wasmedge_pool.messages import (
    Compile,
    Follow,
    GetCodeStatus,
    Message,
    Progress,
    ProtocolError,
    Want,
    Wanted,
)
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.protocol import encode
from wasmedge_pool.request import Patient, Request
from wasmedge_pool.settings import config_to_wire
from wasmedge_runtime.configure import CompilationMode, Configure
from wasmedge_runtime.errors import LoadError, ValidationError, WasmEdgeError
from wasmedge_runtime.tiers.status import CodeState, CodeStatus

__all__ = ["Compilation"]

# The most reports of one compile process: hours of them.
_MOST_REPORTS = 50_000

_Handlers: TypeAlias = dict[type[Message], Callable[[Any], None]]

_log = logging.getLogger("wasmedge")

# The most functions that are told to the compile process: what a worker says is not believed. A
# large program calls some thousands.
_MOST_WANTED = 1 << 16


class Compilation:
    """Has the module of a pool compiled once, for all its workers.

    Args:
        config: the options of the pool's VMs.
        progress: called in the event loop when there is something new; what it raises is logged.
        target: the compile process's program; tests have others.
    """

    def __init__(
        self,
        config: Configure | None,
        progress: Callable[[CodeStatus], object] | None = None,
        target: str = "wasmedge_pool.compiler:main",
    ) -> None:
        config = config or Configure()
        self._mode = config.compilation_mode
        self._config = config_to_wire(config)
        self._progress = progress
        self._process = _TellingProcess(target, {Progress: self._take_progress}, b"")
        self._mailbox = Mailbox(self._process, self._on_lost)
        self._module: Awaitable[bytes] | None = None
        self._folder: str | None = None
        self._remove: Callable[[], object] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted: set[tuple[bytes, int]] = set()
        self._untold: list[Want] = []
        self._takes_wanted = False
        self._reports = 0
        self._begun = False
        self._asked = False
        self._closed = False
        self._showing = False
        self.status: CodeStatus | None = None
        """How the module's code stands in the cache, None before that is known."""

    def begin(self, module: asyncio.Task[bytes]) -> None:
        """Take notice that the pool starts; `module` gives its bytes."""
        self._loop = asyncio.get_running_loop()
        self._module = module
        self._done = Patient(loop=self._loop)  # nothing more is coming
        self._ended = Patient(loop=self._loop)  # there is no process
        self._ended.set_result(None)
        if self._mode is CompilationMode.BASELINE:
            self._done.set_result(None)
            return
        if os.environ.get("WASMEDGE_CACHE_DIR") == "":
            # The cache is off: a folder for as long as the pool lives.
            self._folder = tempfile.mkdtemp(prefix="wasmedge-pool-")
            self._remove = weakref.finalize(self, _remove, self._folder, os.getpid())
        if self._mode is CompilationMode.OPTIMIZED:
            self._start()

    def make_worker(self) -> Backend:
        """Make a worker process that only reads the cache, and says what it needs."""
        folder = None if self._folder is None else os.fsencode(self._folder)
        handlers: _Handlers = {Wanted: self._take_wanted}
        return _TellingProcess("wasmedge_pool.worker:main", handlers, encode(Follow(folder)))

    async def before(self) -> None:
        """Wait until workers may have the module."""
        if self._mode is CompilationMode.OPTIMIZED:
            await asyncio.shield(self._done)

    def after(self, mailbox: Mailbox) -> None:
        """Take notice that a worker can take calls: the first one says whether all is there."""
        if not self._asked and self._mode is CompilationMode.TIERED:
            self._asked = True
            request = Request(GetCodeStatus(0, VM_NAME))
            mailbox.submit(request)
            self._spawn(self._ask(request))

    def kill(self) -> None:
        """End the compile process at once. Does not wait."""
        self._closed = True
        if self._module is None:
            return
        pid = self._mailbox.pid
        if self._folder is not None and pid and not self._ended.done():
            # With the helpers, which are in its group: they would write into the folder.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        if not self._mailbox.gone:
            self._mailbox.kill("the pool was closed")

    async def close(self) -> None:
        """End the compile process, and remove what nobody needs without the pool. Idempotent."""
        self.kill()
        if self._module is None:
            return
        try:
            await outlast(self._ended)
        finally:
            if self._remove is not None:
                with anyio.CancelScope(shield=True):
                    await asyncio.to_thread(self._remove)

    # --- The process ------------------------------------------------------------------------------

    async def _ask(self, request: Request) -> None:
        # What is wrong with the answer does not matter: progress shows how it stands.
        with contextlib.suppress(WasmEdgeError, ProtocolError):
            status = status_from_wire(await request.future)
            if status is not None and self.status is None:
                self._report(status)

    def _take_wanted(self, wanted: Wanted) -> None:
        """Take notice that a worker needed code; it may have said so before, or another one."""
        new = {(wanted.digest, function) for function in wanted.functions} - self._wanted
        if not new or len(self._wanted) + len(new) > _MOST_WANTED or self._closed:
            return
        self._wanted |= new
        self._untold.append(
            Want(wanted.digest, tuple(f for f in wanted.functions if (wanted.digest, f) in new))
        )
        if not self._begun and self._mode is CompilationMode.TIERED:
            self._start()
        self._tell_wanted()

    def _tell_wanted(self) -> None:
        if self._takes_wanted and self._untold:
            self._process.send(b"".join(map(encode, self._untold)))
            self._untold.clear()

    def _start(self) -> None:
        self._begun = True
        self._ended = Patient(loop=self._loop)
        self._spawn(self._compile())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = background(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compile(self) -> None:
        """The life of the process."""
        mailbox = self._mailbox
        assert self._module is not None
        try:
            module = await asyncio.shield(self._module)
            background = self._mode is not CompilationMode.OPTIMIZED
            folder = None if self._folder is None else os.fsencode(self._folder)
            await mailbox.start()
            request = Request(Compile(0, self._config, folder, int(background)), module)
            mailbox.submit(request)
            self._takes_wanted = background
            self._tell_wanted()
            await request.future
        except Exception as error:
            self._failed(error)
        finally:
            self._takes_wanted = False
            # Whatever has become of it: it is not needed any more.
            if not mailbox.gone:
                mailbox.finish()
            elif not self._ended.done():
                self._ended.set_result(None)  # it has not been started
            if not self._done.done():
                self._done.set_result(None)

    def _failed(self, error: Exception) -> None:
        """The workers go on with the code that they have, and make baseline code of the rest."""
        if self.status is not None and self.status.state is CodeState.OPTIMIZING:
            self._report(self.status._replace(state=CodeState.BASELINE))
        # The workers say the same about a module that is not valid.
        if not self._closed and not isinstance(error, LoadError | ValidationError):
            _log.warning("not all of the pool's module is optimised: %s", error)

    def _on_lost(self, death: Death, waiting: list[Request]) -> None:
        for request in waiting:
            request.fail(death.error())
        self._ended.set_result(None)

    # --- Progress ---------------------------------------------------------------------------------

    def _take_progress(self, progress: Progress) -> None:
        self._reports += 1
        if self._reports > _MOST_REPORTS:
            raise ProtocolError(f"more than {_MOST_REPORTS} reports")
        status = status_from_wire(progress[1:])
        if status is not None:
            self._report(status)

    def _report(self, status: CodeStatus) -> None:
        if status == self.status:
            return
        self.status = status
        if self._progress is not None and not self._showing and not self._closed:
            self._showing = True
            self._loop.call_soon(self._show)

    def _show(self) -> None:
        self._showing = False
        if self._closed or self._progress is None or self.status is None:
            return
        try:
            self._progress(self.status)
        except Exception:
            _log.exception("the pool's progress callback failed")


class _TellingProcess(WorkerProcess):
    """A worker or compile process whose messages about compilation go there, not to its mailbox."""

    def __init__(self, target: str, handlers: _Handlers, first: bytes) -> None:
        super().__init__(target)
        self._handlers = handlers
        self._first = first

    async def start(self, receiver: Receiver) -> None:
        await super().start(_Sorter(receiver, self._handlers))
        self.send(self._first)


class _Sorter:
    """Takes the messages about compilation out of what a mailbox receives; a `Receiver`."""

    def __init__(self, receiver: Receiver, handlers: _Handlers) -> None:
        self._receiver = receiver
        self._handlers = handlers
        self.skipped = receiver.skipped
        self.writable = receiver.writable
        self.lost = receiver.lost

    def received(self, messages: list[Message]) -> None:
        """Take messages; see `Receiver`."""
        rest: list[Message] = []
        for message in messages:
            handler = self._handlers.get(type(message))
            if handler is None:
                rest.append(message)
            else:
                handler(message)
        if rest:
            self._receiver.received(rest)


def _remove(folder: str, pid: int) -> None:
    """Remove a folder, but not in a forked child, which ends before its parent."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
