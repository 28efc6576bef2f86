"""The end of an object's use: `close()`, context managers, and the error for what comes after.

Python frees objects by itself; the reference has `Release()`, and a `with` block says where the use
of something ends.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from wasmedge_runtime.errors import closed_error

__all__ = ["Closable"]


class Closable:
    """Base of what can be closed. Every class of the engine's API is a context manager."""

    __slots__ = ()

    _closed: bool = False
    _borrowed: bool = False
    """It belongs to another object, whose business its end is."""

    def close(self) -> None:
        """End the use of this object: further use raises WasmEdgeError.

        What others got from it keeps working. Closing again does nothing, nor does closing what
        belongs to another object: a VM, a Store, an ImportObject or a module instance.
        """
        if not self._borrowed and not self._closed:
            self._closed = True  # type: ignore[misc]  # subclasses have a dict or this slot
            self._release()

    def lend(self) -> None:
        """Make it part of another object: `close` does nothing from now on."""
        self._borrowed = True  # type: ignore[misc]  # subclasses have a dict or this slot

    def _release(self) -> None:
        """Let go of what belongs to this object alone."""

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
