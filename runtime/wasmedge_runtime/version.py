"""The version of wasmedge-async. `pyproject.toml` reads it from here."""

from __future__ import annotations

__all__ = [
    "__version__",
    "get_version",
    "get_version_major",
    "get_version_minor",
    "get_version_patch",
]

__version__ = "0.1.0"

_MAJOR, _MINOR, _PATCH = (int(part) for part in __version__.split("."))


def get_version() -> str:
    """Return the version as text, for example `"0.1.0"`."""
    return __version__


def get_version_major() -> int:
    """Return the major version number."""
    return _MAJOR


def get_version_minor() -> int:
    """Return the minor version number."""
    return _MINOR


def get_version_patch() -> int:
    """Return the patch version number."""
    return _PATCH
