"""Where a benchmark's rows come from: a data set on the Hugging Face hub, or the same schema in local files."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from hpc_bench.errors import PluginError, SweepError
from hpc_bench.hub import HubRepo, fetch_data

__all__ = ["Row", "digest_data", "digest_files", "find_data", "read_hub", "read_local", "require_columns"]

Row: TypeAlias = Mapping[str, Any]

_READERS = {".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
_DATA_SUFFIXES = (*_READERS, ".arrow")


def find_data(data: str, subset: str) -> Path:
    """The file or folder that holds a subset: `data` itself, or <subset>.jsonl, .parquet, .csv or a folder in it."""
    root = Path(data).expanduser()
    if root.is_file() or _is_saved(root):
        return root
    candidates = [root / f"{subset}{suffix}" for suffix in _READERS]
    for path in [*candidates, root / subset]:
        if path.exists():
            return path
    raise SweepError(f"{data} holds no {subset}.jsonl, .parquet, .csv or folder {subset}/", "data")


def digest_data(path: Path) -> str:
    """The sha256 of a data file, or of a folder's data files taken together; names and paths do not enter."""
    return digest_files(_data_files(path))


def digest_files(files: Sequence[Path]) -> str:
    """The sha256 of a file, or of several taken together, in their order; names and paths do not enter."""
    digests = [_digest_file(file, file.stat().st_mtime_ns) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def read_local(path: Path) -> list[Row]:
    """The rows of a .jsonl, .parquet or .csv file, of a folder of them, or of a folder made by `save_to_disk`."""
    import datasets

    try:
        if _is_saved(path):
            saved = datasets.load_from_disk(str(path))
            return list(saved["test"] if isinstance(saved, dict) else saved)
        return _read_files(_data_files(path))
    except (datasets.exceptions.DatasetsError, KeyError, OSError, ValueError) as error:
        raise PluginError(f"{path} cannot be read: {_first_line(error)}") from error


def read_hub(repo: HubRepo) -> list[Row]:
    """The rows of the test split of a data set on the hub, or in the hub's local cache."""
    import datasets

    files = fetch_data(repo)
    try:
        return _read_files(files)
    except (datasets.exceptions.DatasetsError, KeyError, OSError, ValueError) as error:
        raise PluginError(f"{repo.title} cannot be read: {_first_line(error)}") from error


def _read_files(files: Sequence[Path]) -> list[Row]:
    import datasets

    reader = _READERS[files[0].suffix]
    # datasets locks and writes its cache, which shared filesystems may not bear: it gets one of its own.
    with tempfile.TemporaryDirectory(prefix="hpc-bench-") as cache:
        names = [str(file) for file in files]
        return list(datasets.load_dataset(reader, data_files=names, split="train", cache_dir=cache))


def require_columns(rows: Sequence[Row], columns: Iterable[str], where: str) -> None:
    """PluginError if there are no rows, or if a column is missing; it names the columns expected and found."""
    if not rows:
        raise PluginError(f"{where} holds no rows")
    expected, found = list(columns), list(rows[0])
    if missing := [column for column in expected if column not in found]:
        raise PluginError(
            f"{where} lacks {', '.join(missing)} (columns expected: {', '.join(expected)}; found: {', '.join(found)})"
        )


def _is_saved(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _data_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in _READERS:
            raise SweepError(f"{path} is neither .jsonl, .parquet nor .csv", "data")
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in _DATA_SUFFIXES and file.is_file())
    if not files:
        raise SweepError(f"{path} holds no .jsonl, .parquet, .csv or save_to_disk data", "data")
    return files


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
