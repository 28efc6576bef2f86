"""What one program sees of the world: arguments, environment, descriptors; and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..waiting import wait
from . import abi
from .abi import Errno, FileType, WasiError
from .allow import AllowList
from .descriptors import Descriptor, DescriptorTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..core import StoreCore

__all__ = ["Wasi"]


class Wasi:
    """The state behind the functions of one import object; the first argument of each."""

    def __init__(self) -> None:
        self.core: StoreCore | None = None
        """The Store of the call that runs, which knows about interruptions."""
        self.start((), (), DescriptorTable(), AllowList(()))

    def start(
        self,
        args: Sequence[bytes],
        environ: Sequence[bytes],
        table: DescriptorTable,
        sockets: AllowList,
    ) -> None:
        """Begin anew; what was open is closed.

        Args:
            args: with the program's name in front.
            environ: `NAME=value`.
            table: with the standard streams and the preopened directories.
            sockets: which addresses the program may use.
        """
        self.args = args
        self.environ = environ
        self.table = table
        self.sockets = sockets
        self.exit_code = 0
        self.exited = False

    def restart(self) -> None:
        """Begin again with what `start` was given.

        Raises:
            WasmEdgeError: as `DescriptorTable.restart`.
        """
        self.table.restart()
        self.sockets.forget()
        self.exit_code = 0
        self.exited = False

    @property
    def interrupted(self) -> bool:
        """Whether the running call is to stop."""
        return self.core is not None and self.core.interrupted

    def check_interrupted(self) -> None:
        """End a function that takes long, when its call is to stop. The guest never sees INTR: the
        call ends when the function returns."""
        if self.interrupted:
            raise WasiError(Errno.INTR)

    def wait(
        self, wanted: Mapping[int, int], timeout_ns: int | None = None
    ) -> list[tuple[int, int]]:
        """Wait for descriptors of the system; [] when the time is over. An interruption raises."""
        ready = wait(wanted, timeout_ns, lambda: self.interrupted)
        if ready is None:
            raise WasiError(Errno.INTR)
        return ready

    def directory(self, number: int, right: int = 0) -> Descriptor:
        """The directory that a path is relative to.

        Raises:
            WasiError: BADF; NOTDIR; PERM when it does not have the right.
        """
        descriptor = self.table[number]
        if descriptor.filetype is not FileType.DIRECTORY:
            raise WasiError(Errno.NOTDIR)
        if descriptor.rights & right != right:
            raise WasiError(Errno.PERM)
        if descriptor.readonly and right & ~_LOOKING:
            raise WasiError(Errno.ROFS)
        return descriptor


_LOOKING = abi.PATH_OPEN | abi.PATH_READLINK | abi.PATH_FILESTAT_GET
"""The rights of paths that change nothing. A hard link to a file in a read-only directory counts as
a change: through a link elsewhere the file could be written."""
