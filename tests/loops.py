"""Both event loops: a test that takes `run` is run on each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import pytest
import uvloop

T = TypeVar("T")

Run: TypeAlias = Callable[[Coroutine[Any, Any, T]], T]

_FACTORIES = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=sorted(_FACTORIES))
def run(request: pytest.FixtureRequest) -> Run[Any]:
    """Run a coroutine to its end in a new event loop."""

    def run_one(main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=_FACTORIES[request.param]) as runner:
            return runner.run(main)

    return run_one
