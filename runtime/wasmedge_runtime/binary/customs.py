"""Custom sections, found without reading anything else of a module."""

from __future__ import annotations

_PREAMBLE = b"\0asm\1\0\0\0"


def find_custom(data: bytes, name: bytes) -> tuple[int, int, int] | None:
    """Where the first custom section of a name begins, where its content does, and where it ends;
    None when there is none, or the file is malformed before it.

    Args:
        data: a file, of any kind.
        name: at most 127 bytes.
    """
    if not data.startswith(_PREAMBLE):
        return None
    wanted = bytes([len(name)]) + name
    at = len(_PREAMBLE)
    while at < len(data):
        start, number = at, data[at]
        size = shift = 0
        while True:
            at += 1
            if at >= len(data) or shift > 28:
                return None
            size |= (data[at] & 0x7F) << shift
            shift += 7
            if data[at] < 0x80:
                break
        at += 1
        end = at + size
        if end > len(data):
            return None
        if number == 0 and data.startswith(wanted, at, end):
            return start, at + len(wanted), end
        at = end
    return None
