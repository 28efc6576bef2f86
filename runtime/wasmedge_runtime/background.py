"""The lowest priority, for processes whose work nobody waits for."""

from __future__ import annotations

import contextlib
import os


def run_in_background() -> None:
    """Let this process have only the processor time that no other one wants, from now on."""
    os.nice(19)
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
