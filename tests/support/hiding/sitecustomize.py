"""A fault-injecting layer over Python's file functions: what a network filesystem's cache does to another node.

With this folder on PYTHONPATH, files below HIDING_ROOT that another node made stay invisible for HIDING_S seconds.
Nodes are told apart by HIDING_NODE; who made what, and when, is kept in HIDING_REGISTRY. Exclusive creation, renames
and links are the server's business and always tell the truth, after which the name is known. HIDING_FLOCK=fail has
every flock fail, =lie has it do nothing; HIDING_SKEW_S moves this node's clock.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import hashlib
import io
import os
import socket
import time
from typing import Any

ROOT, NODE, REGISTRY = (os.environ.get(f"HIDING_{name}", "") for name in ("ROOT", "NODE", "REGISTRY"))
HIDE_S, SKEW_S = (float(os.environ.get(f"HIDING_{name}", "0")) for name in ("S", "SKEW_S"))
_now, _stat, _lstat, _open, _os_open = time.time, os.stat, os.lstat, io.open, os.open
_known: set[str] = set()


def _below(path: Any) -> str:
    """The absolute path where it lies below the root, else nothing."""
    if isinstance(path, int):
        return ""
    absolute = os.path.abspath(os.fsdecode(os.fspath(path)))
    return absolute if absolute.startswith(ROOT + os.sep) else ""


def _entry(path: str) -> str:
    return os.path.join(REGISTRY, hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest())


def _know(absolute: str) -> None:
    """What the server has just told this node of: a name and all folders on the way to it."""
    while absolute and absolute != ROOT:
        _known.add(absolute)
        absolute = os.path.dirname(absolute)


def _record(path: Any) -> None:
    absolute = _below(path)
    if absolute:
        _know(absolute)
        try:
            descriptor = _os_open(_entry(absolute), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return
        os.write(descriptor, NODE.encode())
        os.close(descriptor)


def _is_hidden(path: Any) -> bool:
    absolute = _below(path)
    while absolute and absolute != ROOT:
        if absolute not in _known:
            try:
                with _open(_entry(absolute)) as file:
                    maker, age_s = file.read(), _now() - os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                maker, age_s = NODE, 0.0
            if maker != NODE and age_s < HIDE_S:
                return True
            if os.path.lexists(_entry(absolute)):
                _known.add(absolute)
        absolute = os.path.dirname(absolute)
    return False


def _seeing(function: Any) -> Any:
    """A function that does not find what is hidden."""

    def seeing(path: Any, *arguments: Any, **options: Any) -> Any:
        if _is_hidden(path):
            raise FileNotFoundError(errno.ENOENT, "hidden by the test", str(path))
        return function(path, *arguments, **options)

    return seeing


def _making(function: Any, place: int) -> Any:
    """A function that makes the name given as its argument number `place`; told that it exists, we know of it."""

    def making(*arguments: Any, **options: Any) -> Any:
        try:
            result = function(*arguments, **options)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                _know(_below(arguments[place]))
            raise
        _record(arguments[place])
        return result

    return making


def _opening(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
    if "r" in mode and _is_hidden(path):
        raise FileNotFoundError(errno.ENOENT, "hidden by the test", str(path))
    file = _open(path, mode, *arguments, **options)
    if "r" not in mode:
        _record(path)
    return file


class _Scan:
    def __init__(self, path: Any = ".") -> None:
        self._entries = _scandir(path)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *_: Any) -> None:
        self._entries.close()

    def __iter__(self) -> Any:
        return (entry for entry in self._entries if not _is_hidden(entry.path))

    def close(self) -> None:
        self._entries.close()


def _flock(_file: Any, _how: int) -> None:
    if os.environ["HIDING_FLOCK"] == "fail":
        raise OSError(errno.ENOLCK, "No locks available")


if ROOT:
    _scandir, _listdir = os.scandir, os.listdir
    os.stat, os.lstat, os.open = _seeing(_stat), _seeing(_lstat), _seeing(_os_open)  # type: ignore[assignment]
    os.scandir = _seeing(_Scan)
    os.listdir = lambda path=".": [name for name in _listdir(path) if not _is_hidden(os.path.join(path, name))]  # type: ignore[assignment]
    os.mkdir = _making(os.mkdir, 0)
    os.link, os.rename, os.replace = (_making(function, 1) for function in (os.link, os.rename, os.replace))
    io.open = builtins.open = _opening  # type: ignore[assignment]
    socket.gethostname = lambda: NODE
    time.time = lambda: _now() + SKEW_S
    if os.environ.get("HIDING_FLOCK"):
        fcntl.flock = fcntl.lockf = _flock  # type: ignore[assignment]
