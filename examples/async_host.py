"""Guests that call a coroutine of this program, which waits for a web server meanwhile.

Run it with `python examples/async_host.py`; it brings its own server, on the loopback interface.
The guest is `guests/cart.wasm`, whose text is beside it: it adds up prices, and gets each of them
by calling `http.get`. While guests wait, the event loop does other things: here, the server's work.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextvars import ContextVar
from pathlib import Path

from wasmedge_async import AwaitedCallerMemory, CallTimeout, Fail, ImportObject, ValType, VMPool

CART = Path(__file__).with_name("guests") / "cart.wasm"

# Whom the running task works for. A host function runs in the task that awaits the call, so it
# sees what that task sees.
customer: ContextVar[str] = ContextVar("customer")


async def fetch(port: int, path: str) -> bytes:
    """GET from the shop. (In your program: httpx or aiohttp.)"""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nX-Customer: {customer.get()}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()  # also when the call is cancelled or its time is over


def http_for(port: int) -> ImportObject:
    """The host module `http`, as guests import it."""
    http = ImportObject("http")

    @http.function("get", params=[ValType.I32] * 4, results=[ValType.I32])
    async def get(
        data: None, memory: AwaitedCallerMemory, path: int, length: int, answer: int, room: int
    ) -> int:
        text = (await memory.get_data(path, length)).decode()
        # A guest may ask for anything: decide what it can have.
        if not re.fullmatch(r"/prices/[0-9]", text):
            raise Fail(f"no page of the shop: {text!r}")
        body = await fetch(port, text)
        await memory.set_data(body, answer, min(len(body), room))
        return min(len(body), room)

    return http


class Shop:
    """The web server: item n costs 10 * n + 5, and takes a moment; number 5 never answers."""

    def __init__(self) -> None:
        self.questions: Counter[str] = Counter()
        self.open = self.most_open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            self.questions[head.partition("X-Customer: ")[2].strip()] += 1
            item = int(head.split()[1].rpartition("/")[2])
            if item == 5:
                await reader.read()  # until the client hangs up
            else:
                await asyncio.sleep(0.2)
                writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + str(10 * item + 5).encode())
        finally:
            self.open -= 1
            writer.close()


async def total(pool: VMPool, name: str, items: int) -> None:
    customer.set(name)
    try:
        [price] = await pool.execute("total", items, timeout=2)
    except CallTimeout:
        print(f"{name}: no answer within 2 seconds")
    else:
        print(f"{name}: {items} items cost {price}")


async def main() -> None:
    shop = Shop()
    server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, VMPool(CART, workers=3, imports=[http_for(port)]) as pool:
        await asyncio.gather(total(pool, "Ada", 2), total(pool, "Bo", 4), total(pool, "Cy", 6))
    print(f"{shop.most_open} guests waited at once; questions: {dict(shop.questions)}")


if __name__ == "__main__":
    asyncio.run(main())
