"""Compiled code on disk: what was compiled once is not compiled again, in any process.

One file per entry in the user's cache folder (`platformdirs`), named by the SHA-256 of everything
that decides what the code is. Entries are written beside their place and renamed, so that readers
see whole files or none; only a `Journal` grows, by pieces. A digest guards against damage. A
damaged, foreign or unreadable entry is a miss, never an error. `WASMEDGE_CACHE_DIR` names another
folder; empty, it switches the cache off.

The entries are native code, which nothing sandboxes: the folder must belong to this user and be
closed to others, and so must each entry. A process that runs what it does not trust, a worker of a
pool, only reads them: `follow`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib
import importlib.machinery
import logging
import os
import platform
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_log = logging.getLogger("wasmedge")

_MAGIC = b"wasmedge-async cache 1\n"
_DIGEST_BYTES = 32
_LARGEST_ENTRY = 1 << 30

_PIECE = b"wasmedge-async piece 1\n"
_PIECE_HEAD = struct.Struct(f"<{len(_PIECE)}sII{_DIGEST_BYTES}s")
"""In front of a piece of a journal: mark, number, length, digest."""

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux

_MOST_BYTES = 2 << 30
"""Beyond this, the cache is trimmed to the half."""

_DAY = 86_400.0

_HEX = "[0-9a-f]"
"""A pattern: two in the name of a folder, 64 in that of an entry."""

_PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.001
"""How long, and how often, to look whether another process has made a piece."""


_follows = False


def follow(place: str | None = None) -> None:
    """Only read the cache from now on, for as long as this process lives: another process fills it.

    Nothing is stored or trimmed here, and no helper processes optimise. Functions get baseline
    code that is made here and kept in memory, until the optimised code is in the cache.
    To be called before the first module is loaded.

    Args:
        place: the folder to read, instead of the user's.
    """
    global _follows
    if place is not None:
        os.environ["WASMEDGE_CACHE_DIR"] = place
    _follows = True


def follows() -> bool:
    """Whether this process only reads the cache."""
    return _follows


def folder() -> Path | None:
    """Where entries lie, or None when the cache is off."""
    configured = os.environ.get("WASMEDGE_CACHE_DIR")
    if configured is not None:
        return Path(configured).absolute() if configured else None
    import platformdirs  # here, and below: each takes as long as several modules of the engine

    return Path(platformdirs.user_cache_dir("wasmedge-async", appauthor=False))


@functools.cache
def engine_fingerprint() -> str:
    """Hash of the sources that decide what is valid, and what code is generated: an editable
    install keeps its version while they change."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    names = ("configure", "errors", "features", "limits", "module", "opcodes", "types", "validator")
    sources = [package / f"{name}.py" for name in names]
    for name in ("binary", "codegen", "native", "tiers", "validate"):
        sources += sorted((package / name).glob("*.py"))
    sources += sorted((package / "native" / "ir").glob("*.ll"))
    for source in sources:
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


def architecture() -> str:
    """What code is compiled for that every processor of the architecture can run."""
    return f"{sys.platform} {platform.machine()}"


@functools.cache
def machine() -> str:
    """What code is compiled for and with: the processor's model and features, LLVM's version.

    Asked of the system rather than of LLVM, which a start from the cache does not load.
    """
    fields = [platform.machine(), sys.platform, _llvmlite_version()]
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                label = line.partition(":")[0].strip()
                if label in ("model name", "flags", "Features", "CPU part", "CPU implementer"):
                    fields.append(line)
                if not line.strip():
                    break
    except OSError:
        fields.append(platform.processor())
    return hashlib.sha256("\n".join(fields).encode()).hexdigest()


def _llvmlite_version() -> str:
    """Read from its file: importing `importlib.metadata` takes a fifth as long as the engine."""
    found = importlib.machinery.PathFinder.find_spec("llvmlite")
    if found is None or found.origin is None:
        return ""
    try:
        return Path(found.origin).with_name("_version.py").read_text()
    except OSError:
        return str(importlib.import_module("llvmlite").__version__)


def key(*parts: bytes | str | int) -> str:
    """The name of an entry: a hash over all parts, each with its length, and the engine's own."""
    digest = hashlib.sha256()
    for part in (engine_fingerprint(), *parts):
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def load(name: str) -> bytes | None:
    """The entry, or None. Refuses what another user could have written."""
    data = _read(name)
    head = len(_MAGIC) + _DIGEST_BYTES
    if data is None or not data.startswith(_MAGIC) or len(data) < head:
        return None
    content = data[head:]
    if _digest(name, content) != data[len(_MAGIC) : head]:
        _log.warning("cache entry %s is damaged", name)
        return None
    return content


