"""Reading numbers, names and counts, with bounds: core specification 5.1.3, 5.2 and 5.5.2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wasmedge_runtime import limits
from wasmedge_runtime.errors import MESSAGES, ErrCode, LoadError


def load_error(code: ErrCode, offset: int, details: str = "") -> LoadError:
    """A LoadError in the test suite's words, followed by `details`."""
    return LoadError(code, f"{MESSAGES[code]}: {details}" if details else None, offset)


def unsigned(code: Sequence[int], pos: int, bits: int, base: int = 0) -> tuple[int, int]:
    """Decode the unsigned LEB128 number of `bits` bits at `code[pos]` (5.2.2).

    Args:
        base: where `code[0]` stands in the file, for error messages.

    Returns:
        The number and the position behind it.

    Raises:
        LoadError: IntegerTooLarge when unused bits of the last possible byte are set,
            IntegerTooLong when that byte announces another one.
        IndexError: `code` ends first.
    """
    value = shift = 0
    while True:
        byte = code[pos]
        left = bits - shift
        if left < 7:
            _check_last_byte(byte, (byte & 0x7F) >> left == 0, bits, base + pos)
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7


def signed(code: Sequence[int], pos: int, bits: int, base: int = 0) -> tuple[int, int]:
    """Decode the signed LEB128 number of `bits` bits at `code[pos]`; otherwise as `unsigned`."""
    value = shift = 0
    while True:
        byte = code[pos]
        left = bits - shift
        if left < 7:
            # What is left of the byte must repeat the sign.
            mask = (0x7F << (left - 1)) & 0x7F
            _check_last_byte(byte, byte & mask in (0, mask), bits, base + pos)
        pos += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value - (1 << shift) if byte & 0x40 else value), pos


def _check_last_byte(byte: int, fits: bool, bits: int, offset: int) -> None:
    # In this order, as the reference interpreter does.
    if not fits:
        raise load_error(ErrCode.IntegerTooLarge, offset, f"more than {bits} bits")
    if byte >= 0x80:
        raise load_error(ErrCode.IntegerTooLong, offset, f"more bytes than {bits} bits need")


class Reader:
    """A position in `data` that never passes `end`.

    Every method raises LoadError: UnexpectedEnd where the bytes end too early, and what it says.
    """

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data = data
        self.pos = start
        self.end = end

    def unexpected_end(self) -> LoadError:
        """The error for reading on at `end`."""
        message = f"{MESSAGES[ErrCode.UnexpectedEnd]} of section or function"
        return LoadError(ErrCode.UnexpectedEnd, message, self.end)

    def byte(self) -> int:
        """The next byte."""
        pos = self.pos
        if pos >= self.end:
            raise self.unexpected_end()
        self.pos = pos + 1
        return self.data[pos]

    def u32(self) -> int:
        """An unsigned 32-bit number (IntegerTooLarge, IntegerTooLong)."""
        pos = self.pos
        if pos < self.end and (byte := self.data[pos]) < 0x80:
            self.pos = pos + 1
            return byte
        return self._number(unsigned, 32)

    def u64(self) -> int:
        """An unsigned 64-bit number (IntegerTooLarge, IntegerTooLong)."""
        return self._number(unsigned, 64)

    def s32(self) -> int:
        """A signed 32-bit number (IntegerTooLarge, IntegerTooLong)."""
        return self._number(signed, 32)

    def s64(self) -> int:
        """A signed 64-bit number (IntegerTooLarge, IntegerTooLong)."""
        return self._number(signed, 64)

    def _number(self, decode: Callable[[bytes, int, int], tuple[int, int]], bits: int) -> int:
        try:
            value, pos = decode(self.data, self.pos, bits)
        except IndexError:
            raise self.unexpected_end() from None
        if pos > self.end:
            raise self.unexpected_end()
        self.pos = pos
        return value

    def skip(self, size: int) -> int:
        """Pass over `size` bytes and return where they start."""
        start = self.pos
        if size > self.end - start:
            raise self.unexpected_end()
        self.pos = start + size
        return start

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.skip(size)
        return self.data[start : self.pos]

    def name(self) -> str:
        """A name (5.2.4): NameSizeOutOfBounds, MalformedUTF8."""
        start = self.pos
        size = self.u32()
        if size > self.end - self.pos:
            raise load_error(ErrCode.NameSizeOutOfBounds, start, f"a name of {size} bytes")
        if size > limits.MAX_NAME_SIZE:
            cap = over("bytes of a name", size, limits.MAX_NAME_SIZE)
            raise load_error(ErrCode.NameSizeOutOfBounds, start, cap)
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise load_error(ErrCode.MalformedUTF8, self.pos - size + error.start) from None

    def count(self, what: str, limit: int) -> int:
        """The length of a vector (5.1.3).

        Refused before anything is allocated when there are fewer bytes left than items, or when
        they are more than `limit` (IllegalGrammar).
        """
        start = self.pos
        count = self.u32()
        if count > self.end - self.pos:
            raise self.unexpected_end()
        if count > limit:
            raise load_error(ErrCode.IllegalGrammar, start, over(what, count, limit))
        return count


def over(what: str, count: int, limit: int) -> str:
    """Say that a cap of `limits` is passed."""
    return f"{count} {what}, and the limit is {limit}"
