"""A pool: several workers with the same module, and all that is asked of them.

Which worker gets which call is in `scheduling.py`; how many there are in `sizing.py`; virtual
machines with state that live in them in `lodging.py`; what all of them have run in
`broadcast.py`; many calls in few messages in `batch.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any

from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.backend import Backend, Death
from wasmedge_pool.broadcast import Broadcasts
from wasmedge_pool.calls import Ledger, PoolCall
from wasmedge_pool.compilation import Compilation
from wasmedge_pool.errors import CallTimeout, PoolClosed, PoolFull, VMLost, WouldDeadlock
from wasmedge_pool.home import Home, background
from wasmedge_pool.hosting import HostFunctions, answer, calling_mailbox
from wasmedge_pool.imports import ImportObject
from wasmedge_pool.lodging import Lodging
from wasmedge_pool.mailbox import Mailbox
from wasmedge_pool.messages import (
    SCALARS,
    Broadcast,
    CreateVM,
    GetCodeStatus,
    Instantiate,
    Load,
    Validate,
    Value,
)
from wasmedge_pool.registering import Registrable, describe
from wasmedge_pool.request import Request
from wasmedge_pool.scheduling import Claim, Schedule
from wasmedge_pool.settings import config_to_wire
from wasmedge_pool.sizing import Crew, Limits, PoolWorker
from wasmedge_pool.stats import CallRecord, PoolStats, WorkerStats, frozen, resident_bytes
from wasmedge_pool.tenant import Tenant
from wasmedge_pool.values import to_wire
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.values import ExternRef

__all__ = ["WorkerPool"]


class WorkerPool:
    """Workers that run calls of one module, each call on an instance no other call has used.

    Not the object that users hold, for the same reason as `Actor`.

    Args:
        read_module: gives the module's bytes; called once, in a thread.
        limits: how many workers, and how long they live.
        config: the VMs' configuration; copied.
        make_backend: makes a worker.
        imports: host modules; each worker and each tenant gets a copy of what they are now.
        actor_idle: seconds after which a keyed actor that is asked for nothing rests.
        max_queue: how many calls may wait for their beginning; None for no limit.
        on_call: called after each call.
        compilation: compiles for all workers; each one does so for itself when None.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        read_module: Callable[[], bytes],
        limits: Limits,
        config: Configure | None,
        make_backend: Callable[[], Backend],
        *,
        imports: Iterable[ImportObject | Registrable] = (),
        actor_idle: float | None = None,
        max_queue: int | None = None,
        on_call: Callable[[CallRecord], object] | None = None,
        compilation: Compilation | None = None,
    ) -> None:
        if max_queue is not None and max_queue < 0:
            raise ValueError(f"max_queue must be 0 or more, not {max_queue}")
        self._read_module = read_module
        self._config = config_to_wire(config or Configure())
        self._max_queue = max_queue
        self._crew = Crew(self, limits, make_backend)
        self.hosts = HostFunctions()
        """The host functions that calls may call."""
        modules: list[Registrable] = [
            describe(one, self.hosts) if isinstance(one, ImportObject) else one for one in imports
        ]
        self._lodging = Lodging(self._crew, self.begin, self.hosts, modules, actor_idle)
        self._broadcasts = Broadcasts(self._crew, self.hosts)
        self.ledger = Ledger(on_call)
        """The count of the calls."""
        self.schedule = Schedule(self._crew)
        """The queue of the calls."""
        self._compilation = compilation
        self._home: Home | None = None
        self._module: asyncio.Task[bytes] | None = None
        self._first: asyncio.Future[None] | None = None
        self._first_worker: PoolWorker | None = None
        self._claims: dict[Tenant, PoolWorker] = {}
        self._releases: set[asyncio.Task[None]] = set()
        self._drained: asyncio.Future[None] | None = None
        self._closed = False
        self._killed = False

    @property
    def limits(self) -> Limits:
        """How many workers, and how long they live."""
        return self._crew.limits

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that are ready."""
        return [worker.mailbox.pid for worker in self._crew.ready]

    @property
    def open(self) -> bool:
        """Whether there is something to close."""
        return self._home is not None and not self._closed and not self._home.forked

    def stats(self) -> PoolStats:
        """What the pool has done, and what it is doing."""
        crew, ledger = self._crew, self.ledger
        current = [worker.mailbox.current for worker in crew.working]
        running = min(sum(isinstance(request, PoolCall) for request in current), ledger.open)
        queue_time, run_time = ledger.times()
        return PoolStats(
            calls=ledger.made,
            running=running,
            queued=ledger.open - running,
            **ledger.ended,
            refused=ledger.refused,
            queue_time=queue_time,
            run_time=run_time,
            workers=tuple(
                WorkerStats(
                    pid=worker.mailbox.pid,
                    calls=worker.calls,
                    resident_bytes=resident_bytes(worker.mailbox.pid),
                    started=worker.started,
                    tenants=len(worker.tenants),
                    busy=worker.mailbox.load > 0,
                )
                for worker in crew.ready
            ),
            starting=len(crew.places) - len(crew.ready),
            restarts=frozen(crew.restarts),
            actors=self._lodging.actors,
        )

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
        self._crew.fill()
        self._first_worker = self._crew.places[0]

    async def wait_ready(self) -> None:
        """Wait until the first worker can take calls.

        Raises:
            WorkerDied: it could not be started.
            WasmEdgeError: the module was refused.
        """
        assert self._first is not None
        await asyncio.shield(self._first)

    async def before_start(self) -> None:
        """Watch over the event loop; see `CrewOwner`."""
        assert self._home is not None
        await self._home.watch(self._shut_down)

    def all_gone(self) -> None:
        """Stop watching; see `CrewOwner`."""
        if self._closed and self._home is not None:
            self._home.leave()

    async def set_up(self, worker: PoolWorker) -> None:
        """Give a worker the module; see `CrewOwner`."""
        assert self._module is not None
        assert self._first is not None
        module = await asyncio.shield(self._module)
        if worker is not self._first_worker:
            # The first one has the processors for itself: the first calls wait for it.
            await asyncio.wait([self._first])
        if self._compilation is not None:
            await self._compilation.before()
        if worker.mailbox.gone:  # it would answer nothing
            raise VMLost(f"worker process {worker.mailbox.pid} ended before it had the module")
        requests = [
            Request(CreateVM(0, VM_NAME, self._config, 1)),
            *[await one.registration(VM_NAME) for one in self._lodging.host_modules],
            Request(Load(0, VM_NAME, None), module),
            Request(Validate(0, VM_NAME)),
            self._broadcasts.pooled(Instantiate(0, VM_NAME)),
        ]
        for request in requests:
            worker.mailbox.submit(request)
        await asyncio.gather(*map(answer, requests))
        await self._broadcasts.settle(worker)

    def worker_ready(self, worker: PoolWorker) -> None:
        """Use a worker; see `CrewOwner`."""
        assert self._first is not None
        if self._compilation is not None:
            self._compilation.after(worker.mailbox)
        if not self._first.done():
            self._first.set_result(None)
        self._lodging.worker_ready(worker)
        self._dispatch()

    def worker_failed(self, worker: PoolWorker, error: Exception) -> None:
        """Let the others begin, if it was the first; see `CrewOwner`."""
        assert self._first is not None
        self._broadcasts.worker_failed(worker)
        if worker is self._first_worker and not self._first.done():
            self._first.set_exception(error)
            self._first.exception()  # `wait_ready` may not be waiting

    def worker_lost(self, worker: PoolWorker, death: Death, waiting: Sequence[Request]) -> None:
        """Replace a worker; see `CrewOwner`."""
        self._lodging.worker_lost(worker, death, waiting, self._closed)
        self.schedule.take_back(waiting)
        if self._killed:
            self._fail_all(PoolClosed("the pool was closed before the call began"))
        elif not self._closed or not self.schedule.empty:
            self._crew.fill()
        self._dispatch()

    def all_failed(self, error: Exception) -> None:
        """Fail what waits; see `CrewOwner`."""
        self._lodging.fail(error)
        self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        self.schedule.fail_all(error)
        self._check_drained()

    # --- Calls ------------------------------------------------------------------------------------

    def call(self, call: PoolCall, *, bounded: bool = True) -> Coroutine[Any, Any, list[Any]]:
        """Have a call answered by any worker; they begin in the order in which they were made.

        It is in the queue when this returns; what is returned is to be awaited.

        Args:
            call: the call.
            bounded: whether `max_queue` holds for it.

        Raises:
            PoolClosed: the pool is closed.
            PoolFull: too many calls wait.
            WorkerDied: the worker ended during the call, or none could be started.
        """
        if bounded and self._max_queue is not None:
            self.begin()
            self._check_room()
        self.enqueue(call)
        if not bounded:
            call.bounded = False
            self.ledger.unbounded += 1
        return self._follow(call)

    def enqueue(self, call: PoolCall, count: int = 0) -> None:
        """Put a call into the queue.

        Args:
            call: the call.
            count: how many calls it is, of an `execute_many`; 0 for one by itself.
        """
        self.begin()
        self.schedule.line_up(call)
        if count:
            self.ledger.made += count
            self.ledger.unbounded += count
        else:
            self.ledger.made += 1

    def to_wire(self, values: Sequence[Any]) -> tuple[tuple[Value, ...], Sequence[ExternRef]]:
        """Turn arguments into what travels, and the objects among them; see `HostFunctions`."""
        if SCALARS.issuperset(map(type, values)):
            return to_wire(values), ()
        return self.hosts.to_wire(values)

    def _check_room(self) -> None:
        assert self._max_queue is not None
        free = sum(not worker.exclusive for worker in self._crew.ready)
        waiting = self.ledger.open - self.ledger.unbounded - free
        if waiting >= self._max_queue:
            self._crew.grow(waiting + 1)
            self.ledger.refused += 1
            raise PoolFull(
                f"the pool is full: max_queue={self._max_queue} allows no more than that many "
                "calls to wait; call again later, make max_queue larger, or leave it out so "
                "that calls wait"
            )

    async def _follow(self, call: PoolCall) -> list[Any]:
        try:
            values = await answer(call)
        except CallTimeout:
            self.ledger.end(call, "timed_out")
            raise
        except Exception:
            self.ledger.end(call, "failed")
            raise
        except BaseException:
            self.ledger.end(call, "cancelled")
            raise
        finally:
            if not call.bounded:
                self.ledger.unbounded -= 1
            if call.holder is not None:
                self.schedule.leave(call)
        self.ledger.complete(call)
        return values

    def returned(self, requests: Sequence[Request]) -> None:
        """Give others what has not begun; see `CrewOwner`."""
        self.schedule.take_back(requests)
        self._dispatch()

    def worker_progressed(self, worker: PoolWorker) -> None:
        """Hand out more; see `CrewOwner`."""
        if self._drained is not None or not self.schedule.empty:
            self._dispatch()

    def _dispatch(self) -> None:
        self.schedule.dispatch()
        if self._drained is not None:
            self._check_drained()

    # --- Virtual machines with state --------------------------------------------------------------

    def tenant(self, config: Configure | None) -> Tenant:
        """A VM without a module, in a worker that others use, too."""
        return self._lodging.new(config_to_wire(config or Configure()), False)

    def actor(self, key: Hashable) -> Tenant:
        """The VM of a key, with the module; made when it is first used."""
        return self._lodging.actor(key, self._config)

    async def claim(self, *, with_module: bool = True) -> Tenant:
        """Wait, in the order of calls, for a worker that takes no calls until `release`.

        Returns:
            A VM in it, with the module or without one.

        Raises:
            PoolClosed, WorkerDied: as `call`.
        """
        self.begin()
        claim = Claim(GetCodeStatus(0, VM_NAME), "acquire")
        self.schedule.line_up(claim)
        tenant = None
        try:
            await claim.future
            assert claim.worker is not None
            tenant = self._lodging.new(self._config, with_module)
            await answer(tenant.begin(claim.worker))
        except BaseException:
            try:
                if tenant is not None:
                    await tenant.close()
            finally:
                if claim.worker is not None:
                    self._free(claim.worker)
            raise
        finally:
            self.schedule.leave(claim)
        self._claims[tenant] = claim.worker
        return tenant

    async def release(self, tenant: Tenant) -> None:
        """End the VM of a `claim`, and let its worker take calls again."""
        try:
            await tenant.close()
        finally:
            self._free(self._claims.pop(tenant))

    def release_soon(self, tenant: Tenant) -> None:
        """Do so in the background."""
        task = background(self.release(tenant))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    def _free(self, worker: PoolWorker) -> None:
        worker.exclusive = False
        self._dispatch()

    async def broadcast(
        self, message: Broadcast, timeout: float | None, references: Sequence[ExternRef]
    ) -> list[Any]:
        """Call a function in every worker, and let all later calls find what it did.

        Raises:
            PoolClosed: the pool is closed.
        """
        self.begin()
        return await self._broadcasts.run(message, timeout, references)

    # --- The end ----------------------------------------------------------------------------------

    def _mailboxes(self) -> set[Mailbox]:
        return {worker.mailbox for worker in self._crew.working}

    def _check_drained(self) -> None:
        if (
            self._drained is not None
            and not self._drained.done()
            and self.schedule.empty
            and not any(worker.mailbox.load for worker in self._crew.working)
        ):
            self._drained.set_result(None)

    async def close(self) -> None:
        """Refuse new calls, finish those that were made, end the workers. Idempotent.

        When it is cancelled, it kills.

        Raises:
            RuntimeError: the pool belongs to another event loop, which has not been closed.
            WouldDeadlock: a host function of the pool calls it.
        """
        if self._home is None or self._home.forked or self._home.over:
            self.kill()
            return
        self._home.check()
        if not self._killed and calling_mailbox(self._mailboxes) is not None:
            raise WouldDeadlock(
                "a host function closed its own pool, which would wait for the call that the "
                "function is part of: use pool.kill(), or close the pool from another task"
            )
        self._closed = True
        try:
            if not self._killed:
                if self._drained is None:
                    self._drained = self._loop.create_future()
                self._check_drained()
                await asyncio.shield(self._drained)
        except BaseException:
            self._kill()
            raise
        finally:
            self._stop_timers()
            self._crew.end()
            self._lodging.fail(PoolClosed("the pool was closed"))
            try:
                await self._crew.gone()
            finally:
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
            self._stop_timers()
            if self._compilation is not None:
                self._compilation.kill()
            self._lodging.fail(PoolClosed("the pool was closed"))
            self._fail_all(PoolClosed("the pool was closed before the call began"))
        self._crew.kill("the pool was closed", PoolClosed("the pool was closed during the call"))

    def forget(self) -> None:
        """Kill, from whichever thread has found that nobody holds the pool any more."""
        if self._home is None:
            return
        if self._home.forked:
            self._crew.kill("the process was forked", None)
        elif not self._closed:
            self.kill()

    async def _shut_down(self) -> None:
        """End the workers with the event loop. The pool stays `open`: its owner is to be told."""
        closed = self._closed
        self.kill()
        await self.close()
        self._closed = closed

    def _stop_timers(self) -> None:
        self.schedule.stop()
        self._crew.stop()
        self._lodging.end()
