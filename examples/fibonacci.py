"""Fibonacci numbers from a pool of WebAssembly workers, all asked for at once.

Run it with `make run`, or with `python examples/fibonacci.py`.
"""

from __future__ import annotations

import asyncio

from wasmedge_async import VMPool

# A whole module, in the binary format. In the text format its function is
#
#     (func $fib (export "fib") (param i32) (result i32)
#       local.get 0  i32.const 2  i32.lt_u
#       if  i32.const 1  return  end
#       local.get 0  i32.const 1  i32.sub  call $fib
#       local.get 0  i32.const 2  i32.sub  call $fib
#       i32.add)
MODULE = bytes.fromhex(
    "0061736d 01000000"  # magic and version
    "01 06 01 60017f017f"  # type section: one type, (i32) -> (i32)
    "03 02 01 00"  # function section: one function, of type 0
    "07 07 01 03666962 00 00"  # export section: "fib" is function 0
    "0a 1e 01 1c 00"  # code section: one body of 28 bytes, without locals
    "2000 4102 49 0440 4101 0f 0b"  # if n < 2, return 1
    "2000 4101 6b 1000"  # fib(n - 1)
    "2000 4102 6b 1000"  # fib(n - 2)
    "6a 0b"  # their sum
)


async def main() -> None:
    numbers = [0, 1, 5, 10, 15, 20, 21, 25, 30, 32]
    async with VMPool(MODULE, workers=2) as pool:
        results = await asyncio.gather(*[pool.execute("fib", n) for n in numbers])
    for n, [value] in zip(numbers, results, strict=True):
        print(f"fib({n}) = {value}")


if __name__ == "__main__":
    asyncio.run(main())
