"""WASI in a worker: what its programs see of the world."""

from __future__ import annotations

from collections.abc import Iterable
from subprocess import PIPE
from typing import TYPE_CHECKING

from wasmedge_async._program import Environment, Preopens, arguments, environment, folders
from wasmedge_async._stdio import Stdio, Stream
from wasmedge_pool.messages import GetExitCode, InitWasi
from wasmedge_pool.request import Request

if TYPE_CHECKING:
    from wasmedge_pool.handles import Owner

__all__ = ["Wasi", "WasiImportObject"]


class WasiImportObject:
    """What the WASI programs of a VM or a pool see, for `register_import` or `imports=`.

    ::

        wasi = WasiImportObject(
            args=["program.wasm", "x"], envs={"LANG": "C"}, preopens=["/data:./data:readonly"]
        )

    Nothing is there that is not given: no arguments, no variables, no folders, no network. The
    standard streams are those of this process unless said otherwise. Each worker of a pool, and
    each of its calls, begins with what is described here; what a call opens or closes is not seen
    by the next one.

    Args:
        args: the program's arguments, with its name in front.
        envs: environment variables, as `"NAME=value"` or as a mapping.
        preopens: folders, as `"guest:host"` or `"guest:host:readonly"`, or as a mapping of guest
            to host. `"path"` alone is the same for both. Relative paths are those of this process
            now. Nothing outside them can be reached.
        stdin, stdout, stderr: None for that of this process, a path, a file object with a
            descriptor, a descriptor, `DEVNULL`, or for stdin bytes. To talk to a program while it
            runs, `spawn` it.
        allow_sockets: which addresses the program may connect to, send to and listen at, as
            `"ADDRESS:PORT"`.

    Raises:
        TypeError, ValueError: an argument is not what it must be.
    """

    def __init__(
        self,
        args: Iterable[str] = (),
        envs: Environment = (),
        preopens: Preopens = (),
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        *,
        allow_sockets: Iterable[str] = (),
    ) -> None:
        for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if isinstance(stream, int) and stream == PIPE:
                raise ValueError(f"{name}=PIPE is for `spawn`, which gives you its other end")
        self._given = (
            arguments(args),
            environment(envs),
            folders(preopens),
            arguments(allow_sockets),
        )
        self._streams = (stdin, stdout, stderr)

    async def registration(self, number: int) -> Request:
        """The request that registers this with the VM of this number, which has none yet."""
        return await self.request(number, register=True)

    async def request(self, number: int, *, register: bool) -> Request:
        """The request that gives all this to the VM of this number; with `register`, to one that
        has no WASI yet.

        Raises:
            OSError: a stream cannot be opened.
            TypeError, ValueError: a stream is none.
        """
        stdio = await Stdio.open(*self._streams)
        try:
            return Request(InitWasi(0, number, int(register), *self._given), descriptors=stdio)
        except BaseException:
            stdio.close()
            raise


class Wasi:
    """A VM's WASI, in its worker; from `VM.get_import_object`."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def init_wasi(
        self,
        args: Iterable[str] = (),
        envs: Environment = (),
        preopens: Preopens = (),
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        *,
        allow_sockets: Iterable[str] = (),
    ) -> None:
        """Start anew, with the arguments of `WasiImportObject`; for use between two runs.

        What the program has opened is closed, and the exit code is 0. When this raises, everything
        stays as it was.
        """
        wasi = WasiImportObject(
            args, envs, preopens, stdin, stdout, stderr, allow_sockets=allow_sockets
        )
        await self._owner.ask(await wasi.request(self._owner.number, register=False))

    async def get_exit_code(self) -> int:
        """What the program gave to `proc_exit`, 0 when it did not end that way; unsigned."""
        (code,) = await self._owner.ask(Request(GetExitCode(0, self._owner.number)))
        return int(code)
