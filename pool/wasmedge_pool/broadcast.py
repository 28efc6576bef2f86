"""What every call of a pool finds done: calls that each worker has run, whenever it was started.

A broadcast is run by the workers there are, and noted, for those that will be. It holds in all of
them or in none: when it fails in one, it is struck off, and the workers in which it did not fail
instantiate the module anew and run what is left of the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from wasmedge_pool.actor import VM_NAME
from wasmedge_pool.errors import WorkerDied, WouldDeadlock
from wasmedge_pool.home import background
from wasmedge_pool.hosting import HostFunctions, answer, calling_mailbox, to_its_end
from wasmedge_pool.messages import Broadcast, Instantiate
from wasmedge_pool.request import Request
from wasmedge_pool.sizing import Crew, PoolWorker
from wasmedge_runtime.values import ExternRef

__all__ = ["Broadcasts"]


class _Pooled:
    """Stands for the VM that a worker runs the pool's calls in: what concerns one worker's is
    not given to another."""

    state = 0


class _NotStarted(Exception):
    """A worker did not come so far: it could not be started."""


class _Entry:
    """One broadcast."""

    def __init__(
        self, message: Broadcast, timeout: float | None, references: Sequence[ExternRef]
    ) -> None:
        self.message = message
        self.timeout = timeout
        self.references = references
        self.requests: dict[PoolWorker, Request] = {}
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when whoever made it knows how it went."""


class Broadcasts:
    """The broadcasts of a pool, in their order.

    Args:
        crew: the workers.
        hosts: the pool's host functions.
    """

    def __init__(self, crew: Crew, hosts: HostFunctions) -> None:
        self._crew = crew
        self._hosts = hosts
        self._target = _Pooled()
        self._list: list[_Entry] = []

    async def run(
        self, message: Broadcast, timeout: float | None, references: Sequence[ExternRef]
    ) -> list[Any]:
        """Run a broadcast in all workers; returns what each of them gave.

        Raises:
            WouldDeadlock: a host function of the pool makes it.
            Exception: what it failed with in one of them; it holds in none then.
        """
        if calling_mailbox(lambda: {one.mailbox for one in self._crew.working}) is not None:
            raise WouldDeadlock(
                f"a host function broadcasts {message.function!r} to its own pool, which would "
                "wait in each worker for the end of its calls, that of the host function among "
                "them; broadcast before the call, or after it"
            )
        entry = _Entry(message, timeout, references)
        for worker in self._crew.places:
            request = entry.requests[worker] = self._request(entry)
            if worker.ready:
                worker.setup.append(entry)
                worker.mailbox.submit(request)
        self._list.append(entry)
        try:
            results = await asyncio.gather(
                *map(answer, entry.requests.values()), return_exceptions=True
            )
            failures = [one for one in results if isinstance(one, BaseException)]
            for failure in failures:
                if not isinstance(failure, _NotStarted):
                    raise failure
            if len(failures) == len(results):
                raise WorkerDied(0, None, None, "no worker could be started")
        except BaseException:
            self._list.remove(entry)
            entry.ended.set_result(None)
            await to_its_end(background(self._undo(entry)))
            raise
        entry.ended.set_result(None)
        entry.requests.clear()
        return [one for one in results if not isinstance(one, BaseException)]

    def _request(self, entry: _Entry) -> Request:
        return Request(
            entry.message,
            None,
            entry.timeout,
            vm=self._target,
            hosts=self._hosts,
            references=entry.references,
        )

    def pooled(self, message: Instantiate) -> Request:
        """A request for the VM that a worker runs the pool's calls in."""
        return Request(message, vm=self._target, hosts=self._hosts)

    async def _undo(self, entry: _Entry) -> None:
        workers = [worker for worker in self._crew.ready if entry in worker.setup]
        settled = await asyncio.gather(*map(self.settle, workers), return_exceptions=True)
        for worker, failure in zip(workers, settled, strict=True):
            if failure is not None and not worker.mailbox.gone:
                worker.mailbox.kill(f"it could not take a broadcast back: {failure}")

    async def settle(self, worker: PoolWorker) -> None:
        """Bring a worker to where the list is.

        Raises:
            Exception: the module could not be instantiated again, or a broadcast that had run
                everywhere else failed.
        """
        while True:
            if not all(entry in self._list for entry in worker.setup):
                worker.setup.clear()
                again = self.pooled(Instantiate(0, VM_NAME))
                worker.mailbox.submit(again)
                await answer(again)
            entry = next((one for one in self._list if one not in worker.setup), None)
            if entry is None:
                return
            worker.setup.append(entry)
            request = entry.requests.get(worker)
            if request is not None and not entry.ended.done():
                # Whoever made it waits for the answer, and strikes it off if it failed.
                if not request.future.done():
                    worker.mailbox.submit(request)
                await asyncio.wait([entry.ended])
            else:
                request = self._request(entry)
                worker.mailbox.submit(request)
                await answer(request)

    def worker_failed(self, worker: PoolWorker) -> None:
        """Let nobody wait for a worker that could not be started."""
        for entry in self._list:
            request = entry.requests.get(worker)
            if request is not None and request.owner is None:
                request.fail(_NotStarted())
