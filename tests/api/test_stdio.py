"""What a program's standard streams can be, seen by a real process."""

from __future__ import annotations

import asyncio
import fcntl
import io
import itertools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest
import uvloop

from tests.loops import Run
from wasmedge_async._stdio import Stdio

COPY = "import sys, shutil\nshutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
BOTH = "import os\nos.write(1, b'out\\n')\nos.write(2, b'err\\n')"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    uvloop.new_event_loop().close()  # the first one opens what the process keeps
    before = descriptors()
    yield
    assert descriptors() == before


async def start(program: str, **streams: Any) -> tuple[Stdio, subprocess.Popen[bytes]]:
    """A program of Python with these streams; `child` is closed here, as after sending it."""
    stdio = await Stdio.open(**streams)
    stdin, stdout, stderr = stdio.child
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=stdin, stdout=stdout, stderr=stderr
    )
    stdio.close_child()
    return stdio, process


async def finish(stdio: Stdio, process: subprocess.Popen[bytes]) -> None:
    stdio.close()
    assert await asyncio.to_thread(process.wait, 30) == 0


def test_pipes_are_the_default(run: Run[None]) -> None:
    async def main() -> None:
        stdio, process = await start(COPY + "\nsys.stderr.write('done')")
        assert stdio.stdin is not None
        assert stdio.stdout is not None
        assert stdio.stderr is not None
        await stdio.stdin.send(b"through")
        await stdio.stdin.aclose()
        assert b"".join([chunk async for chunk in stdio.stdout]) == b"through"
        assert b"".join([chunk async for chunk in stdio.stderr]) == b"done"
        await finish(stdio, process)

    run(main())


def test_the_programs_end_of_a_pipe_blocks_and_ours_does_not(run: Run[None]) -> None:
    async def main() -> None:
        stdio = await Stdio.open()
        assert all(os.get_blocking(fd) for fd in stdio.child)
        assert stdio.stdout is not None
        assert not os.get_blocking(stdio.stdout._fd)
        assert fcntl.fcntl(stdio.child[1], fcntl.F_GETPIPE_SZ) >= 65536
        stdio.close()

    run(main())


