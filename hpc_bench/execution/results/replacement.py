"""Changes several files of a folder at once, on any filesystem: readers see all old ones or all new ones, whenever the
program that changes them dies.

One rename brings the new files in, as the folder `.next`: from then on they are in force, since readers look there
first (`current`). What follows can be broken off and taken up by anybody: the files move to their places one by one,
and the old ones, which `.next` brought along as links, become the folder `earlier/<k>`.
"""

from __future__ import annotations

import itertools
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpc_bench.files import list_names, sync_folder, sync_tree

__all__ = ["UnfinishedError", "current", "finish_replacing", "replace_files", "version_of", "workplace"]

_NEXT, _EARLIER = ".next", "earlier"


class UnfinishedError(OSError):
    """The new files are in force, but not all in their places; `finish_replacing` does the rest."""


def current(folder: Path, name: str) -> Path:
    """Where the file of this name lies that is in force."""
    coming = folder / _NEXT / name
    return coming if coming.exists() else folder / name


def version_of(folder: Path) -> object:
    """Differs before and after a reading in which files may have been replaced, which must then be done again."""
    try:
        return folder.stat().st_ctime_ns, sorted(list_names(folder / _NEXT))
    except OSError:
        return None


def replace_files(folder: Path, prepared: Path) -> None:
    """Puts the files of `prepared`, a folder of the same filesystem, in the place of those in `folder`, and keeps these
    in `earlier/<k>`. OSError: the old ones are still in force, unless it is an UnfinishedError.
    """
    finish_replacing(folder)
    before = folder.stat()
    sync_tree(prepared)
    names = list(list_names(prepared))
    (prepared / _EARLIER).mkdir()
    for name in names:
        with suppress(FileNotFoundError):
            _keep(folder / name, prepared / _EARLIER / name)
    sync_folder(prepared)
    try:
        prepared.rename(folder / _NEXT)
    except OSError:
        if prepared.exists():  # else it happened all the same, as on NFS
            raise
    try:
        sync_folder(folder)
        finish_replacing(folder)
    except OSError as error:
        raise UnfinishedError(f"not all new files are in their places yet ({error})") from error
    with suppress(OSError):  # its time says when the result was made
        os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def _keep(file: Path, place: Path) -> None:
    """As a link, or as a copy where the filesystem has no links from one folder to another."""
    try:
        os.link(file, place)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(file, place)


def finish_replacing(folder: Path) -> None:
    """Moves files that are in force already to their places, where a replacement was broken off."""
    coming = folder / _NEXT
    if not coming.exists():
        return
    _keep_earlier(coming / _EARLIER, folder / _EARLIER)
    for name in sorted(set(list_names(coming)) - {_EARLIER}):
        with suppress(FileNotFoundError):  # somebody else moved it
            (coming / name).replace(folder / name)
    with suppress(OSError):
        coming.rmdir()
    sync_folder(folder)


def _keep_earlier(links: Path, shelf: Path) -> None:
    """Gives the old files the first free number."""
    if not links.exists():
        return
    shelf.mkdir(exist_ok=True)
    for number in itertools.count(1):
        place = shelf / str(number)
        if place.exists():
            continue
        try:
            links.rename(place)
        except FileNotFoundError:
            return
        except OSError:
            if not place.exists():
                raise
            continue
        return


@contextmanager
def workplace(parent: Path, key: str) -> Iterator[Path]:
    """A folder that nobody else writes to, gone afterwards."""
    place = parent / f"{key}.{platform.node()}.{os.getpid()}.{secrets.token_hex(8)}"
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            parent.rmdir()
