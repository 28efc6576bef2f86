"""What a wheel of the project holds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from wasmedge_runtime import __version__

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = {"wasmedge_async", "wasmedge_pool", "wasmedge_runtime"}


def test_the_wheel_has_the_three_packages_with_types_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name == f"wasmedge_async-{__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"wasmedge_async-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, metadata}
    for package in PACKAGES:
        assert f"{package}/__init__.py" in names
        assert f"{package}/py.typed" in names
    assert f"{metadata}/licenses/LICENSE" in names
    assert not any("_mypyc" in name for name in names)  # whatever the checkout has
