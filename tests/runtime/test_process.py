"""wasmedge_process: what may run, how it is run, and that nothing of it is left."""

from __future__ import annotations

import errno
import gc
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.engine import PATIENCE, ROOT, Running, wait_until
from tests.wat import wat
from wasmedge_runtime import (
    VM,
    Configure,
    ErrCode,
    Executor,
    Function,
    HostFunctionError,
    HostRegistration,
    Loader,
    Memory,
    Store,
    Trap,
    Validator,
    WasmEdgeError,
    WasmEdgeProcessImportObject,
)
from wasmedge_runtime.process import command, functions
from wasmedge_runtime.process.functions import FUNCTIONS

FREE = 1024
NOT_RUN = -1


def module_text(memory: bool = True) -> str:
    """A module that hands every function on, so that a test calls them one by one."""
    parts = []
    for row in FUNCTIONS:
        name = f"wasmedge_process_{row.name}"
        signature = "(param" + " i32" * row.parameters + ")" + " (result i32)" * row.gives
        parts.append(f'(import "wasmedge_process" "{name}" (func ${name} {signature}))')
    if memory:
        parts.append('(memory (export "memory") 4)')
    for row in FUNCTIONS:
        name = f"wasmedge_process_{row.name}"
        signature = "(param" + " i32" * row.parameters + ")" + " (result i32)" * row.gives
        gets = " ".join(f"(local.get {i})" for i in range(row.parameters))
        parts.append(f'(func (export "{row.name}") {signature} (call ${name} {gets}))')
    return "\n".join(["(module", *parts, ")"])


