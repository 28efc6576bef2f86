"""The web service answers every request, whatever the guest does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from examples.web_service import app as service_module
from tests.loops import Run, run

__all__ = ["run"]


OUTCOMES: dict[str, tuple[int, Any]] = {
    "/run/fib?arg=20": (200, {"result": ["10946"]}),
    "/run/divide?arg=-7&arg=2": (200, {"result": ["-3"]}),
    "/run/hoard": (200, {"result": ["256"]}),  # pages, its limit
    "/run/divide?arg=1&arg=0": (422, {"error": "integer divide by zero"}),
    "/run/fib?arg=4294967296": (400, None),
    "/run/fib?arg=three": (400, None),
    "/run/fib": (400, None),
    "/run/no_such_function": (404, None),
    "/run/spin": (504, {"error": "execution interrupted: timeout"}),
}


@asynccontextmanager
async def service() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, started and stopped as a server does it."""
    app = service_module.app
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client


def test_each_outcome_has_its_status(run: Run[None]) -> None:
    async def main() -> None:
        async with service() as client:
            for path, (status, answer) in OUTCOMES.items():
                response = await client.get(path)
                assert response.status_code == status, path
                assert answer is None or response.json() == answer, path

    run(main())


def test_a_request_sees_nothing_of_those_before(run: Run[None]) -> None:
    async def main() -> None:
        async with service() as client:
            for _ in range(4):
                response = await client.get("/run/count")
                assert response.json() == {"result": ["1"]}

    run(main())


def test_what_does_not_fit_into_the_queue_is_refused_and_the_rest_goes_on(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "SECONDS", 0.1)

    async def main() -> None:
        async with service() as client:
            spinning = [asyncio.create_task(client.get("/run/spin")) for _ in range(40)]
            statuses = {(await task).status_code for task in spinning}
            assert statuses == {503, 504}
            assert (await client.get("/run/fib?arg=10")).status_code == 200
            stats = (await client.get("/stats")).json()
            assert stats["refused"] > 0
            assert stats["timed_out"] > 0

    run(main())


def test_a_worker_that_is_killed_fails_one_request_and_is_replaced(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "SECONDS", 60.0)

    async def main() -> None:
        async with service() as client:
            spinning = asyncio.create_task(client.get("/run/spin"))
            while (stats := (await client.get("/stats")).json())["running"] == 0:
                await asyncio.sleep(0.01)
            for pid in stats["workers"]:
                os.kill(pid, signal.SIGKILL)
            assert (await spinning).status_code == 502
            assert (await client.get("/run/fib?arg=10")).status_code == 200

    run(main())
