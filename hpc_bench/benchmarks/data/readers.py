"""The rows in data files, with every text as it was written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from hpc_bench.errors import DatasetError

__all__ = ["Row", "read_files"]

Row: TypeAlias = Mapping[str, Any]

_LISTS = ("answer", "answers", "all_classes")
"""Columns that may hold lists; a .csv has them as JSON."""


def read_files(files: Sequence[Path]) -> list[Row]:
    """The rows of .jsonl, .parquet or .csv files of one kind; a value that a row lacks is None.

    DatasetError for an empty file, else what its reader raises: OSError, ValueError, or an error of datasets.
    """
    for file in files:
        if not file.stat().st_size:
            raise DatasetError(f"{file} is empty; put it back whole")
    return _READERS[files[0].suffix](files)


def _read_jsonl(files: Sequence[Path]) -> list[Row]:
    """By json, since the reader of datasets makes dates of texts that look like dates."""
    rows = [row for file in files for row in _lines(file)]
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object, but {line.strip()[:50]!r}")
            yield row


def _read_csv(files: Sequence[Path]) -> list[Row]:
    """By pandas, as text alone: the reader of datasets makes 7 of 007."""
    import pandas as pd

    rows: list[Row] = []
    for file in files:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        rows += [{str(column): value for column, value in record.items()} for record in records]
    return [{**row, **{column: _as_list(row[column]) for column in _LISTS if column in row}} for row in rows]


def _as_list(cell: Any) -> Any:
    """The list that a .csv has as JSON; None where it has nothing."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):  # a text may begin so, too
            return json.loads(cell)
    return None if cell == "" else cell


def _read_parquet(files: Sequence[Path]) -> list[Row]:
    import datasets

    # datasets locks and writes its cache, which shared filesystems may not bear: it gets one of its own.
    with tempfile.TemporaryDirectory(prefix="hpc-bench-") as cache, _quietly():
        made = datasets.load_dataset_builder("parquet", data_files=list(map(str, files)), cache_dir=cache)
        made.download_and_prepare()
        return list(made.as_dataset("train")) if made.info.splits["train"].num_examples else []


@contextmanager
def _quietly() -> Iterator[None]:
    """What datasets says of a bad file is in the error that it raises, and its bars would stand in users' logs."""
    import datasets

    verbosity, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


_READERS: Mapping[str, Callable[[Sequence[Path]], list[Row]]] = MappingProxyType(
    {".jsonl": _read_jsonl, ".parquet": _read_parquet, ".csv": _read_csv}
)
