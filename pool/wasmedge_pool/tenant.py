"""A virtual machine with state that lives in a worker of a pool, beside others.

It does for a `VM` what `Actor` does, without a process of its own. It moves into a worker when it
is first used: a VM of its own number is made there, with a copy of the pool's host modules, and
of its module if that is wanted, which need not be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, Protocol

from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.backend import Death
from wasmedge_pool.errors import PoolClosed, VMLost
from wasmedge_pool.home import background
from wasmedge_pool.hosting import HostCallScope, HostFunctions, answer, open_scope, to_its_end
from wasmedge_pool.mailbox import Mailbox
from wasmedge_pool.messages import CreateVM, DropVM, GetCodeStatus, Share
from wasmedge_pool.registering import Registrable
from wasmedge_pool.request import Request, answered, seen
from wasmedge_pool.sizing import PoolWorker

__all__ = ["Landlord", "Tenant"]


class Landlord(Protocol):
    """A pool, as far as its tenants need it."""

    @property
    def hosts(self) -> HostFunctions:
        """The pool's host functions."""

    @property
    def host_modules(self) -> Sequence[Registrable]:
        """The pool's host modules."""

    async def home(self) -> PoolWorker:
        """Wait for a worker that a tenant may move into."""

    def check(self) -> None:
        """Raise `PoolClosed` when the pool is closed, `RuntimeError` in another event loop."""

    def keep(self, tenant: Tenant) -> None:
        """Hold on to a tenant that has begun, until `forget`."""

    def forget(self, tenant: Tenant) -> None:
        """Let go of a tenant that has no state any more."""


