"""Where a benchmark's rows come from: a data set on the Hugging Face hub, or the same schema in local files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from hpc_bench.benchmarks.data.local_files import data_files, is_saved
from hpc_bench.benchmarks.data.readers import PlacedRow, Row, placed_rows, read_files
from hpc_bench.errors import DatasetError, HubError, TemporaryFolderError
from hpc_bench.hub import fetch_data, list_data
from hpc_bench.places import check_temporary_folder
from hpc_bench.values import HubRepo

__all__ = ["PlacedRow", "Row", "digest_data", "digest_files", "read_hub", "read_local", "require_columns"]


def digest_data(path: Path, split: str) -> str:
    """The sha256 of a data file, or of a folder's data files taken together; names and paths do not enter."""
    return digest_files(data_files(path, split))


def digest_files(files: Sequence[Path]) -> str:
    """The sha256 of a file, or of several taken together, in their order; names and paths do not enter."""
    digests = [_digest_file(file, file.stat().st_mtime_ns) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def read_local(path: Path, split: str) -> list[PlacedRow]:
    """The rows of a .jsonl, .parquet or .csv file, of a folder of them, or of a folder made by `save_to_disk`.

    Where a folder holds several splits, those of `split`.
    """
    check_temporary_folder()
    import datasets

    try:
        files = data_files(path, split)
        if is_saved(path):
            return placed_rows(enumerate(_saved_rows(path, split), 1), "row", path, alone=True)
        return read_files(files)
    except TemporaryFolderError:
        raise
    except (datasets.exceptions.DatasetsError, KeyError, OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read: {_first_line(error)}; fix or replace it") from error


def _saved_rows(path: Path, split: str) -> Iterable[Row]:
    """DatasetError names the splits that are there if `split` is none of them."""
    import datasets

    saved = datasets.load_from_disk(str(path))
    if not isinstance(saved, dict):
        return saved  # type: ignore[no-any-return]
    if split not in saved:
        raise DatasetError(f"{path} has no split {split} (found: {', '.join(saved)}); save it under that name")
    return saved[split]  # type: ignore[no-any-return]


def read_hub(repo: HubRepo) -> list[PlacedRow]:
    """The rows of a split of a data set on the hub, or in the hub's local cache."""
    check_temporary_folder()
    import datasets

    files = _fetch(repo)
    try:
        return read_files(files)
    except TemporaryFolderError:
        raise
    except (datasets.exceptions.DatasetsError, KeyError, OSError, ValueError, RecursionError) as error:
        advice = "name another revision, or delete it from the hub's cache"
        raise DatasetError(f"{repo.title} cannot be read: {_first_line(error)}; {advice}") from error


def _fetch(repo: HubRepo) -> list[Path]:
    """Without the list of its files no subset can be had; with it, those that are in the cache can."""
    try:
        folder, paths = list_data(repo)
    except HubError as error:
        raise DatasetError(str(error), whole=True) from error
    try:
        return fetch_data(repo, folder, paths)
    except HubError as error:
        raise DatasetError(str(error)) from error


def require_columns(rows: Sequence[PlacedRow], columns: Iterable[str]) -> None:
    """DatasetError if there are no rows, or if a column is missing; it names the columns expected and found."""
    if not rows:
        raise DatasetError("holds no rows")
    expected, found = list(columns), list(rows[0].values)
    if missing := [column for column in expected if column not in found]:
        raise DatasetError(
            f"lacks {', '.join(missing)} (columns expected: {', '.join(expected)}; found: {', '.join(found)})"
        )


@lru_cache(1000)
def _digest_file(path: Path, changed_ns: int) -> str:  # noqa: ARG001
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
