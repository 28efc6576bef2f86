"""Compiler: a module compiled ahead, into a file that loads without compiling anything."""

from __future__ import annotations

import os
import tempfile
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
        if output.exists() and output.samefile(in_path):
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
            if linker is None:
                code, image = lay_out(objects, functions)
            else:
                code, image = shared_library.link(linker, ast.data, objects, functions)
            head = precompiled.make_head(ast, target, variant, image, runs)
            content = precompiled.write(ast, code, head)
            file.write(content if native else precompiled.with_section(ast.data, content))
            if config.compiler_dump_ir:
                for number, text in enumerate(whole.ir()):
                    output.with_name(f"{output.name}.{number}.ll").write_text(text)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when the block has ended without an exception."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:
            yield file
        try:
            if path.is_dir():
                raise IsADirectoryError(None, "it is a folder")
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError | ValueError) -> WasmEdgeError:
    reason = error.strerror if isinstance(error, OSError) else error
    return WasmEdgeError(ErrCode.IllegalPath, f"invalid path: cannot write {path}: {reason}")


def _umask() -> int:
    """What new files are not to be allowed; the system tells only who changes it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
