"""Files with compiled code in them: how they are written, found, and trusted.

The universal format is a module with a custom section; the native one is a shared library with the
module in a section of its own. What says how to use the code, and who made it, is the same in both
and comes last::

    image or library | head | digest | tag | length of the head | magic

The digest is a SHA-256 over the module's digest, the image and the head, which has all that the
code's safety rests on: engine, processor, variant, level. The tag is that of `signing`.
"""

from __future__ import annotations

import array
import functools
import hashlib
import os
import struct
from pathlib import Path
from typing import NamedTuple

import msgpack

from . import cache, signing
from .binary.customs import find_custom
from .codegen.context import Target, Variant
from .configure import CompilerOptimizationLevel
from .loader import SECTION
from .module import AST
from .native import elf
from .native.code import CodeRegion, LoadedImage
from .native.code_image import EXECUTE, CodeImage, Segment, check
from .version import __version__

_MAGIC = b"WAsync\0\1"
_TRAILER = struct.Struct(f"<32s{signing.TAG_BYTES}sQ8s")

_ELF_MAGIC = b"\x7fELF"


class Head(NamedTuple):
    """What is said about compiled code."""

    version: str
    """Of wasmedge-async; for people."""
    engine: str
    machine: str
    """What it was compiled for, as `machine_name` tells."""
    processor: str
    """The same for people."""
    target: Target
    variant: Variant
    proposals: tuple[int, ...]
    """With which the module was found valid."""
    selects: list[list[int]]
    """What validation found out about the bodies, as `validate.remembered` keeps it."""
    image: CodeImage
    runs: list[list[bytes]]
    """Per own function, when gas is measured: see `UnitTranslator.runs`."""


class Precompiled:
    """The compiled code in a file.

    Args:
        module: the module without it.
        code: the image, or the library.
        packed_head: what is said about it; empty when it is damaged.
        trailer: what is behind that.
    """

    def __init__(self, module: bytes, code: memoryview, packed_head: bytes, trailer: bytes) -> None:
        self.module = module
        self.code = code
        self._packed_head = packed_head
        self.digest, self._tag, _, _ = _TRAILER.unpack(trailer)

    @functools.cached_property
    def head(self) -> Head | None:
        """What is said about the code; None when it is damaged, or of another version.

        Unpacked when it is needed: it can take seventy times as much memory as in the file, which
        is for makers who are trusted.
        """
        return _unpack(self._packed_head)

    @property
    def is_ours(self) -> bool:
        """Whether this user made it, if it is not damaged."""
        return signing.is_ours(self.digest, self._tag)

    def refusal(self, ast: AST, trusted: bool) -> str | None:
        """Why the code must not be used for the module, or None if it may be.

        Args:
            ast: the module.
            trusted: whether code counts as good that somebody else made.
        """
        if _digest(ast, self.code, self._packed_head) != self.digest:
            return "it is damaged or was altered"
        if not trusted and not self.is_ours:
            return (
                "this user did not make it, or the key that it was signed with is lost "
                "(Configure.trust_precompiled accepts code that somebody else made)"
            )
        head = self.head
        if head is None:
            return "it was made by another version of wasmedge-async"
        if head.engine != cache.engine_fingerprint():
            return f"it was made by another version of wasmedge-async ({head.version})"
        if head.machine != machine_name(head.target.generic):
            return f"it was made for another processor ({head.processor})"
        if len(head.runs) != (len(ast.bodies) if head.variant.gas else 0):
            return "the runs of instructions are not those of the functions"
        try:
            check(head.image, len(self.code), len(ast.bodies))
        except elf.ObjectError as error:
            return str(error)
        return None

    def misfit(self, variant: Variant) -> str | None:
        """Why it is not the code that instances need, or None if it is."""
        if self.head is None or self.head.variant == variant:
            return None
        return f"it is {described(self.head.variant)}, {described(variant)} is needed"

    def load(self) -> LoadedImage:
        """The code in memory."""
        if self.head is None:
            raise elf.ObjectError("it is damaged or was altered")
        return CodeRegion.get().load_image(self.code, self.head.image)

    def runs(self) -> dict[int, list[array.array[int]]]:
        """Opcodes of the runs of instructions of each own function, when gas is measured."""
        listed = [] if self.head is None else self.head.runs
        return {
            own: [array.array("H", run) for run in function] for own, function in enumerate(listed)
        }


def described(variant: Variant) -> str:
    """A variant for people."""
    memory = "guarded" if variant.guarded else "checked"
    counting = " and counting" if variant.counting else ""
    return memory + counting + (" and measuring cost" if variant.gas else "")


