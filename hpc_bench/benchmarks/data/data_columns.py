"""The columns of a local data file, read without loading it, so that planning can refuse a wrong one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from hpc_bench.benchmarks.data.local_files import FORMATS

__all__ = ["columns_of"]


def columns_of(path: Path) -> list[str] | None:
    """The columns of a .jsonl, .parquet or .csv file; None for a folder, whose files are read when it is loaded.

    ValueError if the file is no such file, or empty.
    """
    if path.is_dir():
        return None
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: {path.suffix or 'no ending'} is none of {', '.join(FORMATS)}; give such a file")
    try:
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
