"""Arguments of wasm-bindgen calls as they travel: numbers by their width, bytes by their length.

The bytes themselves go in front of the request, in chunks: they may be longer than a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wasmedge_pool.messages import MAX_ARRAY, ProtocolError
from wasmedge_runtime.bindgen import Argument
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.values import I32, I64

__all__ = ["arguments_from_wire", "arguments_to_wire"]

_I32, _I64, _BYTES = 0, 1, 2
_MASKS = {_I32: 0xFFFFFFFF, _I64: 0xFFFFFFFFFFFFFFFF}


def arguments_to_wire(
    arguments: Sequence[Argument],
) -> tuple[tuple[tuple[int, int], ...], bytes]:
    """Turn prepared arguments into pairs of kind and number, and the bytes among them.

    Raises:
        WasmEdgeError: there are more than any function has.
    """
    if len(arguments) > MAX_ARRAY:
        raise WasmEdgeError(
            ErrCode.FuncSigMismatch,
            f"function signature mismatch: {len(arguments)} arguments in a call",
        )
    pairs = []
    for argument in arguments:
        if isinstance(argument, bytes):
            pairs.append((_BYTES, len(argument)))
        else:
            kind = _I64 if isinstance(argument, I64) else _I32
            pairs.append((kind, int(argument) & _MASKS[kind]))
    return tuple(pairs), b"".join(one for one in arguments if isinstance(one, bytes))


def arguments_from_wire(
    pairs: Sequence[tuple[int, int]], take_content: Callable[[], bytes]
) -> list[Argument]:
    """Turn what `arguments_to_wire` gave into arguments.

    Args:
        pairs: what came in the message.
        take_content: gives what came before it. Not called when no bytes are among the arguments:
            nothing came then, and what is there was for a request that was cancelled.

    Raises:
        ProtocolError: the pairs do not fit the content.
    """
    content = take_content() if any(kind == _BYTES and number for kind, number in pairs) else b""
    arguments: list[Argument] = []
    at = 0
    for kind, number in pairs:
        if kind == _BYTES:
            arguments.append(content[at : at + number])
            at += number
        else:
            arguments.append(I64(number) if kind == _I64 else I32(number))
    if at != len(content):
        raise ProtocolError(f"{len(content)} bytes for arguments of {at}")
    return arguments
