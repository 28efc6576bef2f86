"""Whether this user made something: a key that nobody else can read, beside the compiled code.

A tag made with the key proves that what it is for was written by a process of the user. Whoever can
read the key can run code as the user anyway. When the key is lost, with the folder of the cache,
what was signed before counts as foreign from then on. Without a cache there is no key.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import stat
from pathlib import Path

from . import cache

_log = logging.getLogger("wasmedge")

_KEY_NAME = "signing-key"
_KEY_BYTES = 32

TAG_BYTES = 32
UNSIGNED = bytes(TAG_BYTES)
"""In the place of a tag, where there is no key."""


def sign(digest: bytes) -> bytes:
    """The tag of a digest, or `UNSIGNED`; makes the key if there is none yet."""
    key = _read() or _make()
    return UNSIGNED if key is None else _tag(key, digest)


def is_ours(digest: bytes, tag: bytes) -> bool:
    """Whether a digest was signed with this user's key."""
    key = _read()
    return key is not None and hmac.compare_digest(_tag(key, digest), tag)


def _tag(key: bytes, digest: bytes) -> bytes:
    return hmac.digest(key, digest, "sha256")


def _read() -> bytes | None:
    """The key, if it is there and nobody else can have read or written it."""
    place = cache.folder()
    if place is None:
        return None
    try:
        folder = place.stat()
        if folder.st_uid != os.geteuid() or folder.st_mode & 0o022:
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(place / _KEY_NAME, flags)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            is_private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
            if not is_private or not stat.S_ISREG(status.st_mode):
                _log.warning("%s belongs to somebody else or is open to others", place / _KEY_NAME)
                return None
            key = file.read(_KEY_BYTES + 1)
    except OSError:
        return None
    if len(key) != _KEY_BYTES:
        _log.warning("%s is damaged: remove it, and compile again", place / _KEY_NAME)
        return None
    return key


def _make() -> bytes | None:
    """A new key, whole from the moment that others can see it; theirs if they were faster."""
    import secrets  # only who signs for the first time needs them
    import tempfile

    place = cache.folder()
    if place is None:
        return None
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{_KEY_NAME}.", dir=place)
        try:
            with open(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, place / _KEY_NAME)
        finally:
            Path(temporary).unlink()
    except OSError as error:
        _log.warning("compiled files cannot be signed: %s", error)
    return _read()
