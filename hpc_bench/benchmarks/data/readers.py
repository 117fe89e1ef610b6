"""The rows in data files, with every text as it was written, and where each of them is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from hpc_bench.benchmarks.data.csv_file import read_csv
from hpc_bench.benchmarks.data.texts import warn_of_halves, without_halves
from hpc_bench.errors import DatasetError
from hpc_bench.places import temporary_folder

__all__ = ["PlacedRow", "Row", "placed_rows", "read_files"]

Row: TypeAlias = Mapping[str, Any]

_Numbered: TypeAlias = "Iterable[tuple[int, Row]]"
"""Rows with their numbers in a file."""


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row, and where it is, as messages name it."""

    values: Row
    place: str
    """`line 3` of a text file, `row 3` of a table; both begin at 1. Behind the file's name, where there are several."""


def read_files(files: Sequence[Path]) -> list[PlacedRow]:
    """The rows of .jsonl, .parquet or .csv files of one kind; a value that a row lacks is None.

    DatasetError for an empty file, else what its reader raises: OSError, ValueError, or an error of datasets.
    """
    for file in files:
        if not file.stat().st_size:
            raise DatasetError(f"{file} is empty; put it back whole")
    return _READERS[files[0].suffix](files)


def placed_rows(rows: _Numbered, unit: str, file: Path, *, alone: bool) -> list[PlacedRow]:
    """The rows of a file; `unit`: what its rows are counted in, `alone`: whether there is no other file.

    Characters that no prompt can hold are replaced, and a warning says so once.
    """
    placed, mended = [], []
    for number, row in rows:
        place = f"{unit} {number}" if alone else f"{file.name}: {unit} {number}"
        values = without_halves(row)
        if values != row:
            mended.append(place)
        placed.append(PlacedRow(values, place))
    if mended:
        warn_of_halves(file, f"rows: {len(mended)}, the first: {mended[0]}")
    return placed


def _read_text(files: Sequence[Path], read: Callable[[Path], _Numbered]) -> list[PlacedRow]:
    """The rows of text files, each with all columns that any of them has; ValueError names the file of several."""
    alone, rows = len(files) == 1, list[PlacedRow]()
    for file in files:
        try:
            rows += placed_rows(read(file), "line", file, alone=alone)
        except ValueError as error:
            if alone:
                raise
            raise ValueError(f"{file.name}: {error}") from None
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return [PlacedRow({column: row.values.get(column) for column in columns}, row.place) for row in rows]


def _read_jsonl(files: Sequence[Path]) -> list[PlacedRow]:
    """By json, since the reader of datasets makes dates of texts that look like dates."""
    return _read_text(files, _lines)


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
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
            yield number, row


def _read_csv(files: Sequence[Path]) -> list[PlacedRow]:
    """By csv, since pandas makes an index of a first field too many."""
    return _read_text(files, read_csv)


def _read_parquet(files: Sequence[Path]) -> list[PlacedRow]:
    import datasets
    import pyarrow.parquet

    # datasets locks and writes its cache, which shared filesystems may not bear: it gets one of its own.
    with temporary_folder() as cache, _quietly():
        made = datasets.load_dataset_builder("parquet", data_files=list(map(str, files)), cache_dir=str(cache))
        made.download_and_prepare()
        rows = iter(made.as_dataset("train") if made.info.splits["train"].num_examples else [])
        placed: list[PlacedRow] = []
        for file in files:
            own = enumerate(islice(rows, pyarrow.parquet.read_metadata(file).num_rows), 1)
            placed += placed_rows(own, "row", file, alone=len(files) == 1)
        return placed


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


_READERS: Mapping[str, Callable[[Sequence[Path]], list[PlacedRow]]] = MappingProxyType(
    {".jsonl": _read_jsonl, ".parquet": _read_parquet, ".csv": _read_csv}
)