def describe(path: str | os.PathLike[str], ast: AST) -> list[str]:
    """What compiled code a file has, for people, a line each; nothing if it has none.

    Raises:
        OSError: the file cannot be read.
    """
    data = Path(path).read_bytes()
    found = find(data, find_custom(data, SECTION))
    if found is None:
        return []
    kind = "native: a shared library" if data.startswith(_ELF_MAGIC) else "universal: a section"
    lines = [f"compiled code ({kind})"]
    head = found.head
    if head is not None:
        level, generic = head.target
        lines += [
            f"  optimization: {level.name}",
            f"  processor: {'any from ' if generic else ''}{head.processor}",
            f"  variant: {described(head.variant)}",
            f"  made by: wasmedge-async {head.version}",
            f"  size: {sum(s.filled for s in head.image.segments if s.flags & EXECUTE):,} bytes, "
            f"{len(ast.bodies):,} functions",
        ]
    refusal = found.refusal(ast, trusted=False)
    lines.append(f"  used: {'yes' if refusal is None else f'no, {refusal}'}")
    return lines


def machine_name(generic: bool) -> str:
    """What decides whether code can run here, as a digest."""
    return cache.architecture() if generic else cache.machine()


def find(data: bytes, place: tuple[int, int, int] | None) -> Precompiled | None:
    """The compiled code in a file; None when there is none.

    Args:
        data: all of the file.
        place: where the section with the code is, as `find_custom` gives it.
    """
    if place is None:
        from .native.shared_library import module_of  # rare

        module = module_of(data)
        return None if module is None else _read(module, memoryview(data))
    start, content, end = place
    module = data[:start] if end == len(data) else data[:start] + data[end:]
    return _read(module, memoryview(data)[content:end])


def _read(module: bytes, data: memoryview) -> Precompiled:
    """What lies behind the code, and the code."""
    trailer = bytes(data[-_TRAILER.size :]).rjust(_TRAILER.size, b"\0")
    _, _, length, magic = _TRAILER.unpack(trailer)
    end = len(data) - _TRAILER.size
    if magic != _MAGIC or length > end:
        return Precompiled(module, data[:0], b"", trailer)
    return Precompiled(module, data[: end - length], bytes(data[end - length : end]), trailer)


def write(ast: AST, code: bytes, head: Head) -> bytes:
    """What goes into the file: into a section of the module, or behind what a linker made."""
    packed: bytes = msgpack.packb(head)
    digest = _digest(ast, memoryview(code), packed)
    return b"".join(
        (code, packed, _TRAILER.pack(digest, signing.sign(digest), len(packed), _MAGIC))
    )


def with_section(module: bytes, content: bytes) -> bytes:
    """A module with the code in a section at its end."""
    name = bytes([len(SECTION)]) + SECTION
    size = len(name) + len(content)
    encoded = bytearray()
    while size > 0x7F:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return b"".join((module, b"\0", encoded, name, content))


def make_head(
    ast: AST, target: Target, variant: Variant, image: CodeImage, runs: list[list[bytes]]
) -> Head:
    """What is to be said about code that was made here, now."""
    from .codegen.llvm import GENERIC_CPU, host_cpu  # whoever comes here has compiled something
    from .validate.remembered import selects_of

    return Head(
        __version__,
        cache.engine_fingerprint(),
        machine_name(target.generic),
        GENERIC_CPU if target.generic else host_cpu(),
        target,
        variant,
        tuple(sorted(ast.proposals)),
        selects_of(ast),
        image,
        runs,
    )


def _digest(ast: AST, code: memoryview, packed_head: bytes) -> bytes:
    digest = hashlib.sha256(ast.digest)
    digest.update(len(code).to_bytes(8, "little"))
    digest.update(code)
    digest.update(packed_head)
    return digest.digest()


def _unpack(packed: bytes) -> Head | None:
    """A head; None for what is not one. It may be anything: it was not verified yet."""
    try:
        version, engine, machine, processor, target, variant, proposals, selects, image, runs = (
            msgpack.unpackb(packed)
        )
        level, generic = target
        length, segments, header, addresses, sizes, externals = image
        head = Head(
            version,
            engine,
            machine,
            processor,
            Target(CompilerOptimizationLevel(level), generic),
            Variant(*variant),
            tuple(proposals),
            [[body, offset, code] for body, offset, code in selects],
            CodeImage(
                length,
                [Segment(*segment) for segment in segments],
                header,
                addresses,
                sizes,
                [(name, at) for name, at in externals],
            ),
            runs,
        )
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    return head if _is_sound(head) else None


def _is_sound(head: Head) -> bool:
    """Whether everything in it has the type that it must have."""
    image = head.image
    numbers = [
        image.length,
        image.header,
        *(number for segment in image.segments for number in segment),
        *(at for _, at in image.externals),
        *head.proposals,
        *(number for select in head.selects for number in select),
    ]
    texts = [head.version, head.engine, head.machine, head.processor]
    texts += [name for name, _ in image.externals]
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        # They get into logs.
        and all(type(text) is str and text.isprintable() and len(text) < 100 for text in texts)
        and all(type(flag) is bool for flag in (head.target.generic, *head.variant))
        and type(image.addresses) is bytes
        and type(image.sizes) is bytes
        and type(head.runs) is list
        and all(
            type(function) is list
            and all(type(run) is bytes and len(run) % 2 == 0 for run in function)
            for function in head.runs
        )
    )