class Journal:
    """An entry that grows: pieces by number, added one at a time and never changed.

    Each piece is written at once to the end of the file, so that several processes can add to it.
    What a process that was killed left of one is passed over.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._data = bytearray(_read(name) or b"")
        self._places: dict[int, int] = {}
        self._scanned = 0
        self._scan()

    def get(self, number: int) -> bytes | None:
        """A piece, or None when there is none that is sound."""
        at = self._places.get(number)
        if at is None:
            return None
        if not self._is_sound(at):
            _log.warning("piece %d of cache entry %s is damaged", number, self._name)
            return None
        return self._content(at)

    def _content(self, at: int) -> bytes:
        _, _, length, _ = _PIECE_HEAD.unpack_from(self._data, at)
        start = at + _PIECE_HEAD.size
        return bytes(self._data[start : start + length])

    def _is_sound(self, at: int) -> bool:
        _, number, _, digest = _PIECE_HEAD.unpack_from(self._data, at)
        return bool(self._digest(number, self._content(at)) == digest)

    @contextlib.contextmanager
    def claim(self, number: int) -> Iterator[Callable[[bytes], None]]:
        """Be the only process that makes a piece; gives what writes it.

        Waits while another process makes it, after which `get` has it. A failure to lock or to
        write costs only the next start.
        """
        descriptor = -1
        try:
            descriptor = self._open()
            if descriptor >= 0:
                self._wait_for(descriptor, number)
        except OSError as error:
            _log.info("cannot write to the cache: %s", error)
        try:
            yield lambda content: self._add(descriptor, number, content)
        finally:
            if descriptor >= 0:
                os.close(descriptor)  # and so unlock it

    def _open(self) -> int:
        entries = _writable(self._name)
        if entries is None:
            return -1
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(entries / self._name, flags, 0o600)
        status = os.fstat(descriptor)
        if _is_private(status) and stat.S_ISREG(status.st_mode):
            return descriptor
        os.close(descriptor)
        return -1

    def _wait_for(self, descriptor: int, number: int) -> None:
        """Lock the byte of a piece (as if each had one), and see what others have added."""
        _lock(descriptor, number, _PATIENCE_SECONDS)
        size = os.fstat(descriptor).st_size
        if len(self._data) < size <= _LARGEST_ENTRY:
            self._data += os.pread(descriptor, size - len(self._data), len(self._data))
            self._scan()

    def _add(self, descriptor: int, number: int, content: bytes) -> None:
        head = _PIECE_HEAD.pack(_PIECE, number, len(content), self._digest(number, content))
        if descriptor >= 0 and len(self._data) + len(content) < _LARGEST_ENTRY:
            try:
                os.write(descriptor, head + content)
            except OSError as error:
                _log.info("cannot write to the cache: %s", error)

    def _scan(self) -> None:
        """Find the pieces that have come since the last time."""
        data = self._data
        at = data.find(_PIECE, self._scanned)
        while at >= 0 and len(data) - at >= _PIECE_HEAD.size:
            _, number, length, _ = _PIECE_HEAD.unpack_from(data, at)
            end = at + _PIECE_HEAD.size + length
            followed = end == len(data) or data.startswith(_PIECE, end)
            if followed or (end < len(data) and self._is_sound(at)):
                self._places[number] = at
                self._scanned = end
            else:  # cut short, or not yet complete
                end = at + 1
            at = data.find(_PIECE, end)

    def _digest(self, number: int, content: bytes) -> bytes:
        return _digest(f"{self._name} {number}", content)


def _read(name: str) -> bytes | None:
    """The file of an entry, if it is there and nobody else can have written it."""
    place = folder()
    if place is None:
        return None
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if not all(_is_private(directory.stat()) for directory in (place, place / name[:2])):
            _log.warning("cache folder %s is open to others: not used", place)
            return None
        descriptor = os.open(place / name[:2] / name, flags)
        try:
            status = os.fstat(descriptor)
            if not _is_private(status) or not stat.S_ISREG(status.st_mode):
                _log.warning("cache entry %s belongs to somebody else or is open to others", name)
                return None
            if status.st_size > _LARGEST_ENTRY:
                return None
            if time.time() - status.st_mtime > _DAY and not _follows:
                with contextlib.suppress(OSError):
                    os.utime(descriptor)  # what is used is not what `trim` removes
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)
    except OSError:
        return None


def contains(name: str) -> bool:
    """Whether there is an entry; `load` may still refuse it."""
    place = folder()
    return place is not None and (place / name[:2] / name).exists()


@contextlib.contextmanager
def claim(name: str, patience: float) -> Iterator[bool]:
    """Be the only process that makes an entry; gives False when another one does.

    Waits for that one as many seconds as `patience` says; afterwards the entry should be there. The
    system takes the claim back from a process that dies. Without a cache that can be written,
    everybody may.
    """
    descriptor = -1
    claimed = True
    try:
        entries = _writable(name)
        if entries is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(entries / ".lock", flags, 0o600)
            claimed = _lock(descriptor, _lock_byte(name), patience)
    except OSError as error:
        _log.info("cannot claim a cache entry: %s", error)
    try:
        yield claimed
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextlib.contextmanager
def announce(name: str) -> Iterator[None]:
    """Let followers know that what they miss is being made. Several processes may say so at once;
    the system takes it back from one that dies."""
    descriptor = -1
    try:
        entries = _writable(name)
        if entries is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(entries / ".lock", flags, 0o600)
            _lock(descriptor, _lock_byte(name), 0.0, fcntl.F_RDLCK)
    except OSError as error:
        _log.info("cannot announce what is made for the cache: %s", error)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def announced(name: str) -> bool:
    """Whether a process has announced it, and is still at it."""
    place = folder()
    if place is None:
        return False
    try:
        if not all(_is_private(directory.stat()) for directory in (place, place / name[:2])):
            return False  # others could say so for ever
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(place / name[:2] / ".lock", flags)
        try:
            lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _lock_byte(name), 1, 0)
            found = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, lock))
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return bool(found[0] != fcntl.F_UNLCK)


def _lock_byte(name: str) -> int:
    """One byte of the file for each entry of a folder, as good as: by a part of its name."""
    return int(name[2:14], 16)


def _lock(descriptor: int, start: int, patience: float, kind: int = fcntl.F_WRLCK) -> bool:
    """Lock one byte of a file for as long as it is open; False when that takes too long, because a
    process was stopped, perhaps."""
    # Of the open file, not of the process, whose locks would go with any descriptor of the file.
    lock = _FLOCK.pack(kind, os.SEEK_SET, start, 1, 0)
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)


def take_slot(count: int) -> int | None:
    """One of `count` slots that all processes of this user share: a descriptor to close afterwards,
    -1 when there is no cache to share, None when all are taken."""
    place = folder()
    if place is None:
        return -1
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if not _is_private(place.stat()):
            return -1  # others could take them
        for number in range(count):
            descriptor = os.open(place / f".slot-{number}", flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                os.close(descriptor)
    except OSError:
        return -1
    return None


def trim() -> None:
    """Remove what was not used for longest, when the cache has become too large."""
    place = folder()
    if place is None or _follows:
        return
    found = []
    with contextlib.suppress(OSError):
        # Nothing but entries: other things may be in the folder.
        name = _HEX * 64
        for path in (*place.glob(f"{_HEX * 2}/{name}"), *place.glob(f"{_HEX * 2}/.{name}.*")):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    size = sum(entry[1] for entry in found)
    if size <= _MOST_BYTES:
        return
    for _, entry_size, path in sorted(found):
        with contextlib.suppress(OSError):
            path.unlink()
            size -= entry_size
        if size <= _MOST_BYTES // 2:
            break
    _log.info("the cache was trimmed to %d bytes", size)


def _writable(name: str) -> Path | None:
    """The folder of an entry, made when it is not there; None when it may not be used."""
    place = folder()
    if place is None or _follows:
        return None
    entries = place / name[:2]
    for directory in (place, entries):
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(directory.stat()):
            _log.warning("cache folder %s is open to others: not used", directory)
            return None
    return entries


def store(name: str, content: bytes) -> None:
    """Write an entry. A failure (no space, no permission) costs only the next start."""
    try:
        entries = _writable(name)
        if entries is None:
            return
        import tempfile

        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=entries)
        try:
            with open(descriptor, "wb") as file:
                file.write(_MAGIC + _digest(name, content) + content)
            os.replace(temporary, entries / name)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        _log.info("cannot write to the cache: %s", error)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
