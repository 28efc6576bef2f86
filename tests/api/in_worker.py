"""Host functions that run in the worker."""

from __future__ import annotations

import os
from typing import Any

from wasmedge_runtime.errors import Terminate


def pid(data: Any, memory: Any, value: int) -> int:
    return os.getpid()


def first_byte_at(data: Any, memory: Any, offset: int) -> int:
    return int(memory.get_data(offset, 1)[0])


def fails(data: Any, memory: Any, value: int) -> int:
    raise LookupError("not here")


def terminates(data: Any, memory: Any, value: int) -> int:
    raise Terminate
