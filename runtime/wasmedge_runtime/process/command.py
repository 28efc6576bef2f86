"""One command of the host: started, fed, watched, and ended with everything that it has started."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..waiting import wait

__all__ = ["MOST_OUTPUT", "Outcome", "find", "run"]

MOST_OUTPUT = 64 << 20
"""Bytes of each output that are kept here until the guest asks for them."""

_PORTION = 1 << 16

# Is told a process group, and then "over". Without that the process that has started the command
# was killed, and could not end it.
_GUARD = 'read -r group && { read -r over || kill -KILL "-$group"; }'


class Outcome(NamedTuple):
    """How a command has ended.

    `exit_code` is its own, 128 plus the number of the signal that ended it, or a number of `errno`:
    ETIMEDOUT, or ENOBUFS when it has written too much.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


def find(name: bytes, folder: bytes) -> bytes | None:
    """The file that a command's name stands for; None when there is none.

    A name with a slash is a path, relative to `folder`. Another one is looked for in the folders of
    this process's PATH, except in relative ones: what is in the working directory is not a command.
    """
    if b"/" in name:
        return os.path.join(folder, name)
    for place in os.get_exec_path():
        if os.path.isabs(place):
            path = os.path.join(os.fsencode(place), name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    return None


def run(
    path: bytes,
    arguments: Sequence[bytes],
    variables: Mapping[bytes, bytes],
    folder: bytes,
    stdin: bytes,
    timeout_ms: int,
    stop: Callable[[], bool],
) -> Outcome | None:
    """Run a command, and end all that is left of its process group.

    Args:
        path: the file to execute.
        arguments: its arguments, with its name in front.
        variables: its environment.
        folder: its working directory.
        stdin: what it can read.
        timeout_ms: milliseconds after which it is killed.
        stop: whether to kill it and give up; asked when `waiting.wake` was called.

    Returns:
        How it has ended; None when `stop` has said so.

    Raises:
        OSError, ValueError: it cannot be started.
    """
    deadline = time.monotonic_ns() + timeout_ms * 1_000_000
    pipe = subprocess.PIPE
    with (
        _guard() as tell,
        subprocess.Popen(
            arguments,
            executable=path,
            env=variables,
            cwd=folder,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,  # its own process group; no terminal of ours
        ) as child,
    ):
        try:
            tell(b"%d\n" % child.pid)
            return _Exchange(child, stdin).run(deadline, stop)
        finally:
            _kill_group(child)
            # Before the child is waited for: until then its number means its group.
            with contextlib.suppress(BrokenPipeError):
                tell(b"over\n")


@contextlib.contextmanager
def _guard() -> Iterator[Callable[[bytes], object]]:
    """A process that ends a process group when this one ends, also by SIGKILL. Gives what tells it
    which one, and when that is over."""
    with subprocess.Popen(
        ["/bin/sh", "-c", _GUARD],
        env={},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
    ) as guard:
        assert guard.stdin is not None
        yield guard.stdin.write


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End what is left, while the number of the child, not waited for, still means its group."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


class _Exchange:
    """Input to a command and output from it, until it ends."""

    def __init__(self, child: subprocess.Popen[bytes], stdin: bytes) -> None:
        self._child = child
        self._input = memoryview(stdin)
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self._stdin = child.stdin
        self._outputs = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
        self._wanted = dict.fromkeys(self._outputs, select.POLLIN)
        for descriptor in (child.stdin.fileno(), *self._outputs):
            os.set_blocking(descriptor, False)
        if stdin:
            self._wanted[child.stdin.fileno()] = select.POLLOUT
        else:
            child.stdin.close()

    def run(self, deadline: int, stop: Callable[[], bool]) -> Outcome | None:
        """Exchange until the command ends, or has to be ended by who has called this."""
        ended = os.pidfd_open(self._child.pid)
        try:
            self._wanted[ended] = select.POLLIN
            while True:
                left = max(deadline - time.monotonic_ns(), 0)
                ready = wait(self._wanted, left, stop)
                if ready is None:
                    return None
                if not ready:
                    return self._outcome(errno.ETIMEDOUT)
                for descriptor, _ in ready:
                    if descriptor in self._outputs:
                        self._receive(descriptor)
                    elif descriptor != ended:
                        self._send(descriptor)
                if self._full:
                    return self._outcome(errno.ENOBUFS)
                if any(descriptor == ended for descriptor, _ in ready):
                    return self._finish()
        finally:
            os.close(ended)

    def _send(self, descriptor: int) -> None:
        try:
            sent = os.write(descriptor, self._input[:_PORTION])
        except BlockingIOError:
            return
        except BrokenPipeError:
            sent = len(self._input)  # it does not want the rest
        self._input = self._input[sent:]
        if not self._input:
            del self._wanted[descriptor]
            self._stdin.close()

    def _receive(self, descriptor: int) -> bool:
        """Take a portion; False when there is none."""
        try:
            data = os.read(descriptor, _PORTION)
        except BlockingIOError:
            return False
        if not data:
            self._wanted.pop(descriptor, None)
        self._outputs[descriptor] += data
        return bool(data)

    @property
    def _full(self) -> bool:
        return any(len(output) > MOST_OUTPUT for output in self._outputs.values())

    def _finish(self) -> Outcome:
        """Take what the command, which has ended, has left in the pipes."""
        _kill_group(self._child)  # what it has left behind may hold the pipes
        for descriptor in self._outputs:
            while not self._full and self._receive(descriptor):
                pass
        if self._full:
            return self._outcome(errno.ENOBUFS)
        code = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        assert code is not None  # without WNOHANG
        exited = code.si_code == os.CLD_EXITED
        return self._outcome(code.si_status if exited else 128 + code.si_status)

    def _outcome(self, exit_code: int) -> Outcome:
        stdout, stderr = (bytes(output[:MOST_OUTPUT]) for output in self._outputs.values())
        return Outcome(exit_code, stdout, stderr)
