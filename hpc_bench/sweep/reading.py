"""Reads a sweep file into plain data, and its single values by key; an error says in one line what is wrong."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc_bench.errors import SweepError, in_file, within
from hpc_bench.places import expand_path
from hpc_bench.sweep.plain_yaml import load_yaml

__all__ = [
    "checked_name",
    "folder_at",
    "folder_of",
    "list_at",
    "positive_at",
    "read_yaml",
    "refuse_twice",
    "section_at",
    "switch_at",
    "text_at",
]

MAX_BYTES = 10_000_000


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; SweepError names the file, and key path and line where there are any."""
    with in_file(str(path)):
        data = load_yaml(_content(path))
        if data is None:
            raise SweepError("is empty; `hpc-bench init` writes a sweep to start from")
        if not isinstance(data, dict):
            raise SweepError("must be a mapping of keys such as model_names; `hpc-bench init` writes one")
        return data


def _content(path: Path) -> bytes:
    try:
        if _waits_for_a_writer(path):
            raise SweepError("is a pipe or a socket; name a sweep file")
        with path.open("rb") as file:  # may be /dev/zero
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SweepError(
            f"cannot be read: {error.strerror}; name a sweep file, or write one with `hpc-bench init`"
        ) from error
    if len(raw) > MAX_BYTES:
        raise SweepError(f"is larger than {MAX_BYTES:,} bytes, which no sweep needs")
    return raw


def _waits_for_a_writer(path: Path) -> bool:
    """Whether it could be waited for without end; what a shell hands over, as `<(...)` does, has a writer."""
    mode = path.stat().st_mode
    return (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and not _is_handed_over(path)


def _is_handed_over(path: Path) -> bool:
    return str(path).startswith(("/dev/fd/", "/proc/self/fd/")) or str(path) == "/dev/stdin"


def folder_of(path: Path) -> Path:
    """In which relative paths of a sweep file begin; the present folder, if a shell hands the sweep over."""
    return Path() if _is_handed_over(path) else path.parent


def checked_mapping(value: Any) -> dict[str, Any]:
    """A mapping whose keys are text; SweepError otherwise."""
    if not isinstance(value, Mapping):
        raise SweepError("must be a mapping of keys to values")
    for key in value:
        if not isinstance(key, str):
            raise SweepError(f"key {key!r} must be text; put it in quotes")
    return dict(value)


def section_at(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The section under a key, empty if it is left out; SweepError if it is no mapping."""
    with within(key):
        return {} if data.get(key) is None else checked_mapping(data[key])


def list_at(data: Mapping[str, Any], key: str, what: str) -> list[Any]:
    """The list under a key; SweepError unless it has an entry."""
    value = data.get(key)
    if not isinstance(value, list) or not value:
        raise SweepError(f"must be a list of {what}, with at least one entry", key)
    return value


def text_at(data: Mapping[str, Any], key: str) -> str:
    """The text under a key, which is a name, or for base_result_dir a path."""
    value = data.get(key)
    if not isinstance(value, str):
        raise SweepError("must be text", key)
    if key == "base_result_dir":
        if not value.strip() or not value.isprintable():
            raise SweepError("must be the path of a folder, without invisible characters", key)
        return value
    with within(key):
        return checked_name(value)


def folder_at(data: Mapping[str, Any], key: str) -> Path:
    """The folder under a key, `~` and variables resolved."""
    text = text_at(data, key)
    with within(key):
        return expand_path(text)


def positive_at(data: Mapping[str, Any], key: str) -> int | None:
    """The whole number under a key, None if it is left out; SweepError if it is below 1."""
    value = data.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise SweepError("must be a whole number of at least 1", key)
    return value


def switch_at(data: Mapping[str, Any], key: str) -> bool:
    """The switch under a key, off if it is left out."""
    value = data.get(key)
    if value is not None and not isinstance(value, bool):
        raise SweepError("must be true or false", key)
    return bool(value)


def checked_name(name: str) -> str:
    """A name that can stand in a path and on one line: no folders, nothing invisible, not too long."""
    if not re.search(r"\w", name) or "/" in name or "\\" in name or not name.isprintable() or len(name) > 100:
        raise SweepError(f"{name!r} cannot be used as a name; use letters, digits, dots, dashes and underscores")
    return name


def refuse_twice(names: list[str], *path: str) -> None:
    """SweepError if a name occurs twice."""
    for name, count in Counter(names).items():
        if count > 1:
            raise SweepError(f"{name!r} is named twice", *path)
