"""Compiler: a module compiled ahead, into a file that loads without compiling anything."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from . import precompiled
from .closable import Closable
from .codegen.context import Target, Variant
from .configure import CompilerOutputFormat, Configure
from .errors import ErrCode, WasmEdgeError
from .loader import Loader
from .log import log_stage
from .native import shared_library
from .native.code_image import lay_out
from .native.elf import ObjectError
from .tiers.status import Progress
from .tiers.whole import WholeModule
from .validator import Validator

__all__ = ["Compiler"]


class Compiler(Closable):
    """Writes files with compiled code in them.

    ::

        Compiler().compile("program.wasm", "program-compiled.wasm")

    Args:
        config: `compiler_output_format` and the other options of the compiler; the proposals; and
            which statistics the code counts: a module is run by the code in its file only where
            the same ones are asked for. Copied; the defaults when None.
        progress: called now and then with a `CodeStatus`, while helper processes compile. What it
            raises ends `compile`.
    """

    def __init__(self, config: Configure | None = None, progress: Progress | None = None) -> None:
        self._config = Configure() if config is None else config.copy()
        self._progress = progress

    def compile(self, in_path: str | os.PathLike[str], out_path: str | os.PathLike[str]) -> None:
        """Compile the module in a file, and write another file, which takes the place of what was
        there once it is complete.

        If the module has been compiled before, its code is made anew. With `compiler_dump_ir`, the
        LLVM IR of each unit of compilation is written as well, to `out_path` with `.N.ll` behind
        it.

        Raises:
            LoadError, ValidationError: the module is refused; nothing is written.
            WasmEdgeError: IllegalPath when both paths are the same file, or the output cannot be
                written; AOTDisabled when the native format needs a linker and there is none;
                RuntimeError when the module is beyond a limit of the translator, or linking failed.
        """
        self._check_open()
        config, output = self._config, Path(out_path)
        ast = Loader(config).load_file(in_path)
        Validator(config).validate(ast)
        ast.precompiled = None
        if _is_same(output, in_path):
            raise WasmEdgeError(
                ErrCode.IllegalPath,
                f"invalid path: {output} is the module itself; write to another file",
            )
        native = config.compiler_output_format == CompilerOutputFormat.NATIVE
        linker = shared_library.find_linker() if native else None
        target = Target(config.compiler_optimization_level, config.compiler_generic_binary)
        # Which memories are guarded shows when they are made; nearly always they are.
        variant = Variant(
            True, config.statistics_instruction_counting, config.statistics_cost_measuring
        )
        with _replacing(output) as file:
            started = time.perf_counter()
            whole = WholeModule(ast, variant, target)
            units = whole.make(self._progress)
            log_stage(f"compiled {len(ast.bodies)} functions", started)
            objects = [unit.data for unit in units]
            runs = [function for unit in units for function in unit.runs]
            functions = range(ast.imported_functions, ast.imported_functions + len(ast.bodies))
            try:
                if linker is None:
                    code, image = lay_out(objects, functions)
                else:
                    code, image = shared_library.link(linker, ast.data, objects, functions)
            except ObjectError as error:
                message = f"what LLVM made cannot be linked: {error}"
                raise WasmEdgeError(ErrCode.RuntimeError, message) from error
            head = precompiled.make_head(ast, target, variant, image, runs)
            content = precompiled.write(ast, code, head)
            dumps = whole.ir() if config.compiler_dump_ir else []
            try:
                file.write(content if native else precompiled.with_section(ast.data, content))
                file.flush()
            except OSError as error:
                raise _unwritable(output, error) from error
            for number, text in enumerate(dumps):
                place = output.with_name(f"{output.name}.{number}.ll")
                with _replacing(place) as dump:
                    dump.write(text.encode())


def _is_same(path: Path, other: str | os.PathLike[str]) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False  # it is not there, or cannot be


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when the block has ended without an exception."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    temporary = path.with_name(f".wasmedge-{secrets.token_hex(8)}")
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is there and no ordinary file")
        descriptor = os.open(temporary, flags, 0o666)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    try:
        with open(descriptor, "wb") as file:
            yield file
        try:
            temporary.replace(path)
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError | ValueError) -> WasmEdgeError:
    reason = error.strerror if isinstance(error, OSError) else error
    return WasmEdgeError(ErrCode.IllegalPath, f"invalid path: cannot write {path}: {reason}")
