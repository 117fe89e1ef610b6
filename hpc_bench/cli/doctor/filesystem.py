"""Whether the results folder's filesystem keeps the promises that the protocol rests on."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpc_bench.cli.doctor.finding import Finding, ok, warning, wrong
from hpc_bench.cli.doctor.probe import clock_ahead_s, write_latency_s
from hpc_bench.files import link_problem, write_whole

__all__ = ["check_filesystem", "clock", "filesystem_type", "latency", "nearest_folder", "scratch", "space"]

SLOW_WRITE_S, CLOCK_OFF_S = 0.05, 5.0
LITTLE_SPACE_GB, FEW_INODES = 5.0, 10_000
LOCAL_TYPES = frozenset({"tmpfs", "ramfs", "overlay", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"})


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists; NotADirectoryError if a file is in the way."""
    path = path.absolute()
    while not os.path.lexists(path):
        path = path.parent
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder")
    return path


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A hidden folder in `folder` for all that the checks write; it goes away whatever happens."""
    work = Path(tempfile.mkdtemp(prefix=".hpc-bench-doctor-", dir=folder))
    try:
        yield work
    finally:
        for _ in range(10):  # on NFS, files that a job on another node holds open keep a folder from going away
            shutil.rmtree(work, ignore_errors=True)
            if not work.exists():
                break
            time.sleep(0.5)


def check_filesystem(work: Path) -> Iterator[Finding]:
    """Each promise tried out in the scratch folder."""
    checks: tuple[tuple[str, Callable[[str, Path], Finding]], ...] = (
        ("link", _link),
        ("rename", _rename),
        ("replace", _replace),
        ("write latency", lambda name, work: latency(name, write_latency_s(work))),
        ("clock", lambda name, work: clock(name, clock_ahead_s(work))),
    )
    for name, check in checks:
        try:
            yield check(name, work)
        except OSError as error:
            yield wrong(name, str(error), "choose a base_result_dir on a filesystem that can do this")


def _link(name: str, work: Path) -> Finding:
    problem = link_problem(work)
    if not problem:
        return ok(name, "a name can be taken once only, by a hard link")
    return wrong(name, f"{problem}, so claims cannot work here", "choose a base_result_dir on another filesystem")


def _rename(name: str, work: Path) -> Finding:
    for folder in ("new", "standing"):
        (work / folder).mkdir()
        (work / folder / folder).touch()
    try:
        (work / "new").rename(work / "standing")
    except OSError:
        if (work / "standing" / "standing").exists():
            (work / "new").rename(work / "published")
            return ok(name, "a folder is published by rename, and never over one that stands")
    remedy = "choose a base_result_dir on another filesystem"
    return wrong(name, "a rename replaced a folder that was not empty, so results could be lost", remedy)


def _replace(name: str, work: Path) -> Finding:
    for text in ("old", "new"):
        write_whole(work / "replace", text)
    if (work / "replace").read_text() == "new":
        return ok(name, "a file is replaced whole")
    remedy = "choose a base_result_dir on another filesystem"
    return wrong(name, "a replaced file still shows its old text", remedy)


def latency(name: str, seconds: float) -> Finding:
    """Judges the median of small synced writes."""
    message = f"a small synced write takes {seconds * 1000:.1f} ms"
    if seconds <= SLOW_WRITE_S:
        return ok(name, message)
    return warning(name, f"{message}; samples and heartbeats take that long each", "choose a faster filesystem")


def clock(name: str, ahead_s: float) -> Finding:
    """Judges how far a host's clock is ahead of the filesystem's."""
    if abs(ahead_s) <= CLOCK_OFF_S:
        return ok(name, f"{abs(ahead_s):.2f} s from the filesystem's")
    way = "ahead of" if ahead_s > 0 else "behind"
    message = f"{abs(ahead_s):.0f} s {way} the filesystem's; harmless to hpc-bench, which goes by the filesystem's"
    return warning(name, message, "have the machine's clock synchronized (NTP)")


def filesystem_type(folder: Path, *, must_be_shared: bool) -> Finding:
    """What the mount table calls the folder's filesystem."""
    kind, mount = _mount_of(folder)
    message = f"{kind}, mounted at {mount}"
    if kind in LOCAL_TYPES and must_be_shared:
        remedy = "--probe finds out; if it is, choose a base_result_dir on the shared filesystem"
        return warning("filesystem", f"{message}: is it local to this node?", remedy)
    if kind in ("tmpfs", "ramfs"):
        return warning("filesystem", f"{message}: it is lost at a restart", "choose a base_result_dir on a disk")
    return ok("filesystem", message)


def _mount_of(folder: Path) -> tuple[str, str]:
    """Type and mount point of the filesystem that holds a folder (proc(5), mountinfo)."""
    best, folder = ("unknown", "/"), folder.resolve()
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        place, _, source = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place.split()[4])
        if folder.is_relative_to(point) and len(point) >= len(best[1]):
            best = (source.split()[0], point)
    return best


def space(name: str, folder: Path, enough_gb: float = LITTLE_SPACE_GB) -> Finding:
    """Judges the free space, and the number of files that may still be made."""
    figures = os.statvfs(folder)
    free_gb = figures.f_bavail * figures.f_frsize / 1e9
    counted = figures.f_files > 0  # some filesystems make inodes as they go
    message = f"{folder}: {free_gb:.1f} GB free" + (f", {figures.f_favail} more files" if counted else "")
    if free_gb < enough_gb or (counted and figures.f_favail < FEW_INODES):
        return warning(name, f"{message}; quotas may allow less", "make room, or choose another folder")
    return ok(name, message)
