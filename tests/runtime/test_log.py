"""The logger `wasmedge` and the reference's debug output."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.runtime.engine import Engine
from wasmedge_runtime import Statistics, set_log_debug_level, set_log_error_level
from wasmedge_runtime.log import log_execution, logger

BLOCK = """
 ====================  Statistics  ====================
 Total execution time: 556372295 ns
 Wasm instructions execution time: 556372295 ns
 Host functions execution time: 0 ns
 Executed wasm instructions count: 28271634
 Gas costs: 0
 Instructions per second: 50814237"""


@pytest.fixture
def statistics() -> Statistics:
    """The figures that the reference prints."""
    statistics = Statistics()
    statistics._instr_count = 28271634
    statistics._wasm_ns = 556372295
    return statistics


@pytest.fixture(autouse=True)
def _restore_logger() -> Iterator[None]:
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def test_errors_only_is_the_default(caplog: pytest.LogCaptureFixture) -> None:
    assert logger.getEffectiveLevel() == logging.ERROR
    log_execution(None)
    assert caplog.messages == []


def test_debug_level_shows_success_and_the_statistics_block_of_the_reference(
    caplog: pytest.LogCaptureFixture, statistics: Statistics
) -> None:
    set_log_debug_level()
    log_execution(statistics)
    assert caplog.messages == ["Execution succeeded.", BLOCK]
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


def test_an_execution_without_statistics_logs_success_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_log_debug_level()
    log_execution(None)
    assert caplog.messages == ["Execution succeeded."]


def test_error_level_hides_debug_output_again(caplog: pytest.LogCaptureFixture) -> None:
    set_log_debug_level()
    set_log_error_level()
    log_execution(None)
    assert caplog.messages == []


def test_debug_level_leaves_logging_that_is_set_up_alone() -> None:
    before = logger.handlers[:]  # pytest has handlers at the root
    set_log_debug_level()
    assert logger.handlers == before


def test_debug_level_writes_to_stderr_where_no_logging_is_set_up() -> None:
    script = (
        "from wasmedge_runtime import Statistics, set_log_debug_level\n"
        "from wasmedge_runtime.log import log_execution\n"
        "set_log_debug_level(); set_log_debug_level()\n"
        "s = Statistics(); s._instr_count = 28271634; s._wasm_ns = 556372295\n"
        "log_execution(s)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    first, second, *rest = done.stderr.splitlines()
    stamp = "[2021-11-24 18:53:01.451]"
    assert first[len(stamp) :] == " [debug]  Execution succeeded."
    assert second[len(stamp) :] == " [debug]"
    assert rest == BLOCK.splitlines()[1:]
    assert done.stdout == ""


def test_debug_level_tells_how_long_each_stage_took(caplog: pytest.LogCaptureFixture) -> None:
    set_log_debug_level()
    engine = Engine()
    engine.instantiate(f'(module (func (export "f") (drop (i64.const {time.time_ns()}))))')
    engine.call("f")
    for stage in ("loaded", "validated 1 functions", "instantiated", "translated", "compiled"):
        assert any(stage in message and " ms" in message for message in caplog.messages), stage
