"""Which compiled code runs: what this user made for this machine, unaltered, or what is trusted."""

from __future__ import annotations

import itertools
import os
import random
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wat import wat
from wasmedge_runtime import (
    VM,
    CodeState,
    Compiler,
    CompilerOutputFormat,
    Configure,
    ErrCode,
    Loader,
    LoadError,
    ValidationError,
    Validator,
    cache,
    precompiled,
    signing,
)
from wasmedge_runtime.binary.customs import find_custom
from wasmedge_runtime.loader import SECTION
from wasmedge_runtime.module import AST
from wasmedge_runtime.native import elf
from wasmedge_runtime.native.code import CodeRegion
from wasmedge_runtime.precompiled import Precompiled

FORMATS = list(CompilerOutputFormat)
TEXT = """(module (func $fib (export "fib") (param i32) (result i32)
    (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return (i32.const 1))))
    (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
             (call $fib (i32.sub (local.get 0) (i32.const 2))))))"""

DAMAGED = "it is damaged or was altered"
FOREIGN = "this user did not make it"


def find(data: bytes) -> Precompiled | None:
    """The compiled code in a file."""
    return precompiled.find(data, find_custom(data, SECTION))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(place))
    return place


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows when code from a file is mapped."""
    seen: list[int] = []
    load = CodeRegion.load_image

    def note(self: CodeRegion, *args: object) -> object:
        seen.append(1)
        return load(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(CodeRegion, "load_image", note)
    return seen


def compiled(
    tmp_path: Path,
    output_format: CompilerOutputFormat = CompilerOutputFormat.WASM,
    generic: bool = False,
    text: str = TEXT,
) -> Path:
    module, output = tmp_path / "module.wasm", tmp_path / "compiled"
    module.write_bytes(wat(text))
    config = Configure()
    config.compiler_output_format = output_format
    config.compiler_generic_binary = generic
    Compiler(config).compile(module, output)
    return output


def trusting() -> Configure:
    config = Configure()
    config.trust_precompiled = True
    return config


def run(path: Path, config: Configure | None = None) -> CodeState:
    """Run the module, and tell whose code it was."""
    with VM(config) as vm:
        assert vm.run_wasm_file(path, "fib", 21) == [17711]
        status = vm.get_code_status()
        assert status is not None
        return status.state


def refused(path: Path, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """Check that the file runs without its code, and that the log says why, in one line."""
    caplog.clear()
    with caplog.at_level("WARNING", "wasmedge"):
        assert run(path) != CodeState.PRECOMPILED
    [message] = caplog.messages
    assert message.startswith(f"the compiled code in {path} is not used: {reason}")


@pytest.mark.parametrize("output_format", FORMATS)
def test_what_this_user_made_is_used(
    tmp_path: Path, output_format: CompilerOutputFormat, used: list[int]
) -> None:
    assert run(compiled(tmp_path, output_format)) == CodeState.PRECOMPILED
    assert used == [1]


def positions(path: Path, output_format: CompilerOutputFormat) -> Iterator[int]:
    """Bytes all over what belongs to the code: everything behind the module and the name of the
    section; of a library, what is executed, and what is behind the library."""
    data = path.read_bytes()
    found = find(data)
    assert found is not None
    assert found.head is not None
    if output_format == CompilerOutputFormat.WASM:
        start = data.index(SECTION) + len(SECTION)
        yield from range(start, len(data))
    else:
        for segment in found.head.image.segments:
            if segment.flags & 1:
                yield from range(segment.offset, segment.offset + segment.filled)
        yield from range(len(found.code), len(data))


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("config", [None, trusting()], ids=["", "trusted"])
def test_a_file_with_one_altered_byte_runs_without_its_code(
    tmp_path: Path,
    output_format: CompilerOutputFormat,
    config: Configure | None,
    used: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = compiled(tmp_path, output_format)
    data = path.read_bytes()
    places = list(positions(path, output_format))
    chosen = {places[0], places[-1], *random.Random(6).sample(places, 200)}
    for place in chosen:
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        caplog.clear()
        with caplog.at_level("WARNING", "wasmedge"):
            state = run(path, config)
        tag = data.rindex(signing.sign(find(data).digest))  # type: ignore[union-attr]
        if config is not None and tag <= place < tag + signing.TAG_BYTES:
            assert state == CodeState.PRECOMPILED  # the tag is what trusting does without
            used.clear()
            continue
        assert state != CodeState.PRECOMPILED, place
        assert len(caplog.messages) == 1, place
    assert used == []


def test_a_damaged_library_runs_right_or_is_refused(tmp_path: Path, used: list[int]) -> None:
    path = compiled(tmp_path, CompilerOutputFormat.NATIVE)
    data = path.read_bytes()
    found = find(data)
    assert found is not None
    module = data.index(found.module)
    for place in random.Random(6).sample(range(len(data)), 300):
        if module <= place < module + len(found.module):
            continue  # that is another module, and no business of the code's
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        try:
            ast = Loader().load_file(path)
        except LoadError as error:
            if error.code != ErrCode.MalformedMagic:
                raise
            continue
        assert ast.precompiled is None, place
        Validator().validate(ast)
    assert used == []


def test_a_file_that_is_cut_off_runs_without_its_code_or_is_refused(tmp_path: Path) -> None:
    path = compiled(tmp_path, CompilerOutputFormat.NATIVE)
    data = path.read_bytes()
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        try:
            assert Loader().load_file(path).precompiled is None
        except LoadError as error:
            if error.code not in (ErrCode.MalformedMagic, ErrCode.UnexpectedEnd):
                raise


def test_another_module_does_not_get_the_code(
    tmp_path: Path, used: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    path = compiled(tmp_path, text=TEXT.replace("i32.const 1)", "i32.const 7)"))
    found = find(path.read_bytes())
    assert found is not None
    plain = wat(TEXT)
    path.write_bytes(plain + path.read_bytes()[len(found.module) :])
    refused(path, DAMAGED, caplog)
    assert used == []


@pytest.mark.parametrize("output_format", FORMATS)
def test_what_another_user_made_is_used_only_if_it_is_trusted(
    tmp_path: Path,
    folder: Path,
    output_format: CompilerOutputFormat,
    used: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = compiled(tmp_path, output_format)
    (folder / "signing-key").unlink()
    refused(path, FOREIGN, caplog)
    (tmp_path / "other").mkdir()
    compiled(tmp_path / "other", output_format)  # with a new key
    refused(path, FOREIGN, caplog)
    assert used == []
    assert run(path, trusting()) == CodeState.PRECOMPILED


def test_without_a_cache_nothing_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", "")
    path = compiled(tmp_path)
    refused(path, FOREIGN, caplog)
    assert run(path, trusting()) == CodeState.PRECOMPILED


@pytest.mark.parametrize("config", [None, trusting()], ids=["", "trusted"])
def test_what_was_made_for_another_processor_is_not_used(
    tmp_path: Path,
    config: Configure | None,
    used: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = cache.machine()
    monkeypatch.setattr(cache, "machine", lambda: "another")
    path = compiled(tmp_path)
    monkeypatch.setattr(cache, "machine", lambda: machine)
    with caplog.at_level("WARNING", "wasmedge"):
        assert run(path, config) != CodeState.PRECOMPILED
    assert "it was made for another processor" in caplog.messages[0]
    assert used == []


def test_code_for_any_processor_is_used_on_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compiled(tmp_path, generic=True)
    monkeypatch.setattr(cache, "machine", lambda: "another")
    assert run(path) == CodeState.PRECOMPILED


@pytest.mark.parametrize("config", [None, trusting()], ids=["", "trusted"])
def test_what_another_version_made_is_not_used(
    tmp_path: Path,
    config: Configure | None,
    used: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = compiled(tmp_path)
    monkeypatch.setattr(cache, "engine_fingerprint", lambda: "another")
    with caplog.at_level("WARNING", "wasmedge"):
        assert run(path, config) != CodeState.PRECOMPILED
    assert "another version of wasmedge-async" in caplog.messages[0]
    assert used == []


def test_the_key_is_for_this_user_alone(tmp_path: Path, folder: Path) -> None:
    path = compiled(tmp_path)
    key = folder / "signing-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(key.read_bytes()) == 32
    assert [entry.name for entry in folder.glob(".signing*")] == []
    before = key.read_bytes()
    compiled(tmp_path)
    assert key.read_bytes() == before
    key.chmod(0o640)
    assert run(path) != CodeState.PRECOMPILED
    key.chmod(0o600)
    assert run(path) == CodeState.PRECOMPILED
    folder.chmod(0o777)
    assert run(path) != CodeState.PRECOMPILED
    folder.chmod(0o700)
    key.rename(folder / "elsewhere")
    key.symlink_to(folder / "elsewhere")
    assert run(path) != CodeState.PRECOMPILED


def test_processes_that_make_the_key_at_the_same_moment_agree(folder: Path) -> None:
    script = "from wasmedge_runtime import signing; print(signing.sign(bytes(32)).hex())"
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(4)
    ]
    tags = {process.communicate()[0] for process in processes}
    assert tags == {signing.sign(bytes(32)).hex().encode() + b"\n"}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_head_is_refused_or_sound(tmp_path: Path, data: st.DataObject) -> None:
    """What is said about code may have been made by anybody: it must not confuse the loader."""
    import msgpack

    path = compiled(tmp_path)
    ast, found = _found(path)
    head = msgpack.unpackb(msgpack.packb(found.head))
    at = data.draw(st.integers(0, len(head) - 1))
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=9)
    anything = st.recursive(scalars | st.text(max_size=5), st.lists, max_leaves=8)
    if isinstance(head[at], list) and head[at]:
        head[at][data.draw(st.integers(0, len(head[at]) - 1))] = data.draw(anything)
    else:
        head[at] = data.draw(anything)
    content = precompiled.write(ast, bytes(found.code), head)
    loaded = Loader(trusting()).load_content(
        precompiled.with_section(found.module, content), "the test"
    )
    Validator().validate(loaded)
    if loaded.precompiled is not None:
        instances = CodeRegion.get().load_image(
            loaded.precompiled.code,
            loaded.precompiled.head.image,  # type: ignore[union-attr]
        )
        assert len(instances.functions()) == 1


def _found(path: Path) -> tuple[AST, precompiled.Precompiled]:
    ast = Loader().load_file(path)
    assert ast.precompiled is not None
    return ast, ast.precompiled


def test_what_a_file_says_about_itself_stays_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = compiled(tmp_path)
    ast, found = _found(path)
    assert found.head is not None
    head = found.head._replace(version="1\n[2030-01-01] [error]  forged", engine="another")
    content = precompiled.write(ast, bytes(found.code), head)
    path.write_bytes(precompiled.with_section(found.module, content))
    refused(path, "it was made by another version of wasmedge-async", caplog)
    assert "forged" not in caplog.text


@pytest.mark.parametrize("config", [None, trusting()], ids=["", "trusted"])
def test_no_altered_byte_of_a_file_lets_its_code_run_with_another_module(
    tmp_path: Path, config: Configure | None
) -> None:
    """Anywhere: in the module, in headers of sections, in the code."""
    path = compiled(tmp_path)
    data = path.read_bytes()
    module, code = (bytes(part) for part in (_found(path)[1].module, _found(path)[1].code))
    for place in range(0, len(data), max(len(data) // 1500, 1)):
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        try:
            ast = Loader(config).load_buffer(bytes(altered))
        except (LoadError, ValidationError):
            continue
        if ast.precompiled is not None:
            assert (ast.data, bytes(ast.precompiled.code)) == (module, code)


def section(content: bytes) -> bytes:
    """A section as that with the code."""
    return precompiled.with_section(b"", content)


@pytest.mark.parametrize("output_format", FORMATS)
def test_data_behind_a_file_makes_its_code_unusable(
    tmp_path: Path,
    output_format: CompilerOutputFormat,
    used: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = compiled(tmp_path, output_format)
    with path.open("ab") as file:
        file.write(section(b"more"))
    refused(path, DAMAGED, caplog)
    assert used == []


def test_the_first_of_two_sections_with_code_counts(
    tmp_path: Path, used: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    path = compiled(tmp_path)
    data = path.read_bytes()
    module = _found(path)[1].module
    own = data[len(module) :]
    for sections in (own + own, section(b"") + own, own + section(b"")):
        path.write_bytes(module + sections)
        refused(path, DAMAGED, caplog)
    assert used == []
    path.write_bytes(module[:8] + own + module[8:])  # where it stands does not matter
    assert run(path) == CodeState.PRECOMPILED


def test_what_is_said_about_one_code_does_not_hold_for_another(
    tmp_path: Path, used: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Everything signed by this user, put together anew."""
    path = compiled(tmp_path)
    (tmp_path / "other").mkdir()
    other = compiled(tmp_path / "other", text=TEXT.replace("(i32.const 1)))", "(i32.const 3)))"))
    module = _found(path)[1].module
    mine, theirs = (
        (bytes(found.code), found._packed_head) for found in (_found(path)[1], _found(other)[1])
    )
    tails = [one.read_bytes()[-precompiled._TRAILER.size :] for one in (path, other)]
    for code, head, tail in itertools.product((mine[0], theirs[0]), (mine[1], theirs[1]), tails):
        path.write_bytes(precompiled.with_section(module, code + head + tail))
        if (code, head, tail) != (*mine, tails[0]):
            refused(path, DAMAGED, caplog)
    assert used == []