class Tenant:
    """A VM in a worker of a pool; has the interface of `Actor`.

    Args:
        pool: where it lives.
        number: the VM's number, which no other VM of the pool has.
        config: the VM's configuration, from `config_to_wire`.
        with_module: whether it has the pool's module, instantiated.
        key: of a keyed actor: it may `rest`, and begins anew when it is used again.
    """

    def __init__(
        self,
        pool: Landlord,
        number: int,
        config: tuple[Any, ...],
        with_module: bool,
        key: Hashable = None,
    ) -> None:
        self.number = number
        self.key = key
        self.hosts = pool.hosts.copy()
        """The VM's host functions: the pool's, and its own."""
        self.state = 0
        self.touched = monotonic()
        """When it was last asked for something, or answered."""
        self._pool = pool
        self._config = config
        self._with_module = with_module
        self._home: PoolWorker | None = None
        self._worker: PoolWorker | None = None  # the same, when it has moved in
        self._created: asyncio.Future[list[Any]] | None = None
        self._moving: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._first: Request | None = None
        # Until it has moved in; each with where it was made, perhaps in a host function.
        self._pending: list[tuple[Request, Context]] = []
        self._open: set[Request] = set()  # not answered
        self._why_lost: Exception | None = None
        self._closed = False
        self._life = object()

    # --- What `Actor` has, too --------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The worker's process, 0 before it has one."""
        return 0 if self._worker is None else self._worker.mailbox.pid

    @property
    def life(self) -> object:
        """Another object after each beginning."""
        return self._life

    @property
    def open(self) -> bool:
        """Whether there is something to close."""
        return self._moving is not None and not self._closed

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""
        return self._closed

    @property
    def busy(self) -> bool:
        """Whether something is asked of it that is not answered."""
        return bool(self._open)

    def begin(self, worker: PoolWorker | None = None) -> Request:
        """Move into a worker; returns a request that is answered afterwards.

        Raises:
            PoolClosed: the VM is closed.
        """
        if self._closed:
            raise PoolClosed("this VM is closed")
        self.state = 0
        self._life = object()
        self._why_lost = None
        self._pool.keep(self)
        # A task of its own: it goes on when the task that happened to need it is cancelled.
        self._moving = background(self._move_in(worker))
        first = self._first = Request(GetCodeStatus(0, self.number), vm=self)
        self._pending.append((first, copy_context()))
        first.future.add_done_callback(seen)
        return first

    def ask(self, request: Request) -> Coroutine[Any, Any, list[Any]]:
        """Have a request answered, see `Actor.ask`."""
        if self._closed:
            raise PoolClosed("this VM is closed")
        self._pool.check()
        if self._moving is None:
            self.begin()
        if self._why_lost is not None:
            raise self.lost()
        request.vm = self
        self.touched = monotonic()
        self._open.add(request)
        if self._worker is None:
            self._pending.append((request, copy_context()))
        else:
            mailbox = self._worker.mailbox
            mailbox.submit(request, open_scope(mailbox))
        return self._follow(request)

    async def _follow(self, request: Request) -> list[Any]:
        try:
            return await answer(request)
        finally:
            self._open.discard(request)
            self.touched = monotonic()

    def lost(self) -> Exception:
        """What the use of something raises that went with the worker."""
        if self._why_lost is None:
            return VMLost("this was in the VM before its restart, and is gone: look it up again")
        return VMLost(str(self._why_lost))

    def release(self, handle: int) -> None:
        """Let the worker forget a handle."""
        if self._worker is not None:
            self._worker.mailbox.release(self.number, handle)

    def end_worker(self, reason: str) -> None:
        """End what runs: with the worker, if that is this VM's alone."""
        if self._worker is not None:
            if self._worker.exclusive:
                self._worker.mailbox.kill(reason)
            else:
                for request in self._open:
                    self._worker.mailbox.interrupt(request)

    async def restart(self) -> None:
        """Begin anew, perhaps in another worker."""
        if self._closed:
            raise PoolClosed("this VM is closed")
        life = self._life
        await self._move_out(lambda: VMLost("the VM was restarted before the call had ended"))
        if self._closed:
            raise PoolClosed("this VM is closed")
        if self._life is life:  # or another task has restarted it meanwhile
            self.begin()
        assert self._first is not None
        await answered(self._first)

    async def close(self) -> None:
        """End the VM; what still waits or runs fails with `PoolClosed`. Idempotent."""
        self._closed = True
        await self._move_out(lambda: PoolClosed("the VM was closed before the call had ended"))

    async def rest(self) -> None:
        """End the VM, but begin anew when it is asked for something."""
        await self._move_out(lambda: VMLost("the VM was closed because it was idle"))

    def kill(self) -> None:
        """End the VM without waiting for its end. From any thread."""
        self._closed = True
        if self._moving is not None:
            # The pool ends it when the event loop is closed.
            with contextlib.suppress(RuntimeError):
                self._moving.get_loop().call_soon_threadsafe(lambda: background(self.close()))

    def forget(self) -> None:
        """Kill, because nobody holds the VM any more."""
        if not self._closed:
            self.kill()

    # --- Moving -----------------------------------------------------------------------------------

    async def _move_in(self, worker: PoolWorker | None) -> None:
        try:
            if self._leaving is not None:
                await asyncio.wait([self._leaving])
            if worker is None:
                worker = await self._pool.home()
            worker.tenants.add(self)
            self._home = worker
            mailbox = worker.mailbox
            # A host function of this worker may be what needs the VM: then the worker waits for it,
            # and what is asked for here runs inside.
            while not await self._set_up(mailbox, open_scope(mailbox)):
                pass
        except Exception as error:
            if self._why_lost is None:
                self._why_lost = VMLost(f"the VM could not begin: {error}")
            failure = error
            self._fail_pending(lambda: failure)
            return
        if self._why_lost is not None:  # in this moment
            self._fail_pending(self.lost)
            return
        self._worker = worker
        pending, self._pending = self._pending, []
        for request, context in pending:
            if not request.future.done():
                mailbox.submit(request, context.run(open_scope, mailbox))

    async def _set_up(self, mailbox: Mailbox, scope: HostCallScope | None) -> bool:
        """Have the VM made; False when it was to be made inside of a host function, and that was
        over before."""
        # Not interrupted when somebody does not want it any more: what is made is dropped.
        create = Request(CreateVM(0, self.number, self._config, 0), vm=self)
        self._created = create.future
        create.future.add_done_callback(seen)
        mailbox.submit(create, scope)
        setup = [await one.registration(self.number) for one in self._pool.host_modules]
        if self._with_module:
            setup.append(Request(Share(0, self.number, VM_NAME), vm=self, hosts=self.hosts))
        for request in setup:
            request.vm = self
            mailbox.submit(request, scope)
        results = await asyncio.gather(
            asyncio.shield(create.future), *map(answer, setup), return_exceptions=True
        )
        failure = next((one for one in results if isinstance(one, BaseException)), None)
        if failure is None:
            return True
        if scope is None or scope.open or mailbox.gone:
            raise failure
        return False

    def _fail_pending(self, error: Callable[[], Exception]) -> None:
        pending, self._pending = self._pending, []
        for request, _ in pending:
            request.fail(error())

    async def _move_out(self, error: Callable[[], Exception]) -> None:
        """Leave the worker. What it takes for that is done also when this is cancelled."""
        moving, self._moving = self._moving, None
        home, self._home, self._worker = self._home, None, None
        if moving is not None:
            if home is not None:
                home.tenants.discard(self)
            self._fail_pending(error)
            self.hosts = self._pool.hosts.copy()
            moving.cancel()
            self._leaving = background(
                self._leave(moving, home, self._created, list(self._open), error)
            )
        if self._leaving is not None:
            await to_its_end(self._leaving, None if home is None else home.mailbox)

    async def _leave(
        self,
        moving: asyncio.Task[None],
        home: PoolWorker | None,
        created: asyncio.Future[list[Any]] | None,
        requests: list[Request],
        error: Callable[[], Exception],
    ) -> None:
        await asyncio.wait([moving])
        if home is not None and created is not None:
            mailbox = home.mailbox
            for request in requests:
                if not request.future.done():
                    request.future.set_exception(error())
                    seen(request.future)
            for request in requests:
                await mailbox.stopped(request)
            await asyncio.wait([created])
            # Cleared of what the host may have of it; and its number stands for nothing now.
            dropped = False
            while not (dropped or mailbox.gone):
                scope = open_scope(mailbox)
                drop = Request(DropVM(0, self.number), vm=self)
                mailbox.submit(drop, scope)
                await asyncio.wait([drop.future])
                # Not when it was to be inside of a host function that was over before.
                dropped = drop.future.exception() is None or scope is None or scope.open
        if self._moving is None:
            self._pool.forget(self)

    def worker_lost(self, death: Death, closed: bool) -> None:
        """Take notice that the worker has ended."""
        if closed:
            self._closed = True
        self._why_lost = VMLost(
            f"the VM's worker process {death.pid} has ended ({death.cause}), and the VM's state "
            "with it: `await vm.restart()` begins anew"
        )
        self.state = 0
        self._home = self._worker = None