def test_no_descriptor_is_inherited_by_other_processes(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        for stdin in (PIPE, DEVNULL, None, b"content", __file__):
            for output, error in itertools.product(
                (PIPE, DEVNULL, None, tmp_path / "out"), (PIPE, STDOUT)
            ):
                stdio = await Stdio.open(stdin, output, error)
                ours = [s._fd for s in (stdio.stdin, stdio.stdout, stdio.stderr) if s is not None]
                assert len(stdio.child) == 3
                assert not any(os.get_inheritable(fd) for fd in stdio.child + ours)
                stdio.close()
                stdio.close()

    run(main())


def test_files_are_read_and_emptied(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "in").write_bytes(b"input")
        (tmp_path / "out").write_bytes(b"something longer than the input")
        stdio, process = await start(COPY, stdin=str(tmp_path / "in"), stdout=tmp_path / "out")
        assert stdio.stdin is None
        assert stdio.stdout is None
        await finish(stdio, process)
        assert (tmp_path / "out").read_bytes() == b"input"

    run(main())


def test_a_file_is_not_emptied_when_another_stream_is_wrong(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "out").write_bytes(b"kept")
        with pytest.raises(FileNotFoundError, match="absent"):
            await Stdio.open(stdout=tmp_path / "out", stderr=tmp_path / "absent" / "err")
        with pytest.raises(TypeError):
            await Stdio.open(stdout=tmp_path / "out", stderr=1.5)  # type: ignore[arg-type]
        assert (tmp_path / "out").read_bytes() == b"kept"
        with pytest.raises(FileNotFoundError, match="absent"):
            await Stdio.open(stdin=tmp_path / "absent")

    run(main())


def test_file_objects_are_used_by_their_descriptors(run: Run[None]) -> None:
    async def main() -> None:
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(b"from the file")
            source.flush()
            source.seek(0)
            target.write(b"before, ")  # in the object's buffer
            stdio, process = await start(COPY, stdin=source, stdout=target)
            await finish(stdio, process)
            target.seek(0)
            assert target.read() == b"before, from the file"

    run(main())


def test_descriptors_of_the_user_stay_open(run: Run[None]) -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            stdio, process = await start(BOTH, stdin=DEVNULL, stdout=right.fileno(), stderr=STDOUT)
            await finish(stdio, process)
            assert left.recv(100) == b"out\nerr\n"
            right.send(b"still open")
            assert left.recv(100) == b"still open"

    run(main())


def test_stderr_can_be_stdout(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        stdio, process = await start(BOTH, stderr=STDOUT)
        assert stdio.stderr is None
        assert stdio.stdout is not None
        assert [line async for line in stdio.stdout.lines()] == ["out", "err"]
        await finish(stdio, process)

        stdio, process = await start(BOTH, stdout=tmp_path / "log", stderr=STDOUT)
        await finish(stdio, process)
        assert (tmp_path / "log").read_bytes() == b"out\nerr\n"

    run(main())


def test_nothing_is_read_from_and_kept_by_devnull(run: Run[None]) -> None:
    async def main() -> None:
        stdio, process = await start(COPY + "\nprint(1)", stdin=DEVNULL, stdout=DEVNULL)
        await finish(stdio, process)

    run(main())


def test_none_is_the_stream_of_this_process() -> None:
    program = (
        "import asyncio, os\n"
        "from wasmedge_async._stdio import Stdio\n"
        "async def main():\n"
        "    stdio = await Stdio.open(None, None, None)\n"
        "    assert (stdio.stdin, stdio.stdout, stdio.stderr) == (None, None, None)\n"
        "    os.write(stdio.child[1], os.read(stdio.child[0], 100))\n"
        "    os.write(stdio.child[2], b'error')\n"
        "    stdio.close()\n"
        "    os.write(1, b'!')\n"
        "    os.close(0)\n"
        "    stdio = await Stdio.open(None, None, None)\n"
        "    assert os.read(stdio.child[0], 100) == b''\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"input", capture_output=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"input!", b"error", 0)


@pytest.mark.parametrize("size", [0, 10, 3_500_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_content_of_any_size_is_read_without_a_writer(run: Run[None], kind: Any, size: int) -> None:
    async def main() -> None:
        content = os.urandom(size)
        stdio, process = await start(COPY, stdin=kind(content))
        assert stdio.stdin is None
        assert stdio.stdout is not None
        assert b"".join([chunk async for chunk in stdio.stdout]) == content
        await finish(stdio, process)

    run(main())


def test_content_cannot_be_changed_by_who_reads_it(run: Run[None]) -> None:
    async def main() -> None:
        stdio = await Stdio.open(stdin=b"content")
        with pytest.raises(PermissionError):
            os.write(stdio.child[0], b"x")
        stdio.close()

    run(main())


def test_copying_content_leaves_the_loop_its_turns(run: Run[None]) -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counter = asyncio.create_task(count())
        stdio = await Stdio.open(stdin=bytes(20 << 20))
        assert turns >= 15
        stdio.close()
        opening = asyncio.create_task(Stdio.open(stdin=bytes(20 << 20)))
        await asyncio.sleep(0)
        opening.cancel()  # leaves nothing open
        with pytest.raises(asyncio.CancelledError):
            await opening
        counter.cancel()

    run(main())


class _Closed:
    def write(self, data: bytes) -> int:
        raise AssertionError

    def fileno(self) -> int:
        raise OSError("closed")


@pytest.mark.parametrize(
    ("streams", "kind", "text"),
    [
        ({"stdin": io.BytesIO()}, TypeError, "BytesIO has no descriptor.*pass its bytes"),
        ({"stdout": io.BytesIO()}, TypeError, "BytesIO has no descriptor.*read process.stdout"),
        ({"stderr": io.StringIO()}, TypeError, "StringIO has no descriptor.*process.stderr"),
        ({"stdout": _Closed()}, TypeError, "_Closed has no descriptor"),
        ({"stdout": b"out.txt"}, TypeError, "bytes can be read only.*read process.stdout"),
        ({"stdout": 1.5}, TypeError, "stdout is PIPE.*not float"),
        ({"stdin": 1.5}, TypeError, "stdin is PIPE.* or bytes, not float"),
        ({"stdin": STDOUT}, ValueError, "STDOUT is for stderr"),
        ({"stdout": STDOUT}, ValueError, "STDOUT is for stderr"),
        ({"stderr": -7}, ValueError, "stderr=-7 is no descriptor"),
        ({"stderr": 1_000_000}, OSError, "Bad file descriptor"),
    ],
)
def test_what_is_no_stream_is_refused_with_the_way_out(
    streams: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        asyncio.run(Stdio.open(**streams))


def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for streams in ({"stdin": tmp_path / "fifo"}, {"stdout": str(tmp_path / "fifo")}):
        with pytest.raises(ValueError, match=r"named pipe.*pass the descriptor"):
            asyncio.run(Stdio.open(**streams))
