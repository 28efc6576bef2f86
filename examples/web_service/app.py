"""A web service that runs functions which somebody else wrote, and goes on whatever they do.

It needs Starlette and a server: `pip install starlette uvicorn`. Run it and ask:

    python examples/web_service/app.py
    curl 'http://127.0.0.1:8000/run/fib?arg=30'       200 {"result": ["1346269"]}
    curl 'http://127.0.0.1:8000/run/spin'             504: stopped after a second
    curl 'http://127.0.0.1:8000/run/divide?arg=1&arg=0'    422: integer divide by zero
    curl 'http://127.0.0.1:8000/stats'

The module is `guests/plugin.wasm`, or the one that the environment variable `PLUGIN` names. Each
call has a fresh instance, so requests see nothing of each other.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from wasmedge_async import (
    CallTimeout,
    CompilationMode,
    Configure,
    ErrCode,
    PoolFull,
    Trap,
    VMPool,
    WasmEdgeError,
    WorkerDied,
)

PLUGIN = Path(__file__).parent.with_name("guests") / "plugin.wasm"
SECONDS = 1.0  # that a call may run
QUEUE_SECONDS = 2.0  # that it may wait before


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Have the workers ready before the first request, and end them after the last."""
    config = Configure()
    config.compilation_mode = CompilationMode.OPTIMIZED
    config.max_memory_page = 256  # 16 MiB
    # max_rss: where the system lets go of memory late, a worker that grew is replaced.
    pool = VMPool(
        os.environ.get("PLUGIN", PLUGIN), workers=2, config=config, max_queue=20, max_rss=2**29
    )
    async with pool:
        app.state.pool = pool
        yield


async def run(request: Request) -> JSONResponse:
    """Call a function with the integers of the query: `/run/fib?arg=30`."""
    try:
        arguments = [int(text) for text in request.query_params.getlist("arg")]
        result = await request.app.state.pool.execute(
            request.path_params["function"],
            *arguments,
            timeout=SECONDS,
            queue_timeout=QUEUE_SECONDS,
        )
    except Exception as error:
        status = status_of(error)
        if status is None:
            raise  # a mistake of the service, not of the guest: 500, and a traceback in the log
        headers = {"Retry-After": "1"} if status == 503 else None
        return JSONResponse({"error": str(error)}, status, headers)
    # As text: JSON has no NaN, and not every client has integers of 64 bits.
    return JSONResponse({"result": [str(value) for value in result]})


def status_of(error: Exception) -> int | None:
    """The HTTP status that tells the client what went wrong."""
    match error:
        case PoolFull():
            return 503
        case CallTimeout():
            return 504
        case Trap():
            return 422
        case WorkerDied():
            return 502
        case WasmEdgeError(code=ErrCode.FuncNotFound):
            return 404
        case WasmEdgeError(code=ErrCode.FuncSigMismatch):
            return 400
        case ValueError() | OverflowError() | TypeError():
            return 400  # no integer, or none that the function takes
    return None


async def stats(request: Request) -> JSONResponse:
    """How the pool is doing."""
    now = request.app.state.pool.stats()
    return JSONResponse(
        {
            "completed": now.completed,
            "failed": now.failed,
            "timed_out": now.timed_out,
            "refused": now.refused,
            "running": now.running,
            "waiting": now.queued,
            "workers": [worker.pid for worker in now.workers],
            "seconds_to_wait_p99": now.queue_time.p99,
            "seconds_to_run_p99": now.run_time.p99,
        }
    )


app = Starlette(
    routes=[Route("/run/{function}", run), Route("/stats", stats)],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
