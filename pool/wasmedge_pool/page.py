"""What a worker notes where the parent can read it, also when the worker has been killed.

A page that both have mapped: words of 8 bytes in the machine's order, each written at once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from wasmedge_runtime.types import ValType

__all__ = [
    "BATCH",
    "FLOATS",
    "INDEX",
    "KINDS",
    "MAX_RESULTS",
    "NUMBERS",
    "RESULTS",
    "RUNNING",
    "SIZE",
    "BatchNotes",
    "read_batch",
]

# Words. The request that began last.
RUNNING: Final = 0
# The request that the notes below are about; written after they have been reset for it.
BATCH: Final = 1
# Which call of it is running; as many before it have ended.
INDEX: Final = 2

# From this byte: how many results a call has, and the code of each one's type.
KINDS: Final = 24
MAX_RESULTS: Final = 16
# The types that fit into a word, and those of them that are floats there.
FLOATS: Final = frozenset({ValType.F32, ValType.F64})
NUMBERS: Final = FLOATS | {ValType.I32, ValType.I64}

# From this byte: the results of the calls that have ended, a word each.
RESULTS: Final = 64
SIZE: Final = RESULTS + 8 * 4096
"""The size of all, in bytes."""


class BatchNotes(NamedTuple):
    """How far a batch had come: how many calls had ended, and their results."""

    done: int
    kinds: bytes
    data: bytes


def read_batch(page: bytes, number: int, count: int) -> BatchNotes | None:
    """Read a copy of the page; None when the batch of that number, of `count` calls, had not
    begun. A worker can have written anything: what comes out is in range, that is all."""
    words = memoryview(page)[: RESULTS // 8 * 8].cast("Q")
    if words[BATCH] != number:
        return None
    done = min(words[INDEX], count)
    kinds = page[KINDS + 1 : KINDS + 1 + min(page[KINDS], MAX_RESULTS)]
    data = page[RESULTS : RESULTS + 8 * done * len(kinds)]
    if len(data) < 8 * done * len(kinds):
        return BatchNotes(0, b"", b"")
    return BatchNotes(done, kinds, data)
