"""How code stands, as it travels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wasmedge_pool.messages import ProtocolError
from wasmedge_runtime.tiers.status import CodeState, CodeStatus

__all__ = ["status_from_wire", "status_to_wire"]

_STATES = tuple(CodeState)


def status_to_wire(status: CodeStatus | None) -> tuple[int, ...]:
    """Turn a status into what travels: its fields, the state as its position; nothing for None."""
    return () if status is None else (_STATES.index(status.state), *map(int, status[1:]))


def status_from_wire(fields: Sequence[Any]) -> CodeStatus | None:
    """Turn what came from `status_to_wire` into a status.

    Raises:
        ProtocolError: it is none.
    """
    if not fields:
        return None
    if len(fields) != 5 or not all(type(field) is int and field >= 0 for field in fields):
        raise ProtocolError("the status of code with wrong fields")
    state, functions, baseline, optimized, from_cache = fields
    if state >= len(_STATES) or baseline + optimized > functions or from_cache > 1:
        raise ProtocolError("the status of code with impossible numbers")
    return CodeStatus(_STATES[state], functions, baseline, optimized, bool(from_cache))
