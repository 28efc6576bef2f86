"""Arguments, environment, the end of the program, random numbers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from ..errors import Terminate
from .abi import U32, Errno, WasiError
from .guest import window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .state import Wasi


def args_get(wasi: Wasi, memory: memoryview, pointers: int, texts: int) -> None:
    _put_texts(memory, wasi.args, pointers, texts)


def args_sizes_get(wasi: Wasi, memory: memoryview, count: int, size: int) -> None:
    _put_sizes(memory, wasi.args, count, size)


def environ_get(wasi: Wasi, memory: memoryview, pointers: int, texts: int) -> None:
    _put_texts(memory, wasi.environ, pointers, texts)


def environ_sizes_get(wasi: Wasi, memory: memoryview, count: int, size: int) -> None:
    _put_sizes(memory, wasi.environ, count, size)


def _put_texts(memory: memoryview, texts: Sequence[bytes], pointers: int, place: int) -> None:
    for text in texts:
        window(memory, place, len(text) + 1)[:] = text + b"\0"
        U32.pack_into(memory, pointers, place)
        pointers += 4
        place += len(text) + 1


def _put_sizes(memory: memoryview, texts: Sequence[bytes], count: int, size: int) -> None:
    U32.pack_into(memory, count, len(texts))
    U32.pack_into(memory, size, sum(len(text) + 1 for text in texts))


def proc_exit(wasi: Wasi, memory: memoryview, code: int) -> None:
    _exit(wasi, code)


def _exit(wasi: Wasi, code: int) -> NoReturn:
    wasi.exit_code = code
    wasi.exited = True
    raise Terminate


# As witx numbers signals: what is ignored by default, and what stops or continues a process.
_IGNORED = {0, 16, 22, 27}  # NONE, CHLD, URG, WINCH
_JOB_CONTROL = {17, 18, 19, 20, 21}  # CONT, STOP, TSTP, TTIN, TTOU
_LAST_SIGNAL, _CHLD = 30, 16


def proc_raise(wasi: Wasi, memory: memoryview, signal: int) -> None:
    """The default action of a signal, which a guest cannot change: nothing, or the end of the
    program with the exit code that shells show. The host's process gets no signal."""
    if signal > _LAST_SIGNAL:
        raise WasiError(Errno.INVAL)
    if signal in _JOB_CONTROL:
        raise WasiError(Errno.NOTSUP)
    if signal not in _IGNORED:
        _exit(wasi, 128 + signal + (signal >= _CHLD))  # Linux has one more in front of CHLD


def sched_yield(wasi: Wasi, memory: memoryview) -> None:
    os.sched_yield()


_RANDOM_PORTION = 1 << 16


def random_get(wasi: Wasi, memory: memoryview, pointer: int, length: int) -> None:
    target = window(memory, pointer, length)
    for start in range(0, length, _RANDOM_PORTION):
        portion = target[start : start + _RANDOM_PORTION]
        portion[:] = os.urandom(len(portion))
        wasi.check_interrupted()
