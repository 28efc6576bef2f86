"""One child process: how it starts, what it inherits, how it dies, and that it cannot hurt."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.loops import Run
from tests.pool.fake_worker import FAKE
from wasmedge_pool import boot, mailbox, process
from wasmedge_pool.actor import VM_NAME, Actor
from wasmedge_pool.errors import CallTimeout, PoolClosed, VMLost, WorkerDied
from wasmedge_pool.messages import Call, GetFunctionList
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.request import Request
from wasmedge_pool.values import to_wire

ROOT = Path(__file__).resolve().parents[2]


def actor(target: str = FAKE) -> Actor:
    return Actor(None, partial(WorkerProcess, target))


async def call(vm: Actor, function: str, *args: object) -> list[Any]:
    return await vm.ask(Request(Call(0, VM_NAME, None, function, to_wire(args), None)))


def gone(pid: int) -> bool:
    """Whether the process has ended and has been waited for."""
    return not Path(f"/proc/{pid}").exists()


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_worker_is_reaped_when_it_is_closed(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        pid = vm.pid
        assert running(pid)
        await vm.close()
        assert gone(pid)

    run(main())


def test_a_worker_inherits_its_wires_and_dev_null_only(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        with (tmp_path / "open").open("w") as open_here:
            os.set_inheritable(open_here.fileno(), True)
            vm = actor()
            await call(vm, "echo")
            fds = Path(f"/proc/{vm.pid}/fd")
            targets = [os.readlink(fd) for fd in sorted(fds.iterdir(), key=lambda p: int(p.name))]
            await vm.close()
        assert targets[:3] == ["/dev/null"] * 3
        kinds = sorted(target.partition(":")[0] for target in targets[3:])
        # The two wires, the lifeline, the shared page, and the watchdog's own pipe.
        assert kinds == ["/memfd", "pipe", "pipe", "pipe", "socket", "socket"]

    run(main())


def test_a_worker_has_a_session_of_its_own(run: Run[None]) -> None:
    """So that the terminal's Ctrl-C reaches the parent only."""

    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        assert os.getsid(vm.pid) == vm.pid
        await vm.close()

    run(main())


