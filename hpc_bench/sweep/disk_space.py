"""How much may still be written to a folder: free space, and the user's quota where a command tells it."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from pathlib import Path

__all__ = ["free_bytes", "quota_left"]

_TIMEOUT_S = 10
_USAGE = re.compile(r"\s(\d+)\*?\s+(\d+)\s+(\d+)\s")
"""After a filesystem's name: KiB in use (* above the quota), quota, limit; 0 is no limit. The line may be wrapped."""


def free_bytes(folder: Path) -> int:
    """What the filesystem of a folder, which need not exist yet, has left."""
    return shutil.disk_usage(_nearest(folder)).free


def quota_left(folder: Path) -> int | None:
    """The bytes that the user's quota leaves; None where neither `lfs quota` nor `quota` names one."""
    place = str(_nearest(folder))
    for command in (["lfs", "quota", "-q", "-u", getpass.getuser(), place], ["quota", "-w", "-f", place]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):  # not installed, or its server is silent
            continue
        if found := _USAGE.search(done.stdout):  # its exit code is not 0 where a quota is exceeded
            used, soft, hard = map(int, found.groups())
            if soft or hard:
                return max(0, (soft or hard) - used) * 1024
    return None


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
