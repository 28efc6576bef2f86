"""The tenants of a pool: which there are, where they live, and when they rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from wasmedge_pool.backend import Death
from wasmedge_pool.home import background
from wasmedge_pool.hosting import HostFunctions
from wasmedge_pool.registering import Registrable
from wasmedge_pool.request import Request
from wasmedge_pool.sizing import Crew, PoolWorker
from wasmedge_pool.tenant import Tenant

__all__ = ["Lodging"]

# Idle actors are looked for so often in the time after which they rest.
_SWEEPS = 4


class Lodging:
    """The virtual machines with state that live in a pool's workers.

    Args:
        crew: the workers.
        begin: starts the pool, if it has not been started.
        hosts: the pool's host functions.
        host_modules: the pool's host modules, of which each tenant gets a copy.
        idle: seconds after which a keyed actor that is asked for nothing rests; None for never.

    Raises:
        ValueError: `idle` is negative.
    """

    def __init__(
        self,
        crew: Crew,
        begin: Callable[[], None],
        hosts: HostFunctions,
        host_modules: Sequence[Registrable],
        idle: float | None,
    ) -> None:
        if idle is not None and not idle >= 0:
            raise ValueError(f"actor_idle must be 0 or more seconds, not {idle!r}")
        self.hosts = hosts
        self.host_modules = host_modules
        self._crew = crew
        self._begin = begin
        self._idle = idle
        self._number = 1  # of the VM that the calls of the pool run in
        # A tenant that has begun is kept: it has state, or must say that it lost it. Of others a
        # key needs to lead to the same one only as long as somebody has it.
        self._kept: set[Tenant] = set()
        self._actors: WeakValueDictionary[Hashable, Tenant] = WeakValueDictionary()
        self._homeless: list[asyncio.Future[PoolWorker]] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._resting: set[asyncio.Task[None]] = set()

    @property
    def actors(self) -> int:
        """How many keyed actors there are."""
        return sum(tenant.key is not None for tenant in self._kept)

    def new(self, config: tuple[Any, ...], with_module: bool, key: Hashable = None) -> Tenant:
        """Make a tenant; it moves in when it is first used."""
        self._number += 1
        return Tenant(self, self._number, config, with_module, key)

    def actor(self, key: Hashable, config: tuple[Any, ...]) -> Tenant:
        """The tenant of a key."""
        tenant = self._actors.get(key)
        if tenant is None or tenant.closed:
            # None is a key like any other.
            tenant = self._actors[key] = self.new(config, True, (key,))
        return tenant

    # --- What tenants ask for ---------------------------------------------------------------------

    def check(self) -> None:
        """See `Landlord`."""
        self._begin()

    def keep(self, tenant: Tenant) -> None:
        """See `Landlord`."""
        self._begin()
        self._kept.add(tenant)
        self._sweep_later()

    def forget(self, tenant: Tenant) -> None:
        """See `Landlord`."""
        self._kept.discard(tenant)

    async def home(self) -> PoolWorker:
        """See `Landlord`: the worker with the fewest tenants, of those that will stay."""
        ready = self._crew.ready
        staying = [worker for worker in ready if worker.successor is None]
        free = [worker for worker in staying if not worker.exclusive]
        for choice in (free, staying, ready):
            if choice:
                return min(choice, key=lambda worker: len(worker.tenants))
        homeless: asyncio.Future[PoolWorker] = asyncio.get_running_loop().create_future()
        self._homeless.append(homeless)
        return await homeless

    # --- What becomes of workers ------------------------------------------------------------------

    def worker_ready(self, worker: PoolWorker) -> None:
        """Let those move in that wait for a worker."""
        homeless, self._homeless = self._homeless, []
        for future in homeless:
            if not future.done():
                future.set_result(worker)

    def fail(self, error: Exception) -> None:
        """There is no worker: those that wait for one cannot begin."""
        homeless, self._homeless = self._homeless, []
        for future in homeless:
            if not future.done():
                future.set_exception(error)

    def worker_lost(
        self, worker: PoolWorker, death: Death, waiting: Sequence[Request], closed: bool
    ) -> None:
        """Tell the tenants of a worker that has ended, and fail what had not begun."""
        for tenant in list(worker.tenants):
            tenant.worker_lost(death, closed)
        worker.tenants.clear()
        for request in waiting:
            if isinstance(request.vm, Tenant):
                request.fail(request.vm.lost())

    def end(self) -> None:
        """Stop the timer."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # --- Rest -------------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        if self._idle is not None and self._sweep is None and self.actors:
            delay = max(self._idle / _SWEEPS, 0.01)
            self._sweep = asyncio.get_running_loop().call_later(delay, self._rest_idle)

    def _rest_idle(self) -> None:
        self._sweep = None
        assert self._idle is not None
        since = monotonic() - self._idle
        for tenant in list(self._kept):
            if tenant.key is not None and tenant.touched <= since and not tenant.busy:
                task = background(tenant.rest())
                self._resting.add(task)
                task.add_done_callback(self._resting.discard)
        self._sweep_later()
