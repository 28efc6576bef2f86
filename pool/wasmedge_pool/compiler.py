"""The compile process's program: makes all code of a pool's module, so that the workers need not.

It alone writes the cache for a pool. It never instantiates the module and never runs guest code;
all that it hears of the workers is which functions they need first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING

from wasmedge_pool.code_status import status_to_wire
from wasmedge_pool.errors import error_to_wire
from wasmedge_pool.messages import (
    VERSION,
    Chunk,
    Compile,
    Failure,
    Hello,
    Log,
    Message,
    Progress,
    ProtocolError,
    Ready,
    Result,
    Want,
)
from wasmedge_pool.protocol import Decoder, encode
from wasmedge_pool.settings import config_from_wire
from wasmedge_runtime.background import run_in_background
from wasmedge_runtime.tiers.status import CodeStatus

if TYPE_CHECKING:
    from wasmedge_runtime.tiers.ahead import Ahead

__all__ = ["main"]

# How often progress is told at most.
_TELL_SECONDS = 0.1


def main(data: int, control: socket.socket, page: int | None) -> None:
    """Compile what the parent asks for; ends when the parent wants it to.

    Args:
        data: the descriptor of the data socket.
        control: the control socket.
        page: the descriptor of the shared page, which has no use here.
    """
    if page is not None:
        os.close(page)
    with contextlib.suppress(OSError):  # the wire broke in the middle: the parent has ended
        _Compiler(socket.socket(fileno=data), control).serve()
    # Helpers see by the end of their pipes that this process has ended.
    os._exit(0)


def _end_with_parent(control: socket.socket) -> None:
    """End this process when the control socket hangs up, or says that the work is for nobody."""
    control.recv(1)
    os._exit(0)


class _Compiler:
    """Answers requests until the data socket ends."""

    def __init__(self, wire: socket.socket, control: socket.socket) -> None:
        for descriptor in (wire, control):
            descriptor.set_inheritable(False)
        self._wire = wire
        self._sending = threading.Lock()
        self._decoder = Decoder(from_worker=False)
        threading.Thread(target=_end_with_parent, args=(control,), daemon=True).start()
        self._bulk: list[bytes] = []
        self._told_at = 0.0
        self._wants: queue.SimpleQueue[Want] = queue.SimpleQueue()

    def serve(self) -> None:
        """Take requests until the parent closes its side.

        Raises:
            ProtocolError: the parent sent something it must not.
            OSError: the wire broke.
        """
        while data := self._wire.recv(256 * 1024):
            for message in self._decoder.feed(data):
                self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, Chunk):
            self._bulk.append(message.data)
        elif isinstance(message, Hello):
            if message.version != VERSION:
                raise ProtocolError(f"this process speaks version {VERSION}, not {message.version}")
            logger = logging.getLogger("wasmedge")
            logger.setLevel(message.log_level)
            logger.propagate = False
            logger.addHandler(_Forward(self))
            self.send(Ready(VERSION, os.getpid()))
        elif isinstance(message, Compile):
            data = b"".join(self._bulk)
            self._bulk.clear()
            # This thread goes on reading. The other one has the room on its stack that LLVM needs.
            threading.Thread(target=self._compile, args=(message, data), daemon=True).start()
        elif isinstance(message, Want):
            self._wants.put(message)
        else:
            raise ProtocolError(f"a {type(message).__name__}, which has no handler")

    def _compile(self, request: Compile, data: bytes) -> None:
        try:
            if request.background:
                run_in_background()
            if request.folder is not None:
                os.environ["WASMEDGE_CACHE_DIR"] = os.fsdecode(request.folder)
            # Here: loading the engine is work for the background, too.
            from wasmedge_runtime.tiers.ahead import Ahead

            ahead = Ahead(data, config_from_wire(request.config))
            threading.Thread(target=self._want, args=(ahead,), daemon=True).start()
            status = ahead.make(
                background=bool(request.background),
                lasting=request.folder is None,
                progress=lambda status: self._tell(request.id, status),
            )
        except Exception as error:
            self.send(Failure(request.id, 0, 0, error_to_wire(error)))
        else:
            self.send(Progress(request.id, *status_to_wire(status)))
            self.send(Result(request.id, 0, 0, ()))

    def _want(self, ahead: Ahead) -> None:
        while True:
            wanted = self._wants.get()
            try:
                ahead.want(wanted.digest, wanted.functions)
            except Exception as error:  # each worker has the code that it needs itself
                logging.getLogger("wasmedge").warning("baseline code is not kept: %s", error)

    def _tell(self, number: int, status: CodeStatus) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            self.send(Progress(number, *status_to_wire(status)))

    def send(self, message: Message) -> None:
        """Send a message, from any thread."""
        with self._sending:
            self._wire.sendall(encode(message))


class _Forward(logging.Handler):
    """Sends the engine's log records to the parent."""

    def __init__(self, compiler: _Compiler) -> None:
        super().__init__()
        self._compiler = compiler

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)[:65536].encode("utf-8", "replace").decode()
        self._compiler.send(Log(record.name, record.levelno, text))
