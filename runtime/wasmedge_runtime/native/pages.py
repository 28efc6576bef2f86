"""Which parts of a memory are not zero, found without touching what nobody has touched."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from . import libc

Range: TypeAlias = "tuple[int, int]"
"""Where something begins and where it ends, from the beginning of the memory."""

_ENTRY_BYTES = 8
# The top byte of an entry of /proc/self/pagemap: in memory, or in the swap space.
_TOUCHED = bytes(bool(byte & 0xC0) for byte in range(256))
_RUN = re.compile(b"\1+")


def filled_ranges(base: int, size: int, mapped: Iterable[Range]) -> list[Range]:
    """The pages that are not zero, of the first `size` bytes at an address.

    Args:
        mapped: where a file is mapped, whose pages may be filled although nobody has touched them.
    """
    page, zeros = libc.PAGE_BYTES, bytes(libc.PAGE_BYTES)
    return merged(
        (at, at + page)
        for start, end in merged(sorted([*_touched(base, size), *mapped]))
        for at in range(start, end, page)
        if ctypes.string_at(base + at, page) != zeros
    )


def merged(ranges: Iterable[Range], gap: int = 0) -> list[Range]:
    """Ranges that come in ascending order, as one where no more than `gap` bytes are between."""
    found: list[Range] = []
    for start, end in ranges:
        if found and start - found[-1][1] <= gap:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def few_ranges(ranges: Sequence[Range], most: int, gap: int) -> list[Range]:
    """Ranges that cover others: `most` at most, with gaps of `gap` bytes or more between them."""
    found = merged(ranges, gap)
    while len(found) > most:
        gap *= 2
        found = merged(found, gap)
    return found


def _touched(base: int, size: int) -> list[Range]:
    """The pages that the system has given to this process; all, where it does not say."""
    page = libc.PAGE_BYTES
    count = size // page
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            pagemap.seek(base // page * _ENTRY_BYTES)
            entries = pagemap.read(count * _ENTRY_BYTES)
    except OSError:
        entries = b""
    if len(entries) != count * _ENTRY_BYTES:
        return [(0, size)] if size else []
    flags = entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES].translate(_TOUCHED)
    return [(run.start() * page, run.end() * page) for run in _RUN.finditer(flags)]
