"""The linker reads what lies in the cache: damage is an `ObjectError`, nothing else."""

from __future__ import annotations

import gc
import random
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.engine import Engine, output_of, whole
from wasmedge_runtime.codegen.context import Variant
from wasmedge_runtime.codegen.llvm import compile_object
from wasmedge_runtime.native import elf, support_ir
from wasmedge_runtime.native.code import CodeRegion

TEXT = """(module (memory 1) (type $t (func (param i32) (result f64))) (table 2 funcref)
  (elem (i32.const 0) $f $g) (global (mut f64) (f64.const 1.5))
  (func $f (export "f") (type $t) (f64.mul (f64.convert_i32_s (local.get 0)) (f64.const 3.25)))
  (func $g (export "g") (type $t) (block (block (block (block
      (br_table 0 1 2 3 (local.get 0))) (return (f64.const 1.1)))
      (return (f64.ceil (f64.const 2.2)))) (return (f64.const 3.3)))
    (f64.add (call_indirect (type $t) (local.get 0) (i32.const 0)) (global.get 0))))"""


@pytest.fixture(scope="module")
def good() -> bytes:
    ast = Engine().load(TEXT)
    return compile_object(whole(ast, Variant(True, True, True)), 2)


def attempt(data: bytes) -> bool:
    """Whether an object is accepted; every error but `ObjectError` is a failure of the test."""
    try:
        obj = elf.parse(data)
        for number, section in enumerate(obj.sections.values()):
            section.address = 0x10000000 + number * 0x100000
        obj.defined()
        obj.link({name: 0x11000000 for name in obj.undefined})
    except elf.ObjectError:
        return False
    return True


def test_what_llvm_emits_is_accepted(good: bytes) -> None:
    obj = elf.parse(good)
    assert any(section.is_guest for section in obj.sections.values())
    assert {"f0", "f1"} <= obj.defined().keys()
    assert attempt(good)


def test_every_truncation_is_refused(good: bytes) -> None:
    assert not any(attempt(good[:length]) for length in range(0, len(good), 7))


def test_flipped_bits_are_refused_or_harmless(good: bytes) -> None:
    chance = random.Random(1)
    outcomes = set()
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        outcomes.add(attempt(bytes(data)))
    assert outcomes == {True, False}


