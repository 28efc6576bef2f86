"""Loader: bytes to AST."""

from __future__ import annotations

import os
import time
from pathlib import Path

from wasmedge_runtime.binary.sections import ModuleParser
from wasmedge_runtime.closable import Closable
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import ErrCode, LoadError
from wasmedge_runtime.limits import MAX_MODULE_SIZE
from wasmedge_runtime.log import log_stage
from wasmedge_runtime.module import AST


class Loader(Closable):
    """Reads modules in the binary format (core specification, chapter 5).

    Args:
        config: the proposals that are on; the seven of WebAssembly 2.0 by default.

    Function bodies are found and measured, but not decoded: what is malformed in them, the
    Validator finds.
    """

    def __init__(self, config: Configure | None = None) -> None:
        self._proposals = (config or Configure()).proposals

    def load_file(self, path: str | os.PathLike[str]) -> AST:
        """Read the module in a file.

        Raises:
            LoadError: IllegalPath when there is no such file, ReadError when it cannot be read;
                otherwise as `load_buffer`.
        """
        self._check_open()
        try:
            with Path(path).open("rb") as file:
                # One byte past the cap is enough to know, however large the file is.
                data = file.read(MAX_MODULE_SIZE + 1)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise LoadError(ErrCode.IllegalPath, f"invalid path: {error}") from error
        except OSError as error:
            raise LoadError(ErrCode.ReadError, f"read error: {error}") from error
        return self.load_buffer(data)

    def load_buffer(self, data: bytes | bytearray | memoryview) -> AST:
        """Read the module in a buffer, which is copied unless it is `bytes`.

        Raises:
            LoadError: the bytes are malformed, pass a cap of `limits`, or use a proposal that is
                off. The message ends with the offset.
            ValidationError: an initializer is not constant, or a function has no type: without
                these there is no AST.
            TypeError: not a buffer.
        """
        self._check_open()
        if not isinstance(data, bytes):
            data = bytes(memoryview(data))
        started = time.perf_counter()
        ast = ModuleParser(data, self._proposals).parse()
        log_stage(f"loaded {len(data)} bytes", started)
        return ast
