"""Byte streams over real pipes, with real programs at the other end."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import anyio
import pytest
import uvloop
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import StapledByteStream
from anyio.streams.text import TextReceiveStream
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loops import Run
from wasmedge_async._streams import LineTooLong, ReceiveStream, SendStream


def receiving() -> tuple[ReceiveStream, int]:
    """A stream, and the descriptor to write what it receives."""
    reading, writing = os.pipe()
    return ReceiveStream(reading), writing


def sending() -> tuple[SendStream, int]:
    """A stream, and the descriptor to read what it sends."""
    reading, writing = os.pipe()
    return SendStream(writing), reading


def given_bytes(data: bytes) -> ReceiveStream:
    """A stream that has ended after these bytes (no more than a pipe holds)."""
    stream, writing = receiving()
    os.write(writing, data)
    os.close(writing)
    return stream


@contextmanager
def child(program: str) -> Iterator[ReceiveStream]:
    """A stream of what a program of Python writes."""
    stream, writing = receiving()
    process = subprocess.Popen([sys.executable, "-c", program], stdout=writing)
    os.close(writing)
    try:
        yield stream
    finally:
        stream.close()
        process.kill()
        process.wait()


ENDLESS = "import os\ndata = b'x' * 65536\nwhile True: os.write(1, data)"


# --- receive ------------------------------------------------------------------------------------


def test_receive_waits_for_bytes_and_ends_with_the_stream(run: Run[None]) -> None:
    async def main() -> None:
        stream, writing = receiving()
        asyncio.get_running_loop().call_later(0.01, os.write, writing, b"later")
        assert await stream.receive() == b"later"
        asyncio.get_running_loop().call_later(0.01, os.close, writing)
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()

    run(main())


def test_receive_gives_no_more_than_it_was_asked_for(run: Run[None]) -> None:
    async def main() -> None:
        stream = given_bytes(b"abcdef")
        assert await stream.receive(4) == b"abcd"
        assert await stream.receive(1 << 62) == b"ef"
        with pytest.raises(ValueError, match="1 or more, not 0"):
            await stream.receive(0)

    run(main())


def test_chunks_of_a_program_add_up_to_what_it_wrote(run: Run[None]) -> None:
    async def main() -> None:
        program = "import sys\nfor i in range(300_000): sys.stdout.write(f'{i}\\n')"
        with child(program) as stream:
            chunks = [chunk async for chunk in stream]
        assert b"".join(chunks) == b"".join(b"%d\n" % i for i in range(300_000))

    run(main())


def test_a_program_that_is_not_read_waits(run: Run[None]) -> None:
    async def main() -> None:
        stream, writing = receiving()
        os.write(writing, b"1")
        assert await stream.receive() == b"1"
        os.set_blocking(writing, False)
        held = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
        assert os.write(writing, bytes(held + 1)) == held
        for _ in range(100):  # turns of the loop, in which nothing is read
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            os.write(writing, b"x")
        os.close(writing)

    run(main())


def test_an_endless_program_leaves_the_loop_its_turns(run: Run[None]) -> None:
    async def main() -> None:
        turns = 0
        longest = 0.0

        async def count() -> None:
            nonlocal turns, longest
            while True:
                begun = time.perf_counter()
                await asyncio.sleep(0)
                longest = max(longest, time.perf_counter() - begun)
                turns += 1

        with child(ENDLESS) as stream:
            await stream.receive()
            counter = asyncio.create_task(count())
            received = 0
            for _ in range(500):
                received += len(await stream.receive(1 << 30))
            counter.cancel()
        assert turns >= 490
        assert longest < 1

    run(main())


def test_a_reader_without_bytes_does_not_keep_the_loop_busy(run: Run[None]) -> None:
    """Also when the other end has hung up in the meantime, and nobody reads."""

    async def main() -> None:
        stream, writing = receiving()
        reader = asyncio.create_task(stream.receive())
        await asyncio.sleep(0.01)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(0.2)
        os.write(writing, b"x")
        os.close(writing)
        assert await reader == b"x"
        await asyncio.sleep(0.2)
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert used < 0.2

    run(main())


def test_a_cancelled_receive_loses_nothing(run: Run[None]) -> None:
    async def main() -> None:
        with child("for i in range(20_000): print(i)") as stream:
            parts: list[bytes] = []
            while True:
                with anyio.move_on_after(0.0005):
                    try:
                        parts.append(await stream.receive(100))
                    except anyio.EndOfStream:
                        break
        assert b"".join(parts) == b"".join(b"%d\n" % i for i in range(20_000))

    run(main())


def test_a_cancelled_scope_cancels_receive_although_bytes_are_there(run: Run[None]) -> None:
    async def main() -> None:
        stream = given_bytes(b"there")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.receive()
        assert scope.cancelled_caught
        assert await stream.receive() == b"there"

    run(main())


def test_a_second_reader_is_refused(run: Run[None]) -> None:
    async def main() -> None:
        stream, writing = receiving()
        reader = asyncio.create_task(stream.receive())
        await asyncio.sleep(0)
        with pytest.raises(anyio.BusyResourceError, match="receiving from"):
            await stream.receive()
        with pytest.raises(anyio.BusyResourceError):
            await anext(stream.lines())
        os.write(writing, b"x")
        assert await reader == b"x"
        os.close(writing)
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()

    run(main())


def test_closing_wakes_a_reader(run: Run[None]) -> None:
    async def main() -> None:
        for read in (ReceiveStream.receive, lambda stream: anext(stream.lines())):
            stream, writing = receiving()
            os.write(writing, b"half a line")
            assert await stream.receive(4) == b"half"
            reader = asyncio.ensure_future(read(stream))
            if read is ReceiveStream.receive:
                assert await reader == b" a line"
                reader = asyncio.ensure_future(read(stream))
            await asyncio.sleep(0.01)
            await stream.aclose()
            await stream.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await reader
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()
            with pytest.raises(anyio.ClosedResourceError):
                await anext(stream.lines())
            with pytest.raises(BrokenPipeError):
                os.write(writing, b"x")
            os.close(writing)

    run(main())


def test_closing_wins_over_bytes_that_are_at_hand(run: Run[None]) -> None:
    async def main() -> None:
        stream = given_bytes(b"line\nrest")
        await anext(stream.lines())
        reader = asyncio.create_task(stream.receive())
        await asyncio.sleep(0)
        stream.close()
        with pytest.raises(anyio.ClosedResourceError):
            await reader

    run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("closed_first", [True, False])
def test_a_loop_may_be_closed_while_a_task_waits(
    new_loop: Callable[[], asyncio.AbstractEventLoop], closed_first: bool
) -> None:
    stream, writing = receiving()
    loop = new_loop()
    task = loop.create_task(stream.receive())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    if closed_first:
        stream.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    del task
    assert coroutine is not None
    coroutine.close()  # what collecting the task does
    assert stream._waiter is None
    stream.close()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


def test_descriptors_are_closed_at_the_end_or_with_the_stream(run: Run[None]) -> None:
    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        ended = given_bytes(b"")
        with pytest.raises(anyio.EndOfStream):
            await ended.receive()
        assert len(os.listdir("/proc/self/fd")) == before
        forgotten = given_bytes(b"x")
        del forgotten
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main())


def test_a_stream_outlives_the_loop_in_which_a_reader_waited(run: Run[None]) -> None:
    stream, writing = receiving()

    async def leave() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await stream.receive()

    with pytest.raises(RuntimeError, match="stopped before"):
        run(leave())
    os.write(writing, b"x")

    async def go_on() -> None:
        assert await stream.receive() == b"x"
        await stream.aclose()

    run(go_on())
    os.close(writing)


# --- With anyio ---------------------------------------------------------------------------------


def test_streams_compose_with_those_of_anyio(run: Run[None]) -> None:
    async def main() -> None:
        text = TextReceiveStream(given_bytes("äöü€".encode()))
        assert "".join([part async for part in text]) == "äöü€"

        buffered = BufferedByteReceiveStream(given_bytes(b"head;body"))
        assert await buffered.receive_until(b";", 100) == b"head"
        assert await buffered.receive_exactly(4) == b"body"

        reading, writing = os.pipe()
        both = StapledByteStream(SendStream(writing), ReceiveStream(reading))
        await both.send(b"echo")
        await both.send_eof()
        assert await both.receive() == b"echo"
        with pytest.raises(anyio.EndOfStream):
            await both.receive()
        await both.aclose()

    run(main())


def test_a_task_group_that_fails_stops_readers_and_senders(run: Run[None]) -> None:
    async def main() -> None:
        stream, writing = receiving()
        sender, reading = sending()

        async def fail() -> None:
            await anyio.sleep(0.01)
            raise KeyError("reason")

        async def all_of_them() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(stream.receive)
                group.start_soon(sender.send, bytes(10_000_000))
                group.start_soon(fail)

        with pytest.raises(ExceptionGroup) as caught:
            await all_of_them()
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        os.close(writing)
        os.close(reading)
        await sender.aclose()

    run(main())


# --- lines --------------------------------------------------------------------------------------


def test_lines_are_text_without_their_newline(run: Run[None]) -> None:
    async def main() -> None:
        stream = given_bytes("ä\n\nb\r\nlast".encode())
        assert [line async for line in stream.lines()] == ["ä", "", "b\r", "last"]
        stream = given_bytes(b"\xff\n")
        assert [line async for line in stream.lines(encoding=None)] == [b"\xff"]
        stream = given_bytes(b"\xe4\xff\n")
        assert [line async for line in stream.lines("latin-1")] == ["äÿ"]

    run(main())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([b"", b"\n", b"a", b"\xc3", b"\xa4", b"bc\nd", b"x" * 20])))
def test_any_split_into_writes_gives_the_same_lines(pieces: list[bytes]) -> None:
    async def main() -> None:
        data = b"".join(pieces)
        expected = data.split(b"\n")
        if not expected[-1]:
            expected.pop()
        stream, writing = receiving()
        lines = stream.lines(encoding=None)
        found: list[bytes] = []
        reader = asyncio.create_task(collect(lines, found))
        for piece in pieces:
            os.write(writing, piece)
            for _ in range(3):
                await asyncio.sleep(0)
        os.close(writing)
        await reader
        assert found == expected

    async def collect(lines: AsyncIterator[bytes], found: list[bytes]) -> None:
        async for line in lines:
            found.append(line)

    asyncio.run(main())


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200).map(lambda data: data.replace(b"\x01", b"\n")),
    st.lists(st.one_of(st.none(), st.integers(1, 10)), max_size=60),
)
def test_receive_and_lines_take_turns(data: bytes, steps: list[int | None]) -> None:
    """None takes a line, a number that many bytes; what is left comes last."""

    async def main() -> None:
        stream = given_bytes(data)
        rest = data
        for step in steps:
            if step is None:
                line, _, behind = rest.partition(b"\n")
                assert await anext(stream.lines(encoding=None), None) == (line if rest else None)
                rest = behind
            elif rest:
                part = await stream.receive(step)
                assert part
                assert rest.startswith(part)
                assert len(part) <= step
                rest = rest[len(part) :]
        assert b"".join([chunk async for chunk in stream]) == rest

    asyncio.run(main())


def test_leaving_the_loop_over_lines_loses_nothing(run: Run[None]) -> None:
    async def main() -> None:
        stream = given_bytes(b"1\n2\n3\n4\nrest")
        async for line in stream.lines():
            if line == "2":
                break
        assert await anext(stream.lines()) == "3"
        assert await stream.receive(3) == b"4\nr"
        assert [line async for line in stream.lines()] == ["est"]

    run(main())


def test_a_cancelled_wait_for_a_line_keeps_its_beginning(run: Run[None]) -> None:
    async def main() -> None:
        stream, writing = receiving()
        lines = stream.lines()
        os.write(writing, b"begin")
        with anyio.move_on_after(0.02) as scope:
            await anext(lines)
        assert scope.cancelled_caught
        os.write(writing, b"ning\n")
        os.close(writing)
        assert [line async for line in lines] == ["beginning"]

    run(main())


def test_a_long_line_is_no_trouble(run: Run[None]) -> None:
    async def main() -> None:
        program = (
            "import sys\nfor size in (10_000_000, 0, 3): print('x' * size)\nsys.stdout.write('end')"
        )
        with child(program) as stream:
            assert [len(line) async for line in stream.lines()] == [10_000_000, 0, 3, 3]

    run(main())


@pytest.mark.parametrize("data", [b"12345\nmore", b"12345"])
def test_a_line_of_exactly_the_limit_is_accepted(run: Run[None], data: bytes) -> None:
    async def main() -> None:
        assert await anext(given_bytes(data).lines(max_line=5)) == "12345"

    run(main())


def test_the_newline_of_a_line_of_exactly_the_limit_may_come_later(run: Run[None]) -> None:
    async def main() -> None:
        stream, writing = receiving()
        lines = stream.lines(max_line=5)
        os.write(writing, b"12345")
        with anyio.move_on_after(0.01):
            await anext(lines)
        os.write(writing, b"\nmore")
        os.close(writing)
        assert [line async for line in lines] == ["12345", "more"]

    run(main())


@pytest.mark.parametrize("data", [b"123456\nmore", b"123456"])
def test_a_longer_line_is_refused_and_stays(run: Run[None], data: bytes) -> None:
    async def main() -> None:
        stream = given_bytes(data)
        for _ in range(2):
            with pytest.raises(LineTooLong, match=r"longer than 5 bytes.*max_line") as caught:
                await anext(stream.lines(max_line=5))
            assert caught.value.max_line == 5
        assert isinstance(caught.value, anyio.DelimiterNotFound)
        assert await stream.receive(1) == b"1"
        assert await anext(stream.lines(max_line=5)) == "23456"

    run(main())


def test_an_endless_line_takes_bounded_memory(run: Run[None]) -> None:
    async def main() -> None:
        with child(ENDLESS) as stream:
            with pytest.raises(LineTooLong):
                await anext(stream.lines(max_line=1_000_000))
            assert len(stream._buffer) <= 1_000_000 + 65536
            assert await stream.receive() == b"x" * 65536

    run(main())


def test_many_lines_at_hand_leave_the_loop_its_turns(run: Run[None]) -> None:
    async def main() -> None:
        stream = given_bytes(b"\n" * 60_000)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counter = asyncio.create_task(count())
        assert len([line async for line in stream.lines()]) == 60_000
        counter.cancel()
        assert turns >= 900

    run(main())


def test_a_line_that_is_no_text_stays(run: Run[None]) -> None:
    async def main() -> None:
        stream = given_bytes(b"\xff\nnext\n")
        with pytest.raises(UnicodeDecodeError):
            await anext(stream.lines())
        lines = stream.lines(errors="replace")
        assert [line async for line in lines] == ["\ufffd", "next"]

    run(main())


def test_wrong_arguments_of_lines_are_refused_at_once() -> None:
    stream = given_bytes(b"")
    with pytest.raises(ValueError, match=r"utf-16.*TextReceiveStream"):
        stream.lines("utf-16")
    with pytest.raises(LookupError):
        stream.lines("no-such-encoding")
    with pytest.raises(LookupError):
        stream.lines(errors="no-such-handler")
    with pytest.raises(ValueError, match="1 or more, not 0"):
        stream.lines(max_line=0)


# --- send ---------------------------------------------------------------------------------------


def drain(reading: int, into: list[bytes]) -> threading.Thread:
    """Read a descriptor to its end in a thread."""

    def read() -> None:
        while data := os.read(reading, 65536):
            into.append(data)
        os.close(reading)

    thread = threading.Thread(target=read, daemon=True)  # a test that fails may leave it
    thread.start()
    return thread


def test_send_writes_all_of_more_than_a_pipe_holds(run: Run[None]) -> None:
    async def main() -> None:
        stream, reading = sending()
        data = os.urandom(5_000_000)
        received: list[bytes] = []
        thread = drain(reading, received)
        await stream.send(data)
        await stream.send(memoryview(bytearray(b"end")))  # type: ignore[arg-type]
        await stream.send(b"")
        assert stream.bytes_sent == 5_000_003
        await stream.aclose()
        await asyncio.to_thread(thread.join)
        assert b"".join(received) == data + b"end"

    run(main())


def test_send_waits_while_the_pipe_is_full(run: Run[None]) -> None:
    async def main() -> None:
        stream, reading = sending()
        sender = asyncio.create_task(stream.send(bytes(200_000)))
        await asyncio.sleep(0.05)
        assert not sender.done()
        taken = stream.bytes_sent
        assert 0 < taken < 200_000
        await asyncio.sleep(0.05)
        assert stream.bytes_sent == taken
        thread = drain(reading, [])
        await sender
        await stream.aclose()
        await asyncio.to_thread(thread.join)

    run(main())


def test_a_cancelled_send_tells_how_far_it_came(run: Run[None]) -> None:
    async def main() -> None:
        stream, reading = sending()
        data = os.urandom(200_000)
        with anyio.move_on_after(0.02) as scope:
            await stream.send(data)
        assert scope.cancelled_caught
        received: list[bytes] = []
        thread = drain(reading, received)
        await stream.send(data[stream.bytes_sent :])
        await stream.aclose()
        await asyncio.to_thread(thread.join)
        assert b"".join(received) == data

    run(main())


def test_nobody_reads_any_more(run: Run[None]) -> None:
    async def main() -> None:
        stream, reading = sending()
        os.close(reading)
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError) as caught:
                await stream.send(b"x")
            assert isinstance(caught.value.__cause__, BrokenPipeError)
        await stream.aclose()

        stream, reading = sending()
        sender = asyncio.create_task(stream.send(bytes(10_000_000)))
        await asyncio.sleep(0.01)
        os.close(reading)
        with pytest.raises(anyio.BrokenResourceError):
            await asyncio.wait_for(sender, 10)
        await stream.aclose()

    run(main())


def test_closing_wakes_a_sender_and_is_final(run: Run[None]) -> None:
    async def main() -> None:
        stream, reading = sending()
        sender = asyncio.create_task(stream.send(bytes(10_000_000)))
        await asyncio.sleep(0.01)
        with pytest.raises(anyio.BusyResourceError, match="sending to"):
            await stream.send(b"x")
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await sender
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
        os.close(reading)

    run(main())


def test_text_is_no_bytes(run: Run[None]) -> None:
    async def main() -> None:
        stream, reading = sending()
        with pytest.raises(TypeError, match="bytes-like"):
            await stream.send("text")  # type: ignore[arg-type]
        await stream.send(b"x")
        assert os.read(reading, 9) == b"x"
        os.close(reading)
        await stream.aclose()

    run(main())


def test_a_descriptor_number_may_be_used_again_while_its_reader_wakes(run: Run[None]) -> None:
    """A descriptor that is closed while a task waits, and whose number is used again at once."""

    async def main() -> None:
        first, writing = receiving()
        number = first._fd
        reader = asyncio.create_task(first.receive())
        await asyncio.sleep(0.01)
        first.close()
        os.close(writing)
        second, writing = receiving()
        assert second._fd == number
        other = asyncio.create_task(second.receive())
        with pytest.raises(anyio.ClosedResourceError):
            await reader
        await asyncio.sleep(0.01)
        os.write(writing, b"x")
        assert await asyncio.wait_for(other, 10) == b"x"
        os.close(writing)
        second.close()

    run(main())
