"""`wasi_snapshot_preview1` in Python, over the operating system.

::

    import_object.py   WasiImportObject: from arguments to a `Wasi` and a host module
    functions.py       the table of all functions: name, parameters, handler
    state.py           `Wasi`, the first argument of every handler
    process.py clocks.py files.py metadata.py directory.py paths.py poll.py sockets.py   handlers
    sandbox.py         paths that stay beneath a directory
    descriptors.py     what the guest's numbers stand for; streams.py: 0, 1 and 2
    abi.py             the specification's numbers and layouts; guest.py: its pointers, checked
    linux.py           system calls that Python does not have

A handler is called with the state, the guest's memory and the function's parameters, unsigned. It
returns when the function succeeded, and raises `WasiError` or what the system raises otherwise.
"""

from __future__ import annotations

from .import_object import MODULE_NAME, WasiImportObject
from .streams import DEVNULL

__all__ = ["DEVNULL", "MODULE_NAME", "WasiImportObject"]
