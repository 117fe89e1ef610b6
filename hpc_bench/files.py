"""The few file operations that the protocol rests on: whole writes, exclusive creation, the filesystem's own clock.

Any text can be written: half of a surrogate pair, which UTF-8 cannot carry, is written as its escape, `\\ud83d`. In a
JSON file that is the same text.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hpc_bench.values import Json

__all__ = [
    "create_exclusive",
    "encodable",
    "escape_unencodable_output",
    "file_digest",
    "filesystem_now",
    "from_json",
    "leave_mark",
    "link_problem",
    "list_names",
    "may_pass",
    "new_private_file",
    "open_regular",
    "own_opener",
    "read_json",
    "sync_folder",
    "sync_tree",
    "to_json",
    "write_whole",
]

_MOST_NESTED = 100
"""Levels of lists and mappings in a JSON text; how many more Python could take differs from place to place."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""What filesystems without hard links say."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PASSING = _FULL | {errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EREMOTEIO}
"""What a full disk says, and network filesystems when a server restarts, or a file was replaced a moment ago."""


def may_pass(error: BaseException | None) -> bool:
    """Whether trying again a moment later may do, to judge by an error or one that it came of."""
    while error is not None:
        if _number_of(error) in _PASSING:
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # as libraries written in Rust say it
    return int(found[1]) if found else None


def encodable(text: str) -> str:
    """The text with an escape in the place of each half of a surrogate pair, which UTF-8 cannot carry."""
    return text.encode(errors="backslashreplace").decode()


def escape_unencodable_output() -> None:
    """Has whatever this process prints escape what the terminal or log cannot hold, in the place of ending it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def to_json(value: object, *, sort_keys: bool = True) -> str:
    """One line without spaces; with sorted keys it is canonical: equal values have equal text and equal hashes."""
    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_json(text: str | bytes) -> Json:
    """The value in a JSON text; ValueError if it is not JSON, NaN and infinities included, or nested too deeply."""
    text = text.decode() if isinstance(text, bytes) else text
    try:
        value: Json = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if text.count("[") + text.count("{") > _MOST_NESTED and _is_deep(value):
        raise ValueError("nested too deeply")
    return value


def _is_deep(value: Json) -> bool:
    level: list[Json] = [value]
    for _ in range(_MOST_NESTED):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def read_json(path: Path) -> Json:
    """The value in a file; FileNotFoundError as it is, ValueError if the content is not JSON."""
    with open_regular(path) as file:
        return from_json(file.read())


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file for reading; OSError for anything else, of which a FIFO or a device could be read for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def write_whole(path: Path, text: str) -> None:
    """Replaces a file so that readers see the old text or the new one, also after a crash."""
    temporary = _written(path, text)
    try:
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def create_exclusive(path: Path, text: str) -> bool:
    """Creates `path` with `text` at once; False if it exists. At most one caller, on any node, is told True. OSError
    for whatever else went wrong, of which nobody can tell whether somebody else was faster.

    link(2) is the only exclusive creation that holds on NFS, and there its return code may be wrong: two links
    on the own temporary file prove that it was made (link(2), BUGS).
    """
    temporary = _written(path, text)
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if temporary.stat().st_nlink == 2:
                return True
            if isinstance(error, FileExistsError):
                return False
            raise
        return True
    finally:
        with suppress(OSError):
            temporary.unlink()


def link_problem(folder: Path) -> str:
    """What is wrong with hard links in a folder, on which claims rest; empty if nothing is. OSError if that cannot be
    told, since the folder cannot be written to.
    """
    name = new_private_file(folder)
    try:
        name.unlink()
        first, second = (create_exclusive(name, "x") for _ in range(2))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return f"hard links are refused ({error.strerror})"
    finally:
        with suppress(OSError):
            name.unlink(missing_ok=True)
    return "" if first and not second else "a name could be taken twice"


def own_opener(path: str, flags: int) -> int:
    """An opener for `open` that writes to no place that a link prepared by somebody else leads to, and waits for no
    reader of a pipe: OSError.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)


def leave_mark(path: Path) -> None:
    """Makes sure that a file of this name is there, whose existence says it all."""
    with open(path, "ab", opener=own_opener):
        pass


def new_private_file(folder: Path) -> Path:
    """A new, empty, hidden file that no other process on any machine makes, nor can have prepared."""
    path = _private_name(folder)
    with open(path, "xb", opener=own_opener):
        return path


def _private_name(folder: Path) -> Path:
    return folder / f".tmp-{secrets.token_hex(16)}"


def _written(path: Path, text: str) -> Path:
    temporary = _private_name(path.parent)
    file = open(temporary, "x", encoding="utf-8", errors="backslashreplace", opener=own_opener)  # noqa: SIM115
    try:
        with file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a crash; some network filesystems do not allow it, and sync anyway."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes the files of a folder, and their names, survive a crash."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with Path(entry.path).open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def list_names(folder: Path) -> Iterator[str]:
    """The names in a folder, hidden ones left out; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise


def filesystem_now(folder: Path) -> float:
    """The time by the clock that stamps the files of this folder, which may not be this host's.

    Where the folder cannot be written (somebody else's results), this host's clock has to do.
    """
    try:
        probe = new_private_file(folder)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except OSError:
        return time.time()


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
