"""A program that answers each line of its input, talked to while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from wasmedge_async import VM

pytestmark = pytest.mark.asyncio


async def test_readfile_answers_each_line_before_it_gets_the_next(programs: Path) -> None:
    async with (
        VM() as vm,
        await vm.spawn(
            programs / "rust_readfile.wasm",
            args=["rust_readfile.wasm", "file.txt"],
            preopens={".": programs},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        lines = process.stdout.lines()
        assert [await anext(lines) for _ in range(3)] == [
            'Rust: Opening input file "file.txt"...',
            'Rust: Read input file "file.txt" succeeded.',
            "Rust: Please input the line number to print the line of file.",
        ]
        for question, answer in {
            "5": "abcDEF___!@#$%^",
            "-3": 'Rust: ERROR - Input "-3" is not an integer: invalid digit found in string',
            "15": 'Rust: ERROR - Line "15" is out of range.',
        }.items():
            await process.stdin.send(f"{question}\n".encode())
            assert await anext(lines) == answer
        await process.stdin.aclose()
        assert [line async for line in lines] == ["Rust: Process end."]
        assert await process.wait() == 0
