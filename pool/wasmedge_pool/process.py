"""One worker process on this machine: its start, its wires, and the cause of its death."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import mmap
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, cast

from wasmedge_pool.backend import Death, Receiver
from wasmedge_pool.boot import BOOT, import_path
from wasmedge_pool.messages import (
    ANSWER,
    CONTROL,
    DESCRIPTORS,
    FAULT,
    INTERRUPT,
    PIECE,
    REFUSAL,
    SKIPPED,
    VERSION,
    WITHDRAW,
    Hello,
    Message,
    ProtocolError,
    Ready,
)
from wasmedge_pool.page import SIZE as PAGE_SIZE
from wasmedge_pool.protocol import Decoder, encode
from wasmedge_runtime.errors import ErrCode, WasmEdgeError

__all__ = ["WorkerProcess"]

# How long a worker may take to say Ready. Loading the engine takes 0.1 s; the rest is for machines
# that are busy with something else.
_READY_SECONDS = 60.0
# Between the end of the wire and the end of the process, and after a request to finish. A worker
# that does not end by itself is killed then.
_EXIT_SECONDS = 2.0
# How long the event loop may be held up by a plain host function that looks into guest memory.
_ASK_SECONDS = 1.0
# Bytes of other datagrams that may come meanwhile.
_MAX_OTHERS = 64 * 1024


def _shared_page() -> tuple[int, mmap.mmap] | None:
    """Make the page in which a worker notes the request it is running, None where there is none.

    Sealed: a worker that cut it short would kill the parent (SIGBUS) when it looks.
    """
    if not hasattr(os, "memfd_create"):
        return None
    fd = os.memfd_create("wasmedge-worker", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, PAGE_SIZE)
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
        return fd, mmap.mmap(fd, PAGE_SIZE, prot=mmap.PROT_READ)
    except BaseException:
        os.close(fd)
        raise


def _bury(process: subprocess.Popen[bytes]) -> None:
    """Kill a process nobody looks after any more, and take its exit status."""
    if process.poll() is None:
        process.kill()
        process.wait()


# A fork while a worker is being started would inherit its ends of the wires, and nobody would see
# them hang up.
_spawning = threading.RLock()
_living: weakref.WeakSet[WorkerProcess] = weakref.WeakSet()


def _disinherit() -> None:
    """Let go of the workers, in a process that was forked from the one that has them."""
    for worker in list(_living):
        worker.disinherit()
    _spawning.release()


os.register_at_fork(
    before=_spawning.acquire,
    after_in_parent=_spawning.release,
    after_in_child=_disinherit,
)


class WorkerProcess(asyncio.Protocol):
    """A child process that runs `target`; a `Backend`.

    Started with a new session (the terminal's Ctrl-C is the parent's), /dev/null as its standard
    streams, and two sockets, the lifeline and the shared page as its only other descriptors. Not by
    `fork` of the user's process: locks held by its threads would stay locked for ever.

    Args:
        target: ``"module:function"``, the worker's program; tests have others.
    """

    def __init__(self, target: str = "wasmedge_pool.worker:main") -> None:
        self._target = target
        self._decoder = Decoder(from_worker=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._receiver: Receiver | None = None
        self._ready: asyncio.Future[None] | None = None
        self._reason: str | None = None
        self._broken = False
        self._congested = False
        self._finished = False
        self._page: mmap.mmap | None = None
        self._lifeline: int | None = None
        self._wires: list[int] = []
        self._forked = False

    @property
    def pid(self) -> int:
        """The process, 0 before `start`."""
        return 0 if self._process is None else self._process.pid

    @property
    def congested(self) -> bool:
        """Whether sending should pause."""
        return self._congested

    # --- Start ----------------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        """Start the process and wait until it is ready, see `Backend.start`."""
        self._loop = asyncio.get_running_loop()
        self._receiver = receiver
        with _spawning:
            data = self._spawn()
        self._ready = self._loop.create_future()
        try:
            await self._loop.create_unix_connection(lambda: self, sock=data)
            self._loop.add_reader(self._control, self._control_readable)
            self.send(encode(Hello(VERSION, logging.getLogger("wasmedge").getEffectiveLevel())))
            # Not a task's timeout: the worker's end resolves the same future.
            timer = self._loop.call_later(_READY_SECONDS, self._not_ready)
            try:
                await self._ready
            finally:
                timer.cancel()
        except BaseException:
            # Cancelled, most likely, as all tasks are before the event loop is closed: the wires go
            # now. The child is young: it is gone within milliseconds.
            self._receiver = None
            self.kill("its start was cancelled")
            transport = getattr(self, "_transport", None)
            if self._forked or transport is None or transport.is_closing():
                self._drop()
            else:
                transport.abort()
            raise

    def _spawn(self) -> socket.socket:
        if not sys.executable:
            raise RuntimeError("worker processes need sys.executable, which is not set")
        with contextlib.ExitStack() as on_error, contextlib.ExitStack() as child_ends:
            data, child_data = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            on_error.callback(data.close)
            child_ends.callback(child_data.close)
            # A second descriptor: what the worker had answered before it died is read even when the
            # transport gives up at once, because a write failed.
            tail = data.dup()
            on_error.callback(tail.close)
            control, child_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            on_error.callback(control.close)
            child_ends.callback(child_control.close)
            child_lifeline, lifeline = os.pipe()
            child_ends.callback(os.close, child_lifeline)
            on_error.callback(os.close, lifeline)
            fds = [child_data.fileno(), child_control.fileno(), child_lifeline]
            page = _shared_page()
            if page is not None:
                child_ends.callback(os.close, page[0])
                on_error.callback(page[1].close)
                fds.append(page[0])
            start = {
                "path": import_path(),
                "target": self._target,
                "data": child_data.fileno(),
                "control": child_control.fileno(),
                "lifeline": child_lifeline,
                "page": None if page is None else page[0],
                "fault": FAULT,
            }
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", BOOT, json.dumps(start)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,
            )
            on_error.pop_all()
        self._process = process
        # Should the event loop be closed before the worker is: no zombie, no orphan.
        self._bury = weakref.finalize(self, _bury, process)
        data.setblocking(False)
        control.setblocking(False)
        self._page = None if page is None else page[1]
        self._tail = tail
        self._control = control
        self._lifeline = lifeline
        self._wires = [data.fileno(), tail.fileno(), control.fileno(), lifeline]
        _living.add(self)
        return data

    def _not_ready(self) -> None:
        self.kill(f"it was not ready after {_READY_SECONDS:.0f} s")

    # --- The data socket: called by the event loop -----------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            messages = self._decoder.feed(data)
            if self._ready is not None:
                self._take_ready(messages)
            if messages and self._receiver is not None:
                self._receiver.received(messages)
        except ProtocolError as error:
            self._broken = True
            self.kill(f"it broke the protocol, {error}")

    def _take_ready(self, messages: list[Message]) -> None:
        if not messages:
            return
        ready = messages[0]
        if not isinstance(ready, Ready) or ready.version != VERSION or ready.pid != self.pid:
            raise ProtocolError(f"its first message is {ready}")
        del messages[0]
        waiter, self._ready = self._ready, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False
        if self._receiver is not None:
            self._receiver.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._forked or self._control.fileno() < 0:
            return  # another process's worker; or it was dropped before
        _living.discard(self)  # before any of its wires' numbers can be given to others
        with contextlib.suppress(OSError):
            self._tail.setblocking(False)
            while data := self._tail.recv(65536):
                self.data_received(data)
        self._tail.close()
        self._control_readable()  # last words
        self._loop.remove_reader(self._control)
        self._control.close()
        self._await_exit(0)

    def _cut_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _await_exit(self, attempt: int) -> None:
        """Take the exit status. The process is usually gone already, or within a millisecond.

        Polling ends at once and needs neither a thread nor a signal handler, which an event loop
        in another thread than the main one could not have.
        """
        process = self._process
        assert process is not None
        code = process.poll()
        if code is None:
            delay = min(0.001 * 2**attempt, 0.05)
            if attempt == 45:  # after two seconds
                process.kill()
            self._loop.call_later(delay, self._await_exit, attempt + 1)
            return
        self._bury.detach()
        self._cut_lifeline()  # not before: a worker that ends by itself does so with its own code
        death = Death(
            pid=process.pid,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            running=self.running(),
            reason=self._reason,
            page=None if self._page is None else bytes(self._page),
        )
        if self._page is not None:
            self._page.close()
            self._page = None
        waiter, self._ready = self._ready, None
        if waiter is not None:
            self._receiver = None
            if not waiter.done():
                waiter.set_exception(death.error())
        if self._receiver is not None:
            self._receiver.lost(death)

    # --- The control socket -----------------------------------------------------------------------

    def _control_readable(self) -> None:
        while True:
            try:
                datagram = self._control.recv(16 * 1024)
            except OSError:
                return
            if not datagram:
                self._loop.remove_reader(self._control)
                return
            self._take_control(datagram)

    def _take_control(self, datagram: bytes) -> None:
        if datagram[0] == FAULT:
            self._reason = self._reason or datagram[1:].decode("utf-8", "replace")
            return
        try:
            if len(datagram) != CONTROL.size or datagram[0] != SKIPPED:
                raise ProtocolError("nonsense on the control socket")
            if self._receiver is not None and not self._broken:
                self._receiver.skipped(CONTROL.unpack(datagram)[1])
        except ProtocolError as error:
            self._broken = True
            self.kill(f"it broke the protocol, {error}")

    # --- Backend ----------------------------------------------------------------------------------

    def send(self, frames: bytes) -> None:
        """Send whole frames."""
        if not (self._finished or self._transport.is_closing()):
            self._transport.write(frames)

    def interrupt(self, number: int) -> None:
        """Ask the worker to end a request."""
        self._signal(INTERRUPT, number)

    def withdraw(self, number: int) -> None:
        """Ask the worker to skip a request that has not begun."""
        self._signal(WITHDRAW, number)

    def _signal(self, kind: int, number: int) -> None:
        try:
            self._control.send(CONTROL.pack(kind, number))
        except BlockingIOError:
            # Hundreds are waiting: the worker does not look at them.
            self._loop.call_later(0.01, self._signal, kind, number)
        except OSError:
            pass  # it has ended; the end of the data socket tells

    def send_descriptors(self, number: int, descriptors: Sequence[int]) -> bool:
        """Send descriptors for a request, see `Backend.send_descriptors`."""
        try:
            socket.send_fds(self._control, [CONTROL.pack(DESCRIPTORS, number)], list(descriptors))
        except BlockingIOError:
            return False
        except OSError:
            pass  # it has ended; the end of the data socket tells
        return True

    def ask_now(self, datagram: bytes) -> bytes:
        """Ask the watchdog about memory and wait for it, see `Backend.ask_now`."""
        end = time.monotonic() + _ASK_SECONDS
        poll = select.poll()
        sent = False
        others = 0
        while self._control.fileno() >= 0:  # or it has ended
            if not sent:
                try:
                    self._control.send(datagram)
                    sent = True
                except BlockingIOError:
                    pass
                except OSError:
                    break
                poll.register(self._control, select.POLLIN | (0 if sent else select.POLLOUT))
            left = end - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self.kill(f"its memory could not be accessed within {_ASK_SECONDS:.0f} s")
                break
            try:
                reply = self._control.recv(PIECE + 1)
            except BlockingIOError:
                continue
            except OSError:
                break
            if not reply:
                break
            if reply[0] in (ANSWER, REFUSAL):
                return reply
            # What else comes here is for the event loop, in its order.
            self._loop.call_soon(self._take_control, reply)
            others += len(reply)
            if others > _MAX_OTHERS:
                self.kill("it broke the protocol, endless datagrams on the control socket")
                break
        raise WasmEdgeError(
            ErrCode.RuntimeError, f"the memory of worker process {self.pid} cannot be accessed"
        )

    def running(self) -> int | None:
        """Return the number of the last request the worker began."""
        if self._page is None:
            return None
        return int.from_bytes(self._page[:8], sys.byteorder)

    def finish(self) -> None:
        """Let the worker end by itself, but not for ever."""
        self._reason = self._reason or "it was told to finish"
        if not self._transport.is_closing():
            self._finished = True
            self._transport.write_eof()
            self._loop.call_later(_EXIT_SECONDS, self.kill, "it did not finish in time")

    def kill(self, reason: str) -> None:
        """End the process with SIGKILL."""
        self._reason = self._reason or reason
        if self._process is None:
            return
        if self._forked or self._loop.is_closed() or sys.is_finalizing():
            self._drop()
        elif self._process.returncode is None:
            self._process.kill()

    # --- Without the event loop -------------------------------------------------------------------

    def disinherit(self) -> None:
        """Let go of the worker, in a process that was forked from its parent.

        The wires are replaced and not closed: whoever knows their numbers, such as the event
        loop's transport, may still close them, and must not close what has come in their place.
        Nor is the event loop told, which shares the kernel's list of descriptors with the parent.
        """
        self._forked = True
        self._reason = "its parent is another process, from which this one was forked"
        dead, other = socket.socketpair()
        other.close()
        for wire in self._wires:
            os.dup2(dead.fileno(), wire, inheritable=False)
        dead.close()
        if self._process is not None:
            self._bury.detach()
            self._process.returncode = 0  # never signalled or waited for: it is no child of ours

    def _drop(self) -> None:
        """Let go of everything: no event loop will tell of the end any more."""
        assert self._process is not None
        _living.discard(self)
        self._bury()
        if not self._loop.is_closed() and not self._forked and self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
        self._cut_lifeline()
        self._tail.close()
        self._control.close()
        # What asyncio's transport has no public way for. It would warn, once more, for itself.
        transport: Any = getattr(self, "_transport", None)
        gone = self._forked or self._loop.is_closed()
        if gone and getattr(transport, "_sock", None) is not None:
            transport._sock.close()
            transport._sock = None
