"""The logger `wasmedge`."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasmedge_runtime.statistics import Statistics

__all__ = [
    "log_execution",
    "log_stage",
    "logger",
    "set_log_debug_level",
    "set_log_error_level",
    "statistics_block",
]

logger = logging.getLogger("wasmedge")
if logger.level == logging.NOTSET:  # somebody who set it before this import knows better
    logger.setLevel(logging.ERROR)


class _Formatter(logging.Formatter):
    """The reference's lines: `[2021-11-24 18:53:01.451] [debug]  Execution succeeded.`"""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        text = super().format(record)
        gap = "" if text.startswith("\n") else "  "  # a block starts on its own line
        return f"[{moment}.{int(record.msecs):03}] [{record.levelname.lower()}]{gap}{text}"


def set_log_error_level() -> None:
    """Log errors only, the default."""
    logger.setLevel(logging.ERROR)


def log_stage(what: str, started: float) -> None:
    """Tell how long a stage took that began at a time of `time.perf_counter`."""
    logger.debug("%s in %.1f ms", what, (time.perf_counter() - started) * 1e3)


def set_log_debug_level() -> None:
    """Log everything, and attach a handler for standard error if there is no handler at all."""
    logger.setLevel(logging.DEBUG)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)


def log_execution(statistics: Statistics | None) -> None:
    """Log at debug level that a call succeeded, and its statistics if there are any."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    logger.debug("Execution succeeded.")
    if statistics is not None:
        logger.debug("\n%s", statistics_block(statistics))


def statistics_block(statistics: Statistics) -> str:
    """The figures of statistics in the reference's form, several lines."""
    return (
        " ====================  Statistics  ====================\n"
        f" Total execution time: {statistics.total_time_ns} ns\n"
        f" Wasm instructions execution time: {statistics.wasm_time_ns} ns\n"
        f" Host functions execution time: {statistics.host_time_ns} ns\n"
        f" Executed wasm instructions count: {statistics.instr_count}\n"
        f" Gas costs: {statistics.total_cost}\n"
        f" Instructions per second: {int(statistics.instr_per_second)}"
    )
