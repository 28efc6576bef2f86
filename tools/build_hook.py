"""Build hook of the wheel: with `WASMEDGE_COMPILE=1` it has modules that mypyc compiled.

    WASMEDGE_COMPILE=1 pip install .

Needs a C compiler. Such a wheel is for one platform and one version of Python; the sources are in
it as well. Otherwise the wheel is pure Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "WASMEDGE_COMPILE"


def is_wanted() -> bool:
    """Whether to compile.

    Raises:
        ValueError: the variable is neither 0 nor 1 nor empty.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ValueError(f"{VARIABLE}={value}: it must be 1, to compile with mypyc, or 0")
    return value == "1"


class CompileHook(BuildHookInterface[Any]):
    """Found by hatchling through `pyproject.toml`."""

    def dependencies(self) -> list[str]:
        """What building needs beside hatchling: the same as the extra `dev` names."""
        extras = self.metadata.core.optional_dependencies
        return [r for r in extras["dev"] if r.startswith("mypy[")] if is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a scratch folder, from where the wheel takes it.

        An editable install has no such modules: `make compile` puts them into the checkout.
        """
        if version == "editable" or not is_wanted():
            return
        self._scratch = tempfile.TemporaryDirectory(prefix="wasmedge-")
        folder = Path(self._scratch.name, "_mypyc")
        script = Path(self.root, "tools", "compile.py")
        subprocess.run([sys.executable, str(script), str(folder)], check=True)
        build_data["force_include"][str(folder)] = f"wasmedge_runtime/{folder.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The scratch folder goes when the wheel is written."""
        if not build_data["pure_python"]:
            self._scratch.cleanup()
