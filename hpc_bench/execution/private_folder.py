"""A folder for its owner alone, since what lies in it is executed: submitit's pickles, models' own code."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from hpc_bench.errors import ExecutionError

__all__ = ["make_private"]

_OWNER_ALONE = 0o700


def make_private(folder: Path) -> None:
    """Creates the folder with mode 0700 whatever the umask; one that others can only read is closed to them.

    ExecutionError where others may have put something into it. Who may write to the folders above is not checked.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=_OWNER_ALONE)
    owner = folder.lstat().st_uid
    if owner != os.geteuid():
        raise ExecutionError(
            f"{folder}: belongs to {_user(owner)}, and what lies in it would be executed as you; submit with --new, or "
            "choose another base_result_dir"
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ExecutionError(
                f"{folder}: others may write to it, and what lies in it is executed as you; make sure that all of it "
                f"is yours and run `chmod go-w {shlex.quote(str(folder))}`, or choose another base_result_dir"
            )
        if mode & 0o777 != _OWNER_ALONE:
            os.fchmod(descriptor, mode & ~0o777 | _OWNER_ALONE)
    finally:
        os.close(descriptor)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # of another machine, or a container's
        return f"user {uid}"
