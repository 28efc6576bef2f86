"""The WASI of a VM in a worker."""

from __future__ import annotations

from wasmedge_pool.handles import Owner
from wasmedge_pool.messages import GetExitCode
from wasmedge_pool.request import Request

__all__ = ["Wasi"]


class Wasi:
    """What a VM's WASI program sees of the world; from `VM.get_import_object`."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def get_exit_code(self) -> int:
        """What the program gave to `proc_exit`, 0 when it did not end that way; unsigned."""
        (code,) = await self._owner.ask(Request(GetExitCode(0, self._owner.number)))
        return int(code)
