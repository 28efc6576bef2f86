"""Fibonacci numbers from a pool of WebAssembly workers, all asked for at once.

Run it with `make run`, or with `python examples/fibonacci.py`.
"""

from __future__ import annotations

import asyncio

import leb128

from wasmedge_async import VMPool

# In the text format:
#
#     (func $fib (export "fib") (param i32) (result i32)
#       local.get 0  i32.const 2  i32.lt_u
#       if  i32.const 1  return  end
#       local.get 0  i32.const 1  i32.sub  call $fib
#       local.get 0  i32.const 2  i32.sub  call $fib
#       i32.add)
CODE = bytes.fromhex(
    "2000 4102 49 0440 4101 0f 0b"  # if n < 2, return 1
    "2000 4101 6b 1000"  # fib(n - 1)
    "2000 4102 6b 1000"  # fib(n - 2)
    "6a 0b"  # their sum
)
I32 = b"\x7f"
TYPE, FUNCTION, EXPORT, CODES = 1, 3, 7, 10  # sections


def number(value: int) -> bytes:
    """Encode a count, size or index."""
    return bytes(leb128.u.encode(value))


def vector(*items: bytes) -> bytes:
    """Encode items behind their count."""
    return number(len(items)) + b"".join(items)


def sized(content: bytes) -> bytes:
    """Encode bytes behind their size."""
    return number(len(content)) + content


def section(kind: int, *items: bytes) -> bytes:
    """Encode a section that is a vector, as most are."""
    return number(kind) + sized(vector(*items))


def module() -> bytes:
    """Assemble the module (binary format: chapter 5 of the specification)."""
    return b"".join(
        (
            b"\0asm\1\0\0\0",  # magic and version
            section(TYPE, b"\x60" + vector(I32) + vector(I32)),
            section(FUNCTION, number(0)),  # one function, of type 0
            section(EXPORT, sized(b"fib") + b"\0" + number(0)),  # "fib" is function 0
            section(CODES, sized(vector() + CODE)),  # without local variables
        )
    )


async def main() -> None:
    numbers = [0, 1, 5, 10, 15, 20, 21, 25, 30, 32]
    async with VMPool(module(), workers=2) as pool:
        results = await asyncio.gather(*[pool.execute("fib", n) for n in numbers])
    for n, [value] in zip(numbers, results, strict=True):
        print(f"fib({n}) = {value}")


if __name__ == "__main__":
    asyncio.run(main())