def test_damaged_tables_are_refused_or_harmless(good: bytes) -> None:
    """Extreme numbers in headers, symbols and relocations, where damage matters."""
    chance = random.Random(2)
    (table,) = struct.unpack_from("<Q", good, 40)
    (count,) = struct.unpack_from("<H", good, 60)
    places = [*range(64), *range(table, table + 64 * count)]
    for index in range(count):
        kind, _, _, offset, size = struct.unpack_from("<IQQQQ", good, table + 64 * index + 4)
        if kind in (2, 4):
            places += range(offset, offset + size)
    extremes = [b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f", b"\0" * 7 + b"\x80", b"\xf0" * 4]
    for _ in range(3000):
        data = bytearray(good)
        at = chance.choice(places)
        extreme = chance.choice(extremes)[: chance.choice((1, 2, 4, 8))]
        data[at : at + len(extreme)] = extreme
        attempt(bytes(data[: len(good)]))


def test_bytes_at_random_are_refused() -> None:
    chance = random.Random(3)
    for _ in range(300):
        data = chance.randbytes(chance.randrange(400))
        assert not attempt(data)
        assert not attempt(b"\x7fELF\x02\x01\x01" + data)


def test_code_that_calls_outside_is_refused() -> None:
    data = compile_object(
        "declare void @system()\ndefine void @f() nounwind { call void @system() ret void }", 2
    )
    with pytest.raises(elf.ObjectError, match="code refers to 'system', which is not allowed"):
        CodeRegion.get().load(data)


def test_code_with_writable_data_is_refused() -> None:
    data = compile_object("@g = global i32 5\ndefine ptr @f() { ret ptr @g }", 2)
    with pytest.raises(elf.ObjectError, match="writable data"):
        CodeRegion.get().load(data)


def test_an_object_that_does_not_link_gives_its_place_back() -> None:
    data = compile_object(
        "declare float @floorf(float)\n"
        'define float @f(float %x) section ".guest" '
        "{ %r = call float @floorf(float %x) ret float %r }",
        2,
    )
    obj = elf.parse(data)
    assert obj.relocations
    region = CodeRegion.get()
    # A relocation type that the linker does not know.
    broken = bytearray(data)
    for index, (_, kind, _, _, offset, *_) in enumerate(_sections(data)):
        if kind == 4 and index:
            struct.pack_into("<I", broken, offset + 8, 99)
    free = list(region.guest._free)
    for _ in range(3):
        with pytest.raises(elf.ObjectError, match="unsupported"):
            region.load(bytes(broken))
    assert region.guest._free == free


def _sections(data: bytes) -> list[tuple[int, ...]]:
    (table,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    return [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * i) for i in range(count)]


def mappings() -> list[tuple[int, int, str]]:
    """Start, end and rights of all of this process's memory."""
    with open("/proc/self/maps") as file:
        fields = [line.split() for line in file]
    return [(*(int(end, 16) for end in f[0].split("-")), f[1]) for f in fields]  # type: ignore[misc]


def test_code_pages_are_never_writable_and_executable(good: bytes) -> None:
    region = CodeRegion.get()
    loaded = region.load(good)
    address = loaded.address("f0")
    ours = [
        (start, end, rights)
        for start, end, rights in mappings()
        if start < region.support.end and end > region.guest.start
    ]
    assert [rights for start, end, rights in ours if start <= address < end] == ["r-xp"]
    assert not any("w" in rights and "x" in rights for _, _, rights in ours)


def test_a_freed_object_leaves_no_accessible_code() -> None:
    engine = Engine()
    instance = engine.instantiate(
        '(module (func (export "only in this test") (result i64) (i64.const 8127364)))'
    )
    engine.call("only in this test")
    address = instance.loaded._table[0]
    assert [r for start, end, r in mappings() if start <= address < end] == ["r-xp"]
    del instance
    engine.instantiate("(module)")
    gc.collect()
    assert [r for start, end, r in mappings() if start <= address < end] == ["---p"]


ARM = """
import platform

platform.machine = lambda: "aarch64"  # before anything chooses its lowering
import llvmlite.binding as llvm
from tests.runtime.test_elf import TEXT, attempt
from tests.wat import wat
from wasmedge_runtime import Loader, Validator
from tests.runtime.engine import whole
from wasmedge_runtime.codegen.context import Variant
from wasmedge_runtime.native import elf
from wasmedge_runtime.native.support_ir import support_module

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
machine = target.create_target_machine(opt=2, reloc="pic", codemodel="small")


def accepted(text):
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    data = machine.emit_object(module)
    return elf.parse(data).machine, attempt(data)


def helper_table(text):
    return text[text.index("@helpers =") :]


ast = Loader().load_buffer(wat(TEXT))
Validator().validate(ast)
support = support_module()  # but for the part in assembly, for which llvmlite has no parser here
print(accepted(support[: support.index("define void @provide_code")] + helper_table(support)))
for guarded in (True, False):
    print(accepted(whole(ast, Variant(guarded, True, True))))
"""


def test_what_llvm_emits_for_aarch64_is_accepted() -> None:
    assert output_of(ARM).splitlines() == ["(183, True)"] * 3


def test_the_assembly_for_aarch64_is_accepted(tmp_path: Path) -> None:
    text = (Path(support_ir.__file__).parent / "ir" / "provide.aarch64.ll").read_text()
    found = re.search(r'asm sideeffect "(.*?)", "i"', text, re.DOTALL)
    assert found is not None
    source = tmp_path / "provide.s"
    source.write_text(found[1].replace("$0", "provide") + "\n")
    command = [sys.executable, "-m", "ziglang", "cc", "--target=aarch64-linux-gnu", "-c"]
    subprocess.run([*command, str(source), "-o", str(tmp_path / "provide.o")], check=True)
    elf.parse((tmp_path / "provide.o").read_bytes())
