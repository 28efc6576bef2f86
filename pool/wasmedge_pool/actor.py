"""A VM as an actor: one mailbox, one worker, and what has become of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from wasmedge_pool.backend import Backend, Death
from wasmedge_pool.errors import PoolClosed, VMLost
from wasmedge_pool.home import Home, background
from wasmedge_pool.hosting import HostFunctions, answer, open_scope, outlast
from wasmedge_pool.mailbox import Mailbox
from wasmedge_pool.messages import CreateVM
from wasmedge_pool.request import Patient, Request, answered, seen
from wasmedge_pool.settings import config_to_wire
from wasmedge_runtime.configure import Configure

__all__ = ["VM_NAME", "Actor"]

# The name of the VM in a worker that has only one.
VM_NAME = 1


class Actor:
    """Owns a worker process with one VM. The worker starts with the first request.

    Not the object that users hold: the event loop refers to this one, so a user's forgotten VM
    can still be found forgotten.

    Args:
        config: the VM's configuration; copied.
        make_backend: makes the worker.
    """

    number = VM_NAME
    """The VM's number in its worker."""

    def __init__(self, config: Configure | None, make_backend: Callable[[], Backend]) -> None:
        self._config = config_to_wire(config or Configure())
        self._make_backend = make_backend
        self._mailbox: Mailbox | None = None
        self._home: Home | None = None
        self._first: Request | None = None
        self._starting: asyncio.Task[None] | None = None
        self._ended: Patient | None = None
        self._lost = ""
        self._closed = False
        self.hosts = HostFunctions()
        """The VM's host functions."""
        self.state = 0
        """The VM's state at its last answer."""

    @property
    def pid(self) -> int:
        """The worker's process, 0 before it has one."""
        return 0 if self._mailbox is None else self._mailbox.pid

    @property
    def life(self) -> object:
        """Another object after each `restart`."""
        return self._mailbox

    @property
    def open(self) -> bool:
        """Whether there is something to close."""
        return self._home is not None and not self._closed and not self._home.forked

    def begin(self) -> Request:
        """Start the worker and make its VM; returns the request that is answered when it is.

        Raises:
            PoolClosed: the VM is closed.
            RuntimeError: no event loop is running that could drive workers.
        """
        if self._closed:
            raise PoolClosed("this VM is closed")
        home = self._home = Home("VM")
        ended = self._ended = Patient()
        mailbox = self._mailbox = Mailbox(
            self._make_backend(), lambda death, waiting: self._on_lost(home, ended, death, waiting)
        )
        first = self._first = Request(CreateVM(0, VM_NAME, self._config, 0), vm=self)
        mailbox.submit(first)
        # The only task: it must go on when the one that made the first request is cancelled.
        self._starting = background(self._start(mailbox, home, ended))
        first.future.add_done_callback(seen)
        return first

    async def _start(self, mailbox: Mailbox, home: Home, ended: Patient) -> None:
        try:
            await home.watch(self._shut_down)
            await mailbox.start()
        except BaseException as error:
            # The requests that wait have failed with it.
            self._lost = f"the VM's worker process could not be started: {error}"
            _end(home, ended)
            if not isinstance(error, Exception):
                raise

    def ask(self, request: Request) -> Coroutine[Any, Any, list[Any]]:
        """Have a request answered, after all those that were made before; one that a host function
        of this VM makes, at once, inside of the call that the function is part of.

        It is in the queue when this returns; what is returned is to be awaited.

        Raises:
            PoolClosed: the VM is closed.
            VMLost: its worker has ended.
            RuntimeError: the VM belongs to another event loop or process.
        """
        if self._closed:
            raise PoolClosed("this VM is closed")
        if self._home is None:
            self.begin()
        else:
            self._home.check()
        mailbox = self._mailbox
        assert mailbox is not None
        if mailbox.gone:
            raise self.lost()
        request.vm = self
        mailbox.submit(request, open_scope(mailbox))
        return answer(request)

    def lost(self) -> VMLost:
        """What the use of something raises that went with the worker."""
        return VMLost(
            self._lost
            if self._mailbox is not None and self._mailbox.gone
            else "this was in the VM before its restart, and is gone: look it up again"
        )

    def release(self, handle: int) -> None:
        """Let the worker forget a handle."""
        if self._mailbox is not None:
            self._mailbox.release(VM_NAME, handle)

    def end_worker(self, reason: str) -> None:
        """End the worker; the VM is lost with it."""
        if self._mailbox is not None:
            self._mailbox.kill(reason)

    async def restart(self) -> None:
        """End the worker if it lives, and begin anew with another."""
        if self._closed:
            raise PoolClosed("this VM is closed")
        mailbox, home = self._mailbox, self._home
        if home is not None and (home.forked or home.over):
            self.end_worker("its event loop was closed")
        elif mailbox is not None and home is not None and not mailbox.gone:
            home.check()
            reason = "the VM was restarted"
            for request in mailbox.withdraw():
                request.fail(VMLost(f"{reason} before the call began"))
            mailbox.kill(reason, VMLost(f"{reason} during the call"))
            await self._gone(mailbox)
        if self._closed:
            raise PoolClosed("this VM is closed")
        if self._mailbox is mailbox:  # or another task has restarted it meanwhile
            self.hosts = HostFunctions()
            self.state = 0
            self.begin()
        assert self._first is not None
        await answered(self._first)

    async def close(self) -> None:
        """End the worker; what still waits or runs fails with `PoolClosed`. Idempotent.

        Raises:
            RuntimeError: the VM belongs to another event loop, which has not been closed.
        """
        mailbox, home = self._mailbox, self._home
        if mailbox is None or home is None or mailbox.gone or home.forked or home.over:
            self.kill()
            return
        home.check()
        self._closed = True
        assert self._starting is not None
        if mailbox.load or not self._starting.done():
            self.kill()
        else:
            mailbox.finish()
        await self._gone(mailbox)

    async def _gone(self, mailbox: Mailbox) -> None:
        """Wait until the worker has ended; then, and not before, a cancellation goes on."""
        assert self._ended is not None
        await outlast(self._ended, mailbox)

    def kill(self) -> None:
        """End the worker at once, without waiting for its end."""
        self._closed = True
        if self._mailbox is None or self._home is None or self._home.forked:
            return
        if not self._home.over:  # or there is nobody left to be told
            for request in self._mailbox.withdraw():
                request.fail(PoolClosed("the VM was closed before the call began"))
        self._mailbox.kill("the VM was closed", PoolClosed("the VM was closed during the call"))

    def forget(self) -> None:
        """Kill, from whichever thread has found that nobody holds the VM any more."""
        if self._home is None or self._mailbox is None:
            return
        if self._home.forked:
            self._mailbox.kill("the process was forked")
        elif not self._closed:
            self._home.run(self.kill)

    async def _shut_down(self) -> None:
        """End the worker with the event loop. The VM stays `open`: its owner is to be told."""
        if self._mailbox is not None and not self._mailbox.gone:
            self._mailbox.kill("its event loop was closed")
            assert self._ended is not None
            await self._ended

    def _on_lost(self, home: Home, ended: Patient, death: Death, waiting: list[Request]) -> None:
        self._lost = (
            f"the VM's worker process {death.pid} has ended ({death.cause}), and the VM's state "
            "with it: `await vm.restart()` begins anew"
        )
        self.state = 0
        for request in waiting:
            closed = PoolClosed("the VM was closed before the call began")
            request.fail(closed if self._closed else VMLost(self._lost))
        _end(home, ended)


def _end(home: Home, ended: Patient) -> None:
    if not ended.done():
        ended.set_result(None)
    home.leave()
