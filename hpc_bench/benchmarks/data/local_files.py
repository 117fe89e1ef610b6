"""Which local files hold a subset's rows, and what columns a file has."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpc_bench.errors import SweepError
from hpc_bench.hub_files import DEFAULT
from hpc_bench.places import pointer_problem

__all__ = ["FORMATS", "columns_of", "data_files", "find_data", "is_saved", "named_path"]

FORMATS = (".jsonl", ".parquet", ".csv")
_SUFFIXES = (*FORMATS, ".arrow")
_MOST_FILES = 100_000
"""In a folder of one data set; a whole filesystem is not searched for tables."""
_SPLIT = re.compile(r"(train|validation|valid|dev|test)(?:[-.].*)?")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\..*)")
"""As `push_to_hub` and `save_to_disk` name the parts of a split."""


def named_path(option: str, text: str) -> Path:
    """The path that an option names, `~` resolved; ValueError if nothing is there, or it cannot be looked at."""
    if not text.strip():
        raise ValueError(f"{option}: is empty; give a file or folder")
    try:
        path = Path(text).expanduser()
        found, usable = path.exists(), path.is_file() or path.is_dir()
    except (OSError, RuntimeError) as error:  # a closed or too long path; ~ of a user whom nobody knows
        raise ValueError(f"{option}: {text} cannot be used: {error}; give another file or folder") from error
    if not found:
        raise ValueError(f"{option}: {text} does not exist; give a file or folder that does")
    if not usable:
        raise ValueError(f"{option}: {text} is a device, a pipe or a socket; give a file or folder")
    return path


def find_data(data: str, subset: str) -> Path:
    """The file or folder that holds a subset: `data` itself, or <subset>.jsonl, .parquet, .csv or a folder in it.

    A folder of files is itself the table of a data set that has one only.
    """
    root = Path(data).expanduser()
    if root.is_file() or is_saved(root):
        return root
    candidates = [root / f"{subset}{suffix}" for suffix in FORMATS]
    for path in [*candidates, root / subset]:
        if path.is_file() or path.is_dir():
            return path
        if path.exists():
            raise SweepError(f"{path} is a device, a pipe or a socket; put a file or folder there", "data")
    if subset == DEFAULT and _tables_in(root):
        return root
    raise SweepError(f"{data} holds no {subset}.jsonl, .parquet, .csv or folder {subset}/", "data")


def is_saved(path: Path) -> bool:
    """Whether `save_to_disk` made a folder."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def data_files(path: Path, split: str) -> list[Path]:
    """A file, or the files of a folder; where their names tell splits apart, those of `split` and of none."""
    files = _data_files(path, split)
    for file in files:
        if problem := pointer_problem(file):
            raise SweepError(problem, "data")
    return files


def _data_files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        if path.suffix not in FORMATS:
            raise SweepError(f"{path} is neither .jsonl, .parquet nor .csv", "data")
        return [path]
    files = _tables_in(path)
    if not files:
        raise SweepError(f"{path} holds no .jsonl, .parquet, .csv or save_to_disk data", "data")
    if is_saved(path):
        return files
    splits = {file: _split_of(file.relative_to(path)) or split for file in files}
    chosen = [file for file in files if splits[file] == split]
    if not chosen:
        raise SweepError(f"{path} has no split {split} (found: {', '.join(sorted(set(splits.values())))})", "data")
    if len(kinds := {file.suffix for file in chosen}) > 1 or kinds == {".arrow"}:
        raise SweepError(f"{path} holds {', '.join(sorted(kinds))} files; keep .jsonl, .parquet or .csv alone", "data")
    _refuse_lacking(chosen, path)
    return chosen


def _tables_in(folder: Path) -> list[Path]:
    """Without hidden ones, such as the copies that editors leave."""
    tables: list[Path] = []
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        tables += [Path(place, name) for name in names if name[0] != "." and name.endswith(_SUFFIXES)]
        seen += len(names) + len(folders)
        if seen > _MOST_FILES:
            raise SweepError(
                f"{folder} holds more than {_MOST_FILES:,} files; name the folder of the data alone", "data"
            )
    return sorted(file for file in tables if file.is_file())


def _split_of(path: Path) -> str | None:
    """What the name of a file, or of a folder that it lies in, says of its split."""
    return next((found[1] for part in reversed(path.parts) if (found := _SPLIT.fullmatch(part))), None)


def _refuse_lacking(files: Sequence[Path], folder: Path) -> None:
    """SweepError names the parts of a table that others of its parts count, and that are not there."""
    names = {file.name for file in files}
    lacking = [name for name in _counted(names) if name not in names]
    if lacking:
        raise SweepError(f"{folder} lacks {', '.join(lacking[:3])}: copy all parts of the table", "data")


def _counted(names: Iterable[str]) -> list[str]:
    parts = {(found[1], int(found[3]), found[4]) for name in names if (found := _SHARD.fullmatch(name))}
    return [f"{stem}-{n:05d}-of-{count:05d}{suffix}" for stem, count, suffix in sorted(parts) for n in range(count)]


def columns_of(path: Path) -> list[str] | None:
    """The columns of a .jsonl, .parquet or .csv file; None for a folder, whose files are read when it is loaded.

    ValueError if the file is no such file, or empty.
    """
    if path.is_dir():
        return None
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: {path.suffix or 'no ending'} is none of {', '.join(FORMATS)}; give such a file")
    try:
        if problem := pointer_problem(path):
            raise ValueError(problem)
        if path.suffix == ".parquet":
            return _parquet_columns(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = next(csv.reader(file), []) if path.suffix == ".csv" else _first_keys(file.readline())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    except (csv.Error, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not columns:
        raise ValueError(f"{path} does not begin with a row that has columns")
    return columns


def _first_keys(line: str) -> list[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return list(row) if isinstance(row, dict) else []


def _parquet_columns(path: Path) -> list[str]:
    import pyarrow.lib
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except pyarrow.lib.ArrowException as error:
        raise ValueError(f"{path} is no parquet file: {str(error).splitlines()[0]}") from error
