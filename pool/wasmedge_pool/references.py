"""The parent's side of references: which of its objects a worker may hold, and for how long."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from wasmedge_pool.messages import FLOAT, FUNCTION, INTEGER, OBJECT, ProtocolError
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.values import ExternRef, FuncRef

__all__ = ["References"]

_unpack_float = struct.Struct(">d").unpack


class References:
    """What one worker has been given. An object stays until the worker says that nothing refers to
    it any more, or ends.

    The worker counts how often a reference has arrived, and says so when it drops it: one that is
    on its way meanwhile is not lost.
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[ExternRef, int]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def sent(self, references: Iterable[ExternRef]) -> None:
        """Note that references leave for the worker."""
        held = self._held
        for reference in references:
            number = reference._handle
            _, count = held.get(number, (reference, 0))
            held[number] = (reference, count + 1)

    def dropped(self, number: int, count: int) -> None:
        """Take notice that the worker has dropped an object that had arrived `count` times.

        Raises:
            ProtocolError: it never had it.
        """
        reference, sent = self._held.get(number, (None, 0))
        if reference is None or not 0 < count <= sent:
            raise ProtocolError(f"object {number} dropped {count} times, which it had {sent} times")
        if count == sent:
            del self._held[number]
        else:
            self._held[number] = (reference, sent - count)

    def clear(self) -> None:
        """Let go of everything: the worker has ended."""
        self._held.clear()

    def get(self, kind: int, number: int) -> Any:
        """What a pair from the worker stands for.

        Raises:
            ProtocolError: nothing that was ever sent.
            WasmEdgeError: an `ExternRef` that has been closed since.
        """
        if kind == FUNCTION and number < 1 << 32:
            return FuncRef(number)
        if kind == INTEGER and number < 1 << 64:
            return ExternRef(number - (number >> 63 << 64))
        if kind == FLOAT and number < 1 << 64:
            return ExternRef(_unpack_float(number.to_bytes(8, "big"))[0])
        reference, _ = self._held.get(number, (None, 0)) if kind == OBJECT else (None, 0)
        if reference is None:
            raise ProtocolError(f"a reference ({kind}, {number}) that it was never given")
        if reference._closed:
            raise WasmEdgeError(
                ErrCode.RefTypeMismatch,
                "reference type mismatch: the guest used an ExternRef that is no longer alive; "
                "keep the ExternRef open while the guest holds it",
            )
        return reference
