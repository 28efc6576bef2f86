"""What awaited calls are measured beside: an echo, wasmtime in threads, an executor's processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import wasmtime

from benchmarks.measure import AwaitedRun

_ECHO = """
import socket, sys
wire = socket.socket(fileno=int(sys.argv[1]))
while data := wire.recv(262144):
    wire.sendall(data)
"""


class _Echo(asyncio.Protocol):
    """The parent's side: as little as turns one answer into one result."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] | None = None

    def data_received(self, data: bytes) -> None:
        if self.answer is not None:
            self.answer.set_result(data)


@asynccontextmanager
async def echo(size: int) -> AsyncIterator[AwaitedRun]:
    """A call that sends so many bytes to a child process and waits until they are back.

    A socket pair, a `Protocol` and a future: what every design with a process has at least. The
    child does nothing else than blocking reads and writes.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", _ECHO, str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(_Echo, sock=ours)
    message = bytes(size)

    async def call() -> bytes:
        answer: asyncio.Future[bytes] = loop.create_future()
        protocol.answer = answer
        transport.write(message)
        return await answer

    try:
        yield call
    finally:
        transport.close()
        await asyncio.to_thread(child.wait)


class ThreadedWasmtime:
    """A module whose functions are called in threads, each of which has an instance of its own.

    (A store belongs to one thread at a time.)
    """

    def __init__(self, data: bytes) -> None:
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module(self._engine, data)
        self._thread = threading.local()

    def call(self, name: str, *arguments: int) -> object:
        """Call an exported function in the thread that this is."""
        try:
            instance = self._thread.instance
        except AttributeError:
            store = self._thread.store = wasmtime.Store(self._engine)
            instance = self._thread.instance = wasmtime.Instance(store, self._module, [])
        function = instance.exports(self._thread.store)[name]
        return function(self._thread.store, *arguments)


@contextmanager
def executor(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A `ProcessPoolExecutor` whose processes are new ones, not forks: this one has threads."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as processes:
        yield processes


def identity(number: int) -> int:
    """What an executor's processes do: nothing."""
    return number