def test_modules_of_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    for name in ("msgpack", "json", "wasmedge_runtime", "tests"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported from the cwd')")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, sys
            sys.path.append("")
            from tests.pool.test_process import actor, call
            async def main():
                vm = actor()
                print(await call(vm, "echo", 5))
                await vm.close()
            asyncio.run(main())
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.stdout == b"[5]\n", done.stderr


def test_relative_paths_are_left_out_and_our_own_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", ["", "relative", "/absolute"])
    path = boot.import_path()
    assert path[0] == "/absolute"
    assert all(os.path.isabs(entry) for entry in path)
    assert any(Path(entry, "wasmedge_pool").is_dir() for entry in path)
    assert any(Path(entry, "wasmedge_runtime").is_dir() for entry in path)


@pytest.mark.parametrize(
    ("function", "args", "exit_code", "signal_number"),
    [
        ("exit", (7,), 7, None),
        ("exit", (0,), 0, None),
        ("segfault", (), None, signal.SIGSEGV),
        ("raise_system_exit", (), 3, None),
    ],
)
def test_the_cause_of_death_is_in_the_error(
    run: Run[None],
    function: str,
    args: tuple[int, ...],
    exit_code: int | None,
    signal_number: int | None,
) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        pid = vm.pid
        with pytest.raises(WorkerDied) as caught:
            await call(vm, function, *args)
        assert caught.value.pid == pid
        assert caught.value.exit_code == exit_code
        assert caught.value.signal == signal_number
        assert gone(pid)
        with pytest.raises(VMLost, match=f"process {pid} has ended"):
            await call(vm, "echo")
        await vm.close()

    run(main())


def test_only_the_call_that_was_running_died(run: Run[None]) -> None:
    """The answers before it have left; those behind it never ran."""

    async def main() -> None:
        vm = actor()
        before = [asyncio.ensure_future(call(vm, "echo", n)) for n in range(100)]
        dying = asyncio.ensure_future(call(vm, "exit", 1))
        behind = [asyncio.ensure_future(call(vm, "echo", n)) for n in range(100)]
        results = await asyncio.gather(*before, dying, *behind, return_exceptions=True)
        assert results[:100] == [[n] for n in range(100)]
        assert isinstance(results[100], WorkerDied)
        assert {type(result) for result in results[101:]} == {VMLost}
        await vm.close()

    run(main())


def test_a_worker_that_cannot_start_says_why(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor("tests.pool.hostile_worker:fails_to_start")
        with pytest.raises(WorkerDied, match="RuntimeError: no engine here"):
            await call(vm, "echo")
        with pytest.raises(VMLost, match="could not be started"):
            await call(vm, "echo")
        await vm.close()

    run(main())


def test_a_worker_that_is_never_ready_is_given_up(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_READY_SECONDS", 0.3)

    async def main() -> None:
        vm = actor("tests.pool.hostile_worker:silent")
        with pytest.raises(WorkerDied, match="not ready after"):
            await call(vm, "echo")
        assert gone(vm.pid)
        await vm.close()

    run(main())


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("garbage", "something behind its end"),
        ("oversized", "the limit is"),
        ("a_map", "cannot be decoded"),
        ("nested", "values is wrong"),
        ("wrong_types", "values is wrong"),
        ("unknown_number", "an answer to request 77"),
        ("answered_twice", "an answer to request 1"),
        ("unknown_state", "a VM in the state 9"),
        ("no_error", "the unknown code 65535"),
        ("ready_again", "a Ready out of order"),
        ("unasked_items", "Items that nobody asked for"),
        ("progress_of_its_own", "a Progress out of order"),
        ("wants_out_of_a_pool", "a Wanted out of order"),
        ("other_logger", "the logger 'root'"),
        ("control_nonsense", "nonsense on the control socket"),
        ("unasked_skip", "which nobody asked for"),
        ("unasked_skip_in_order", "which nobody asked for"),
        ("endless_items", "more than 1000000 items"),
        ("other_version", "its first message is"),
    ],
)
def test_a_worker_that_lies_is_ended_and_harms_nobody(run: Run[None], lie: str, why: str) -> None:
    async def main() -> None:
        honest, liar = actor(), actor(f"tests.pool.hostile_worker:{lie}")
        request = Request(GetFunctionList(0, VM_NAME))
        request.items = []
        begun = liar.begin()
        with pytest.raises((WorkerDied, VMLost), match="broke the protocol") as caught:
            await liar.ask(request)
        await asyncio.wait([begun.future])
        cause = begun.future.exception() or caught.value
        assert why in f"{cause} {caught.value}"
        assert gone(liar.pid)
        assert await call(honest, "echo", 1) == [1]
        await honest.close()
        await liar.close()

    run(main())


def test_a_worker_cannot_cut_the_shared_page(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor("tests.pool.hostile_worker:shrinks_the_page")
        with pytest.raises((WorkerDied, VMLost), match="42"):
            await call(vm, "echo")
        await vm.close()

    run(main())


def test_garbage_from_the_parent_ends_the_worker(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        await call(vm, "echo")
        assert vm._mailbox is not None
        vm._mailbox._backend.send(b"\0\0\0\x01\xc1")
        with pytest.raises((WorkerDied, VMLost), match="ProtocolError"):
            await call(vm, "echo")
        await vm.close()

    run(main())


@pytest.mark.parametrize("function", ["echo", "spin"])
def test_a_worker_ends_with_its_parent(function: str) -> None:
    """Idle or in a guest's endless loop; the parent has no chance to say anything."""
    program = textwrap.dedent(
        f"""
        import asyncio
        from tests.pool.test_process import actor, call
        async def main():
            vm = actor()
            await call(vm, "echo")
            asyncio.ensure_future(call(vm, "{function}"))
            await asyncio.sleep(0.1)
            print(vm.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert running(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(pid)


def test_a_start_that_is_cancelled_leaves_no_process(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor("tests.pool.hostile_worker:silent")
        vm.begin()
        await asyncio.sleep(0.1)
        pid = vm.pid
        assert running(pid)
        await vm.close()
        assert gone(pid)

    run(main())


def test_a_worker_closed_before_its_process_exists_never_starts(run: Run[None]) -> None:
    async def main() -> None:
        vm = actor()
        first = vm.begin()
        await vm.close()
        assert vm.pid == 0
        assert isinstance(first.future.exception(), PoolClosed)

    run(main())


def test_descriptors_and_processes_do_not_leak(run: Run[None]) -> None:
    async def main() -> None:
        async def round_trip() -> None:
            vm = actor()
            await call(vm, "echo")
            await vm.close()

        await round_trip()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await round_trip()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main())


def test_a_frozen_worker_is_killed_after_the_grace_period(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even its watchdog runs: stopped by a signal, as when it is starved of the processor."""
    monkeypatch.setattr(mailbox, "GRACE_SECONDS", 0.2)

    async def main() -> None:
        for timeout in (None, 0.1):
            vm = actor()
            await call(vm, "echo")
            message = Call(0, VM_NAME, None, "stop", (), None)
            if timeout is None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await vm.ask(Request(message))
            else:
                with pytest.raises(CallTimeout):
                    await vm.ask(Request(message, None, timeout))
            assert gone(vm.pid)
            with pytest.raises(VMLost, match="did not stop"):
                await call(vm, "echo")
            await vm.close()

    run(main())
