"""Loader: bytes to AST."""

from __future__ import annotations

import os
import time
from pathlib import Path

from wasmedge_runtime.binary.customs import find_custom
from wasmedge_runtime.binary.sections import ModuleParser
from wasmedge_runtime.closable import Closable
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, LoadError
from wasmedge_runtime.limits import MAX_MODULE_SIZE
from wasmedge_runtime.log import log_stage, logger
from wasmedge_runtime.module import AST

_LIBRARY = b"\x7fELF"
SECTION = b"wasmedge-async"
"""Name of the custom section with compiled code."""


class Loader(Closable):
    """Reads modules in the binary format (core specification, chapter 5).

    Args:
        config: the proposals that are on; the seven of WebAssembly 2.0 by default.

    Function bodies are found and measured, but not decoded: what is malformed in them, the
    Validator finds.

    Files that `Compiler` wrote are loaded like any others. The compiled code in them is used if it
    fits and is trusted (`Configure.trust_precompiled`), which the log tells if it is not so.
    """

    def __init__(self, config: Configure | None = None) -> None:
        config = config or Configure()
        self._proposals = config.proposals
        self._trusts = config.trust_precompiled

    def load_file(self, path: str | os.PathLike[str]) -> AST:
        """Read the module in a file, which may be a shared library that `Compiler` made.

        Raises:
            LoadError: IllegalPath when there is no such file, ReadError when it cannot be read;
                otherwise as `load_buffer`.
        """
        self._check_open()
        try:
            with Path(path).open("rb") as file:
                # One byte past the cap is enough to know, however large the file is; and no more
                # memory is asked for than the file needs, if it tells its size.
                size = os.fstat(file.fileno()).st_size
                data = file.read(min(size or MAX_MODULE_SIZE, MAX_MODULE_SIZE) + 1)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise LoadError(ErrCode.IllegalPath, f"invalid path: {error}") from error
        except OSError as error:
            raise LoadError(ErrCode.ReadError, f"read error: {error}") from error
        return self.load_content(data, os.fspath(path))

    def load_buffer(self, data: bytes | bytearray | memoryview) -> AST:
        """Read the module in a buffer, which is copied unless it is `bytes`.

        Raises:
            LoadError: the bytes are malformed, pass a cap of `limits`, or use a proposal that is
                off. The message ends with the offset. A shared library is MalformedMagic: the
                native format is for files.
            ValidationError: an initializer is not constant, or a function has no type: without
                these there is no AST.
            TypeError: not a buffer.
        """
        self._check_open()
        if not isinstance(data, bytes):
            data = bytes(memoryview(data))
        if data.startswith(_LIBRARY):
            raise LoadError(
                ErrCode.MalformedMagic,
                "magic header not detected: a shared library is loaded from its file",
                0,
            )
        return self.load_content(data, "the buffer")

    def load_content(self, data: bytes, name: str) -> AST:
        """Read what was in a file of either format, for who has read it; errors as those of
        `load_buffer`.

        Args:
            data: all of it.
            name: what the log calls it.
        """
        self._check_open()
        started = time.perf_counter()
        found = None
        place = find_custom(data, SECTION)
        if place is not None or data.startswith(_LIBRARY):
            from wasmedge_runtime import precompiled  # most files have no code in them

            found = precompiled.find(data, place)
        ast = ModuleParser(data if found is None else found.module, self._proposals).parse()
        if found is not None:
            refusal = found.refusal(ast, self._trusts)
            if refusal is None:
                ast.precompiled = found
            else:
                logger.warning("the compiled code in %s is not used: %s", name, refusal)
        log_stage(f"loaded {len(data)} bytes", started)
        return ast
