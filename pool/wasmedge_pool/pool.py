"""A pool: one queue, several workers with the same module, and their replacement.

Calls go to the worker with the least to do, and some ahead of time, because a worker that waits
for its next call is idle. When a call turns out to be long, what was sent behind it is called
back and goes to others: the worker's watchdog says for each whether it had begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.backend import Backend, Death
from wasmedge_pool.compilation import Compilation
from wasmedge_pool.errors import PoolClosed, VMLost, WorkerDied
from wasmedge_pool.home import Home, background
from wasmedge_pool.hosting import answer
from wasmedge_pool.mailbox import Mailbox
from wasmedge_pool.messages import CreateVM, Instantiate, Load, Validate
from wasmedge_pool.request import Patient, Request
from wasmedge_pool.settings import config_to_wire
from wasmedge_runtime.configure import Configure

__all__ = ["WorkerPool"]

# How many calls a worker has at a time, the running one included: enough to keep it busy with
# empty calls while the event loop is elsewhere for half a millisecond.
_DEPTH = 64
# A call that runs longer than this or twice this is long.
_LONG_SECONDS = 0.005
# A worker that could not be started is tried again after this, when there are calls.
_RETRY_SECONDS = 1.0


class _Worker:
    """One place in the pool, and the worker that has it now."""

    def __init__(self) -> None:
        self.mailbox: Mailbox | None = None  # None: it could not be started
        self.ready = False
        self.long = 0  # the number of the call that was running when the pool last looked
        self.retry_at = 0.0


class WorkerPool:
    """Workers that run calls of one module, each call on an instance no other call has used.

    Not the object that users hold, for the same reason as `Actor`.

    Args:
        read_module: gives the module's bytes; called once, in a thread.
        size: how many workers, 1 or more.
        config: the VMs' configuration; copied.
        make_backend: makes a worker.
        compilation: compiles for all workers; each one does so for itself when None.

    Raises:
        ValueError: `size` is less than 1.
    """

    def __init__(
        self,
        read_module: Callable[[], bytes],
        size: int,
        config: Configure | None,
        make_backend: Callable[[], Backend],
        compilation: Compilation | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"a pool needs at least 1 worker, not {size}")
        self._read_module = read_module
        self._config = config_to_wire(config or Configure())
        self._make_backend = make_backend
        self._compilation = compilation
        self._workers = [_Worker() for _ in range(size)]
        self._queue: deque[Request] = deque()
        self._returned: deque[Request] = deque()  # called back; they go before the queue
        self._home: Home | None = None
        self._module: asyncio.Task[bytes] | None = None
        self._first: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._living: set[Mailbox] = set()  # whose processes have not ended
        self._all_gone: Patient | None = None
        self._holes = 0  # places whose worker could not be started
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._closed = False
        self._killed = False

    @property
    def size(self) -> int:
        """The number of workers."""
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that are ready."""
        return [w.mailbox.pid for w in self._workers if w.ready and w.mailbox is not None]

    @property
    def open(self) -> bool:
        """Whether there is something to close."""
        return self._home is not None and not self._closed and not self._home.forked

    # --- Workers ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the workers, unless they have been started.

        Raises:
            PoolClosed: the pool is closed.
            RuntimeError: the pool belongs to another event loop or process, or no event loop is
                running that could drive workers.
        """
        if self._closed:
            raise PoolClosed("this pool is closed")
        if self._home is not None:
            self._home.check()
            if self._killed:
                raise PoolClosed("this pool's workers have ended with their event loop")
            return
        self._home = Home("pool")
        self._loop = asyncio.get_running_loop()
        self._first = self._loop.create_future()
        self._module = background(asyncio.to_thread(self._read_module))
        if self._compilation is not None:
            self._compilation.begin(self._module)
        for worker in self._workers:
            self._fill(worker)

    async def wait_ready(self) -> None:
        """Wait until the first worker can take calls.

        Raises:
            WorkerDied: it could not be started.
            WasmEdgeError: the module was refused.
        """
        assert self._first is not None
        await asyncio.shield(self._first)

    def _fill(self, worker: _Worker) -> None:
        worker.ready = False
        mailbox = worker.mailbox = Mailbox(
            self._make_backend(),
            lambda death, waiting: self._on_lost(worker, mailbox, death, waiting),
            self._dispatch,
            self._on_returned,
        )
        self._living.add(mailbox)
        # A task of its own: it goes on when the task that happened to need it is cancelled.
        task = background(self._raise(worker, mailbox))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _raise(self, worker: _Worker, mailbox: Mailbox) -> None:
        """Start a worker and give it the module."""
        assert self._home is not None
        assert self._module is not None
        assert self._first is not None
        first = worker is self._workers[0]
        try:
            await self._home.watch(self._shut_down)
            await mailbox.start()
            module = await asyncio.shield(self._module)
            if not first:
                # The first one has the processors for itself: the first calls wait for it.
                await asyncio.wait([self._first])
            if self._compilation is not None:
                await self._compilation.before()
            if mailbox.gone:  # it would answer nothing
                raise VMLost(f"worker process {mailbox.pid} ended before it had the module")
            requests = [
                Request(CreateVM(0, VM_NAME, self._config, 1)),
                Request(Load(0, VM_NAME, None), module),
                Request(Validate(0, VM_NAME)),
                Request(Instantiate(0, VM_NAME)),
            ]
            for request in requests:
                mailbox.submit(request)
            await asyncio.gather(*[request.future for request in requests])
        except BaseException as raised:
            # The event loop may cancel all tasks, as `asyncio.run` does at its end.
            cancelled = PoolClosed("starting a worker was cancelled")
            error = raised if isinstance(raised, Exception) else cancelled
            self._could_not(worker, mailbox, error)
            if first and not self._first.done():
                self._first.set_exception(error)
                self._first.exception()  # `wait_ready` may not be waiting
            if error is not raised:
                raise
            return
        worker.ready = True
        if self._compilation is not None:
            self._compilation.after(mailbox)
        if first and not self._first.done():
            self._first.set_result(None)
        self._dispatch()

    def _could_not(self, worker: _Worker, mailbox: Mailbox, error: Exception) -> None:
        if mailbox.gone:
            self._buried(mailbox)
        else:
            mailbox.kill(f"the module could not be set up: {error}")
        worker.mailbox = None
        worker.retry_at = self._loop.time() + _RETRY_SECONDS
        self._holes += 1
        if self._holes == len(self._workers):
            self._fail_all(error)

    def _on_lost(
        self, worker: _Worker, mailbox: Mailbox, death: Death, waiting: list[Request]
    ) -> None:
        self._buried(mailbox)
        if worker.mailbox is not mailbox or not worker.ready:
            # These set the module up; `_raise` waits for them.
            for request in waiting:
                request.fail(WorkerDied(death.pid, death.exit_code, death.signal, death.reason))
            return
        worker.ready = False
        worker.mailbox = None
        self._returned.extend(waiting)
        if self._killed:
            self._fail_all(PoolClosed("the pool was closed before the call began"))
        elif not self._closed or self._returned or self._queue:
            self._fill(worker)
        self._dispatch()

    def _buried(self, mailbox: Mailbox) -> None:
        self._living.discard(mailbox)
        if not self._living and self._closed and self._home is not None:
            self._home.leave()
        if not self._living and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _fail_all(self, error: Exception) -> None:
        for request in (*self._returned, *self._queue):
            request.fail(error)
        self._returned.clear()
        self._queue.clear()
        self._check_drained()

    # --- Calls ------------------------------------------------------------------------------------

    def call(self, request: Request) -> Coroutine[Any, Any, list[Any]]:
        """Have a call answered by any worker; they begin in the order in which they were made.

        It is in the queue when this returns; what is returned is to be awaited.

        Raises:
            PoolClosed: the pool is closed.
            WorkerDied: the worker ended during the call, or none could be started.
        """
        self.begin()
        self._queue.append(request)
        if self._holes:
            self._heal()
        self._dispatch()
        return answer(request)

    def _heal(self) -> None:
        now = self._loop.time()
        for worker in self._workers:
            if worker.mailbox is None and (
                worker.retry_at <= now or self._holes == len(self._workers)
            ):
                self._holes -= 1
                self._fill(worker)

    def _dispatch(self) -> None:
        """Hand out what waits; called whenever there may be room."""
        returned, queue = self._returned, self._queue
        ahead = False
        while returned or queue:
            source = returned or queue
            if source[0].future.done():
                source.popleft()  # cancelled while it waited
                continue
            best: Mailbox | None = None
            for worker in self._workers:
                mailbox = worker.mailbox
                if not worker.ready or mailbox is None:
                    continue
                room = 1 if worker.long and worker.long == mailbox.head else _DEPTH
                if mailbox.load < room and (best is None or mailbox.load < best.load):
                    best = mailbox
            if best is None:
                break
            best.submit(source.popleft())
            ahead = ahead or best.load > 1
        if ahead and self._timer is None:
            self._timer = self._loop.call_later(_LONG_SECONDS, self._look)
        if self._drained is not None:
            self._check_drained()

    def _look(self) -> None:
        """Call back what waits behind a long call, or in front of one worker beside an idle one."""
        self._timer = None
        ready = [w for w in self._workers if w.ready and w.mailbox is not None]
        nothing = not self._returned and not self._queue
        idle = nothing and any(not w.mailbox.load for w in ready if w.mailbox is not None)
        again = False
        for worker in ready:
            mailbox = worker.mailbox
            assert mailbox is not None
            head = mailbox.head
            if mailbox.load > 1:
                again = True
                if idle or head == worker.long:
                    mailbox.call_back()
                    self._returned.extend(mailbox.withdraw())
            worker.long = head
        if again:
            self._timer = self._loop.call_later(_LONG_SECONDS, self._look)
        self._dispatch()

    def _on_returned(self, request: Request) -> None:
        self._returned.append(request)
        self._dispatch()

    # --- The end ----------------------------------------------------------------------------------

    def _check_drained(self) -> None:
        if (
            self._drained is not None
            and not self._drained.done()
            and not self._returned
            and not self._queue
            and not any(w.ready and w.mailbox is not None and w.mailbox.load for w in self._workers)
        ):
            self._drained.set_result(None)

    async def close(self) -> None:
        """Refuse new calls, finish those that were made, end the workers. Idempotent.

        When it is cancelled, it kills.

        Raises:
            RuntimeError: the pool belongs to another event loop, which has not been closed.
        """
        if self._home is None or self._home.forked or self._home.over:
            self.kill()
            return
        self._home.check()
        self._closed = True
        try:
            if not self._killed:
                if self._drained is None:
                    self._drained = self._loop.create_future()
                self._check_drained()
                await asyncio.shield(self._drained)
        finally:
            self._all_gone = self._all_gone or Patient(loop=self._loop)
            for worker in self._workers:
                if worker.ready and worker.mailbox is not None and not worker.mailbox.load:
                    worker.mailbox.finish()
                elif worker.mailbox is not None:
                    self.kill()
            if self._living:
                with anyio.CancelScope(shield=True):
                    await self._all_gone
            if self._compilation is not None:
                await self._compilation.close()

    def kill(self) -> None:
        """End everything at once: calls that wait or run raise `PoolClosed`. From any thread."""
        self._closed = True
        if self._home is not None and not self._home.forked:
            self._home.run(self._kill)

    def _kill(self) -> None:
        assert self._home is not None
        self._killed = True
        if not self._home.over:  # or there is nobody left to be told
            if self._timer is not None:
                self._timer.cancel()
            if self._compilation is not None:
                self._compilation.kill()
            self._fail_all(PoolClosed("the pool was closed before the call began"))
        for worker in self._workers:
            if worker.mailbox is not None:
                verdict = PoolClosed("the pool was closed during the call")
                worker.mailbox.kill("the pool was closed", verdict)

    def forget(self) -> None:
        """Kill, from whichever thread has found that nobody holds the pool any more."""
        if self._home is None:
            return
        if self._home.forked:
            for mailbox in self._living:
                mailbox.kill("the process was forked")
        elif not self._closed:
            self.kill()

    async def _shut_down(self) -> None:
        """End the workers with the event loop. The pool stays `open`: its owner is to be told."""
        closed = self._closed
        self.kill()
        await self.close()
        self._closed = closed