class Guest:
    """A program under the test's control; arguments are those of the import object."""

    def __init__(self, *args: Any, memory: bool = True, **options: Any) -> None:
        self.process = WasmEdgeProcessImportObject(*args, **options)
        self.store, self.executor = Store(), Executor()
        self.executor.register_import(self.store, self.process)
        module = Loader().load_buffer(wat(module_text(memory)))
        Validator().validate(module)
        self.exports = self.executor.instantiate(self.store, module).exports

    def call(self, name: str, *args: int) -> Any:
        """Call a function; its result, None without one."""
        function = self.exports[name]
        assert isinstance(function, Function)
        results = function(*args)
        return results[0] if results else None

    @property
    def memory(self) -> Memory:
        memory = self.exports["memory"]
        assert isinstance(memory, Memory)
        return memory

    def put(self, *texts: str | bytes) -> list[int]:
        """Put texts into memory; pointer and length of each."""
        places = []
        at = FREE
        for text in texts:
            data = text.encode() if isinstance(text, str) else text
            self.memory.set_data(data, at)
            places += [at, len(data)]
            at += len(data)
        return places

    def say(
        self,
        name: str | bytes,
        *arguments: str | bytes,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        timeout: int | None = None,
    ) -> None:
        """Describe a command."""
        self.call("set_prog_name", *self.put(name))
        for argument in arguments:
            self.call("add_arg", *self.put(argument))
        for key, value in (env or {}).items():
            self.call("add_env", *self.put(key, value))
        for start in range(0, len(stdin), 100_000):
            self.call("add_stdin", *self.put(stdin[start : start + 100_000]))
        if timeout is not None:
            self.call("set_timeout", timeout)

    def run(self, name: str | bytes, *arguments: str | bytes, **options: Any) -> int:
        """Run a command; its exit code, signed."""
        self.say(name, *arguments, **options)
        code: int = self.call("run")
        assert self.call("get_exit_code") == code
        return code

    def output(self, name: str = "stdout") -> bytes:
        """What the last command wrote."""
        length = self.call(f"get_{name}_len")
        missing = FREE + length - self.memory.page_size * 65536
        if missing > 0:
            self.memory.grow_page(missing // 65536 + 1)
        self.call(f"get_{name}", FREE)
        return self.memory.get_data(FREE, length)

    @property
    def errors(self) -> str:
        return self.output("stderr").decode()


def script(path: Path, text: str) -> str:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def shell(text: str, **options: Any) -> tuple[Guest, int]:
    """A guest that has run a shell command."""
    guest = Guest(["sh"])
    return guest, guest.run("sh", "-c", text, **options)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def child_processes() -> set[str]:
    """Those of this process, zombies too; tests before this one may have left some."""
    return {
        child
        for thread in os.listdir("/proc/self/task")
        for child in Path(f"/proc/self/task/{thread}/children").read_text().split()
    }


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child process, no descriptor more than before."""
    gc.collect()
    children = child_processes()
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert child_processes() <= children
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the event of `waiting`


# --- What may run ---------------------------------------------------------------------------------


def test_nothing_is_allowed_until_it_is_allowed() -> None:
    guest = Guest()
    assert guest.run("echo", "text") == NOT_RUN
    assert guest.output() == b""
    assert guest.errors.startswith('Permission denied: command "echo"')
    assert "--allow-command=echo" in guest.errors
    assert "WasmEdgeProcessImportObject(allowed_commands=['echo'])" in guest.errors
    guest.process.init_wasmedge_process(["echo"])
    assert guest.run("echo", "text") == 0
    assert guest.output() == b"text\n"
    guest.process.init_wasmedge_process()
    assert guest.run("echo", "text") == NOT_RUN


def test_a_name_does_not_stand_for_a_path(tmp_path: Path) -> None:
    tool = script(tmp_path / "echo", "echo guest")
    guest = Guest(["echo"], folder=tmp_path)
    for name in (tool, "./echo", "/bin/echo", "echo ", "ECHO", "", b"echo\0", b"\xff"):
        assert guest.run(name) == NOT_RUN, name
        assert "Permission denied" in guest.errors


def test_a_path_does_not_stand_for_a_name(tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", "echo mine")
    guest = Guest([tool])
    assert guest.run("tool") == NOT_RUN
    assert guest.run(tool) == 0
    assert guest.output() == b"mine\n"


def test_a_relative_path_is_one_of_the_folder(tmp_path: Path) -> None:
    script(tmp_path / "tool", "pwd")
    guest = Guest(["./tool"], folder=tmp_path)
    assert guest.run("./tool") == 0
    assert guest.output().decode() == f"{tmp_path}\n"


def test_commands_start_in_the_folder_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    guest = Guest(["pwd"])
    monkeypatch.chdir("/")
    assert guest.run("pwd") == 0
    assert guest.output().decode() == f"{tmp_path}\n"


@pytest.mark.parametrize("entry", ["", ".", "relative"])
def test_the_path_is_not_looked_for_in_relative_folders(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "relative").mkdir()
    for folder in (tmp_path, tmp_path / "relative"):
        script(folder / "onlyhere", "echo mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", entry)
    guest = Guest(["onlyhere"])
    assert guest.run("onlyhere") == NOT_RUN
    assert guest.errors == 'Command not found: "onlyhere"\n'
    monkeypatch.setenv("PATH", f"{entry}:{tmp_path}")
    assert guest.run("onlyhere") == 0


def test_the_path_is_not_the_guests(tmp_path: Path) -> None:
    script(tmp_path / "echo", "/bin/echo guest")
    guest = Guest(["echo"])
    assert guest.run("echo", "host", env={"PATH": str(tmp_path)}) == 0
    assert guest.output() == b"host\n"


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_LIBRARY_PATH", "GCONV_PATH"])
def test_variables_of_the_loader_are_refused(variable: str) -> None:
    guest = Guest(["env"])
    assert guest.run("env", env={variable: "/tmp/code.so"}) == NOT_RUN
    assert guest.errors.startswith(f'Permission denied: the variable "{variable}"')
    assert guest.run("env", env={"A": "b"}) == 0


def test_all_can_be_allowed(tmp_path: Path) -> None:
    guest = Guest(allow_all=True)
    tool = script(tmp_path / "tool", "echo $GCONV_PATH")
    assert guest.run(tool, env={"GCONV_PATH": "x"}) == 0
    assert guest.output() == b"x\n"
    assert guest.run("") == NOT_RUN


def test_no_shell_reads_the_arguments() -> None:
    guest = Guest(["echo"])
    assert guest.run("echo", "$HOME; exit 3", "", "*", b"\xff") == 0
    assert guest.output() == b"$HOME; exit 3  * \xff\n"


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        (["ls"], {"allow_all": 1}, TypeError),
        (["ls"], {"allow_all": None}, TypeError),
        ("ls", {}, TypeError),
        ([b"ls"], {}, TypeError),
        ([""], {}, ValueError),
        (["l\0s"], {}, ValueError),
    ],
)
def test_what_is_allowed_must_be_names(args: Any, options: Any, error: type[Exception]) -> None:
    guest = Guest(["echo"])
    with pytest.raises(error):
        guest.process.init_wasmedge_process(args, **options)
    assert guest.run("echo") == 0  # as before


# --- How it is run --------------------------------------------------------------------------------


def test_the_environment_has_what_the_guest_adds_and_nothing_else() -> None:
    guest = Guest(["env"])
    assert guest.run("env", env={"A": "1", "B": "two = 2"}) == 0
    assert sorted(guest.output().splitlines()) == [b"A=1", b"B=two = 2"]
    assert guest.run("env") == 0
    assert guest.output() == b""


def test_a_variable_that_is_added_twice_has_its_last_value() -> None:
    guest = Guest(["env"])
    guest.call("add_env", *guest.put("A", "1"))
    assert guest.run("env", env={"A": "2"}) == 0
    assert guest.output() == b"A=2\n"


def test_streams_are_the_commands_own() -> None:
    guest, code = shell("cat; echo problem >&2; exit 7", stdin=b"in\0put")
    assert code == 7
    assert guest.output() == b"in\0put"
    assert guest.errors == "problem\n"


def test_without_input_there_is_none() -> None:
    assert shell("cat")[1] == 0


def test_megabytes_go_through_while_they_come_back() -> None:
    content = os.urandom(1 << 16) * 48
    guest = Guest(["cat"])
    assert guest.run("cat", stdin=content) == 0
    assert guest.output() == content


def test_a_command_may_leave_its_input() -> None:
    guest = Guest(["true"])
    assert guest.run("true", stdin=bytes(1 << 20)) == 0


def test_a_signal_is_128_and_its_number() -> None:
    assert shell("kill -TERM $$")[1] == 128 + signal.SIGTERM


def test_descriptors_of_this_process_are_not_the_commands(tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        guest = Guest(["ls"])
        assert guest.run("ls", "/proc/self/fd") == 0
        assert guest.output().split() == [b"0", b"1", b"2", b"3"]  # 3 is the folder that it lists


def test_what_was_said_holds_for_one_command() -> None:
    guest = Guest(["sh", "env", "cat"])
    assert guest.run("sh", "-c", "exit 3", env={"A": "1"}, stdin=b"x", timeout=60_000) == 3
    assert guest.call("run") == NOT_RUN  # no name
    assert guest.run("env") == 0
    assert guest.output() == b""
    assert guest.run("cat") == 0
    assert guest.output() == b""


def test_each_import_object_has_a_state_of_its_own() -> None:
    first, second = Guest(["echo"]), Guest(["echo"])
    first.say("echo", "first")
    second.say("echo", "second")
    assert (first.call("run"), first.output()) == (0, b"first\n")
    assert (second.call("run"), second.output()) == (0, b"second\n")


def test_a_restart_forgets_the_run_and_not_what_is_allowed() -> None:
    guest = Guest(["echo"])
    assert guest.run("echo", "text") == 0
    guest.say("echo", "left over")
    guest.process.restart()
    assert guest.output() == b""
    assert guest.call("get_exit_code") == NOT_RUN
    assert guest.call("run") == NOT_RUN
    assert guest.run("echo") == 0
    assert guest.output() == b"\n"


@pytest.mark.parametrize(
    ("name", "arguments", "env"),
    [
        ("/absent/command", (), {}),
        ("/etc/passwd", (), {}),
        ("/", (), {}),
        ("echo", (b"a\0b",), {}),
        ("echo", (), {"A=B": "c"}),
        ("echo", ("x" * 200_000,), {}),
    ],
)
def test_what_cannot_be_started_says_why(name: str, arguments: Any, env: Any) -> None:
    guest = Guest([name])
    assert guest.run(name, *arguments, env=env) == NOT_RUN
    assert guest.errors.startswith(f'Command "{name}" cannot be started: ')


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    guest = Guest(["echo"], folder=place)
    place.rmdir()
    assert guest.run("echo") == NOT_RUN
    assert str(place) in guest.errors


# --- Limits ---------------------------------------------------------------------------------------


def test_a_command_is_killed_when_its_time_is_over() -> None:
    guest = Guest(["sh"])
    started = time.monotonic()
    code = guest.run("sh", "-c", "echo begun; sleep 600 & echo $! >&2; wait", timeout=300)
    assert time.monotonic() - started < PATIENCE
    assert code == errno.ETIMEDOUT
    assert guest.output() == b"begun\n"
    wait_until(lambda: gone(int(guest.errors)))


def test_the_time_limit_is_ten_seconds_by_default() -> None:
    guest = Guest(["echo"])
    seen: list[int] = []

    def run(*args: Any) -> command.Outcome:
        seen.append(args[5])
        return command.Outcome(0, b"", b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functions, "run", run)
        guest.run("echo", timeout=0xFFFFFFFF)
        guest.run("echo")
    assert seen == [0xFFFFFFFF, 10_000]


def test_a_command_that_has_ended_leaves_nothing_behind() -> None:
    guest, code = shell("sleep 600 & echo $!")  # the sleeping one holds the outputs
    assert code == 0
    wait_until(lambda: gone(int(guest.output())))


def test_outputs_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MOST_OUTPUT", 100_000)
    guest = Guest(["head", "cat"])
    assert guest.run("head", "-c", "100000", "/dev/zero") == 0
    assert guest.output() == bytes(100_000)
    assert guest.run("cat", "/dev/zero", timeout=60_000) == errno.ENOBUFS
    assert guest.output() == bytes(100_000)
    assert guest.run("head", "-c", "100001", "/dev/zero") == errno.ENOBUFS


def test_what_a_guest_says_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MOST_INPUT", 1000)
    guest = Guest(["cat"])
    guest.process.restart()
    for _ in range(15):
        guest.call("add_arg", FREE, 0)  # an empty one takes room, too
    with pytest.raises(HostFunctionError, match="at most 1000 bytes"):
        guest.call("add_arg", FREE, 0)
    guest.process.restart()
    with pytest.raises(HostFunctionError, match="at most 1000 bytes"):
        guest.call("add_stdin", FREE, 1000)
    guest.process.restart()
    assert guest.run("cat", stdin=bytes(800)) == 0


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("set_prog_name", (4 * 65536 - 3, 4)),
        ("add_arg", (-1, 1)),
        ("add_arg", (0, -1)),
        ("add_env", (0, 1, 4 * 65536, 1)),
        ("add_env", (4 * 65536, 1, 0, 1)),
        ("add_stdin", (-1, -1)),
        ("get_stdout", (4 * 65536 - 4,)),
        ("get_stderr", (-4,)),
    ],
)
def test_pointers_outside_the_memory_end_the_call(name: str, args: tuple[int, ...]) -> None:
    guest, _ = shell("echo text; echo error >&2")
    with pytest.raises(HostFunctionError, match="out of bounds memory access") as caught:
        guest.call(name, *args)
    cause = caught.value.__cause__
    assert isinstance(cause, WasmEdgeError)
    assert cause.code is ErrCode.MemoryOutOfBounds


def test_a_module_without_memory_can_say_nothing() -> None:
    guest = Guest(["echo"], memory=False)
    with pytest.raises(HostFunctionError, match="has no memory"):
        guest.call("set_prog_name", 0, 0)
    assert guest.call("run") == NOT_RUN


# --- Interruption ---------------------------------------------------------------------------------


def test_an_interruption_ends_the_command_at_once(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    guest = Guest(["sh"])
    guest.say("sh", "-c", f"echo $$ > {noted}.new; mv {noted}.new {noted}; sleep 600", timeout=-1)
    running = Running(guest.call, "run")
    wait_until(noted.exists)
    assert guest.store.interrupt()
    assert running.trap().code is ErrCode.Interrupted
    wait_until(lambda: gone(int(noted.read_text())))
    assert guest.run("sh", "-c", "exit 5") == 5


def test_ctrl_c_ends_the_command(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    guest = Guest(["sh"])
    guest.say("sh", "-c", f"echo $$ > {noted}.new; mv {noted}.new {noted}; sleep 600", timeout=-1)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_until(noted.exists)
        signal.pthread_kill(main, signal.SIGINT)

    helper = Running(interrupt)
    with pytest.raises(KeyboardInterrupt):
        guest.call("run")
    helper.result()
    wait_until(lambda: gone(int(noted.read_text())))


def test_a_command_does_not_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    program = f"""
from tests.runtime.test_process import Guest
Guest(["sh"]).run("sh", "-c", "sleep 600 & echo $! > {noted}.new; mv {noted}.new {noted}; wait")
"""
    paths = [str(ROOT), str(ROOT / "runtime"), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as child:
        wait_until(noted.exists)
        child.kill()
    wait_until(lambda: gone(int(noted.read_text())))


# --- As part of a VM ------------------------------------------------------------------------------


def run_echo(vm: VM) -> tuple[Any, bytes]:
    """Have the VM's module run `echo text`."""
    memory = vm.store.find_memory("memory")
    assert memory is not None
    memory.set_data(b"echotext", FREE)
    vm.execute("set_prog_name", FREE, 4)
    vm.execute("add_arg", FREE + 4, 4)
    code = vm.execute("run")
    vm.execute("get_stdout", FREE)
    return code, memory.get_data(FREE, vm.execute("get_stdout_len")[0])


def load(vm: VM) -> None:
    vm.load_wasm_buffer(wat(module_text()))
    vm.validate()
    vm.instantiate()


def test_a_configuration_registers_it() -> None:
    with VM(Configure(HostRegistration.WASMEDGE_PROCESS)) as vm:
        process = vm.get_import_object(HostRegistration.WASMEDGE_PROCESS)
        assert isinstance(process, WasmEdgeProcessImportObject)
        assert vm.get_import_object(HostRegistration.WASI) is None
        assert vm.store.list_function_registered("wasmedge_process") == sorted(
            f"wasmedge_process_{row.name}" for row in FUNCTIONS
        )
        load(vm)
        assert run_echo(vm) == ([NOT_RUN], b"")
        process.init_wasmedge_process(["echo"])
        assert run_echo(vm) == ([0], b"text\n")
        vm.cleanup()
        assert vm.get_import_object(HostRegistration.WASMEDGE_PROCESS) is process


def test_it_stands_beside_wasi() -> None:
    with VM(Configure(HostRegistration.WASI, HostRegistration.WASMEDGE_PROCESS)) as vm:
        assert vm.store.list_module() == ["wasi_snapshot_preview1", "wasmedge_process"]
        program = '(module (memory (export "memory") 1) (func (export "_start")))'
        assert vm.run_wasm_buffer(wat(program), "_start") == []


def test_an_import_object_is_registered_like_any_other() -> None:
    with VM() as vm, WasmEdgeProcessImportObject(["echo"]) as process:
        assert vm.get_import_object(HostRegistration.WASMEDGE_PROCESS) is None
        vm.register_import(process)
        load(vm)
        assert run_echo(vm) == ([0], b"text\n")


def test_closed() -> None:
    process = WasmEdgeProcessImportObject()
    process.close()
    uses: list[Callable[[], object]] = [process.restart, process.init_wasmedge_process]
    for use in uses:
        with pytest.raises(WasmEdgeError, match="closed"):
            use()


def test_an_interruption_of_a_vm_is_a_trap() -> None:
    with VM(Configure(HostRegistration.WASMEDGE_PROCESS)) as vm:
        process = vm.get_import_object(HostRegistration.WASMEDGE_PROCESS)
        assert process is not None
        process.init_wasmedge_process(["sleep"])
        load(vm)
        memory = vm.store.find_memory("memory")
        assert memory is not None
        memory.set_data(b"sleep600", FREE)
        vm.execute("set_prog_name", FREE, 5)
        vm.execute("add_arg", FREE + 5, 3)
        running = Running(vm.execute, "run")
        wait_until(lambda: bool(vm.store.core.activation.call_id))
        time.sleep(0.05)
        vm.interrupt()
        with pytest.raises(Trap):
            running.result()
