"""Places outside the results folder: paths as users write them, files that Git LFS has not fetched, temporary ones."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpc_bench.errors import TemporaryFolderError

__all__ = ["check_temporary_folder", "expand_path", "find_path", "pointer_problem", "temporary_folder"]

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_OTHER_DOLLAR = re.compile(r"\$[{(]")
_POINTER = b"version https://git-lfs.github.com/spec/v1"
"""How the text begins that Git LFS puts in the place of a file (git-lfs, docs/spec.md)."""


def expand_path(text: str) -> Path:
    """The path that a user means by a text with `~`, $NAME or ${NAME}; ValueError if it cannot be told."""
    if _OTHER_DOLLAR.search(_VARIABLE.sub("", text)):
        raise ValueError(f"{text!r} cannot be used: only $NAME, ${{NAME}} and ~ are replaced; write the path out")
    try:
        return Path(_VARIABLE.sub(_value, text)).expanduser()
    except RuntimeError as error:  # ~ of a user whom nobody knows
        raise ValueError(f"{text!r} cannot be used: {error}") from error
    except KeyError as error:
        raise ValueError(f"{text!r} cannot be used: the variable {error.args[0]} is not set") from error


def _value(match: re.Match[str]) -> str:
    """An empty variable would make a path from / of $SCRATCH/data, and counts as not set."""
    name = match[1] or match[2]
    if value := os.environ.get(name):
        return value
    raise KeyError(name)


def find_path(text: str, folder: Path) -> Path:
    """The absolute path of a file or folder that a sweep in `folder` names; ValueError if it cannot be told.

    A relative path is looked for beside the sweep alone: what it names must not depend on the present folder.
    """
    written = expand_path(text)
    path = (folder / written).absolute()
    if not os.path.lexists(path) and os.path.lexists(written):
        raise ValueError(
            f"{text!r} is not beside the sweep, where relative paths are looked for, but in the present folder; "
            f"write {written.absolute()}"
        )
    return path


def pointer_problem(path: Path) -> str:
    """What is wrong with a file that Git LFS has not fetched; empty if nothing is, or its reader will have to tell."""
    try:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) != _POINTER:
                return ""
    except OSError:
        return ""
    return f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"


def check_temporary_folder() -> Path:
    """The folder of temporary files. TemporaryFolderError if there is none that can be written, without which torch
    and datasets, for example, cannot even be imported.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise TemporaryFolderError(error, "temporary files cannot be written") from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is deleted at the end; TemporaryFolderError if it cannot be created, or if it is full."""
    base = check_temporary_folder()
    try:
        folder = tempfile.TemporaryDirectory(prefix="hpc-bench-", dir=base, ignore_cleanup_errors=True)
    except OSError as error:
        raise TemporaryFolderError(error, f"the temporary folder {base}") from error
    with folder:
        try:
            yield Path(folder.name)
        except Exception as error:
            if full := _no_room(error):
                raise TemporaryFolderError(full, f"the temporary folder {base}") from error
            raise


def _no_room(error: BaseException | None) -> OSError | None:
    """The error of a full disk that an error is, or was caused by."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None