def test_what_strangers_say_about_code_is_not_unpacked(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compiled(tmp_path)
    (folder / "signing-key").unlink()
    unpacked: list[bytes] = []
    monkeypatch.setattr(precompiled, "_unpack", unpacked.append)
    assert Loader().load_file(path).precompiled is None
    altered = path.read_bytes()[:-1]
    path.write_bytes(altered + b"?")
    with pytest.raises(LoadError):
        Loader(trusting()).load_buffer(altered)
    assert Loader(trusting()).load_file(path).precompiled is None
    assert unpacked == []


def test_code_that_calls_other_functions_than_it_may_is_not_used(
    tmp_path: Path, used: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    path = compiled(tmp_path)
    ast, found = _found(path)
    assert found.head is not None
    image = found.head.image._replace(externals=[("system", 0)])
    content = precompiled.write(ast, bytes(found.code), found.head._replace(image=image))
    path.write_bytes(precompiled.with_section(found.module, content))
    refused(path, "code refers to 'system', which is not allowed", caplog)
    assert used == []


def library(names: bytes, headers: int, at: int | None = None) -> bytes:
    """A shared library in which each section has all of `names` as its name."""
    fields = list(elf.HEADER.unpack(bytes(elf.HEADER.size)))
    fields[0] = b"\x7fELF\2\1\1"
    fields[6] = elf.HEADER.size + len(names) if at is None else at
    fields[12] = headers
    one = elf.SECTION.pack(0, 3, 0, 0, elf.HEADER.size, len(names), 0, 0, 0, 0)
    return elf.HEADER.pack(*fields) + names + one * headers


def test_names_that_many_sections_share_are_not_copied_for_each() -> None:
    data = library(b"a" * 100_000 + b"\0", 5000)  # half a gigabyte of names
    tracemalloc.start()
    try:
        with pytest.raises(LoadError, match="magic header"):
            Loader().load_content(data, "the test")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("at", [2**64 - 1, 2**63 - 1, 2**62, 2**32])
def test_sections_beyond_a_library_are_refused(tmp_path: Path, at: int) -> None:
    path = tmp_path / "library.so"
    path.write_bytes(library(b"name\0", 2, at))
    with pytest.raises(LoadError, match="magic header"):
        Loader().load_file(path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_signs_nothing_and_the_log_says_so(
    tmp_path: Path, folder: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = compiled(tmp_path)
    key = folder / "signing-key"
    key.write_bytes(bytes(size))
    with caplog.at_level("WARNING", "wasmedge"):
        assert run(path) != CodeState.PRECOMPILED
    assert f"{key} is damaged" in caplog.messages[0]
    assert signing.sign(bytes(32)) == signing.UNSIGNED
    assert not signing.is_ours(bytes(32), signing.UNSIGNED)


def test_a_pipe_in_the_place_of_the_key_is_none(tmp_path: Path, folder: Path) -> None:
    path = compiled(tmp_path)
    (folder / "signing-key").unlink()
    os.mkfifo(folder / "signing-key", 0o600)
    assert run(path) != CodeState.PRECOMPILED
