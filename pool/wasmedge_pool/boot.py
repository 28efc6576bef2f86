"""The first program of a worker: from the bare interpreter to the function that it is to run."""

from __future__ import annotations

import os
import sys

import wasmedge_pool
import wasmedge_runtime

__all__ = ["BOOT", "import_path"]

# Runs with -I: nothing of the environment, the working directory or the user's site-packages is
# imported unless the parent's own path has it. What goes wrong before there is a protocol is sent
# as text, because a worker has no standard error.
#
# The lifeline's other end is open as long as the parent lives. When it is closed, Linux sends
# SIGKILL: also to a worker that is stopped, or that holds the interpreter's lock in native code, so
# that its watchdog sees nothing. Elsewhere the watchdog is all there is.
BOOT = """\
import fcntl, json, os, socket, sys
start = json.loads(sys.argv[1])
control = socket.socket(fileno=start["control"])
try:
    if sys.platform == "linux":
        fcntl.fcntl(start["lifeline"], fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(start["lifeline"], fcntl.F_SETSIG, 9)
        fcntl.fcntl(start["lifeline"], fcntl.F_SETFL, os.O_ASYNC)
    os.set_inheritable(start["lifeline"], False)
    sys.path[:] = start["path"]
    module, function = start["target"].split(":")
    __import__(module)
    getattr(sys.modules[module], function)(start["data"], control, start["page"])
except Exception:
    import traceback
    control.send(bytes([start["fault"]]) + traceback.format_exc().encode()[-8000:])
    os._exit(1)
"""


def import_path() -> list[str]:
    """Return the parent's absolute import path, and where this package is at its end.

    Relative entries stand for the working directory, where anybody may have put a module with the
    name of one of ours.
    """
    path = [entry for entry in sys.path if os.path.isabs(entry)]
    for package in (wasmedge_pool, wasmedge_runtime):
        folder = os.path.dirname(os.path.abspath(package.__path__[0]))
        if folder not in path:
            path.append(folder)
    return path
