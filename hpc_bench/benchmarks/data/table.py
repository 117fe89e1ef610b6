"""Benchmarks whose samples are the rows of a data set: on the hub, or the same columns in local files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hpc_bench.benchmarks.base import Benchmark, Tokens
from hpc_bench.benchmarks.data.local_files import find_data, named_path
from hpc_bench.benchmarks.data.readers import PlacedRow, Row
from hpc_bench.benchmarks.data.rows import digest_data, read_hub, read_local, require_columns
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.hub_files import DEFAULT
from hpc_bench.options import doc
from hpc_bench.values import HubRepo, Json, Sample

__all__ = ["TableBenchmark"]


@dataclass(frozen=True)
class _Table:
    """The rows of a configuration, and where they are."""

    rows: list[PlacedRow]
    where: str
    holds_all: bool = False
    """Whether the rows of all subsets are in it, which the task column tells apart."""


@dataclass(frozen=True)
class TableBenchmark(Benchmark):
    """A benchmark that reads a data set.

    Subclasses name the data set and its columns, say which configuration (or local file) a subset lies in, and make a
    sample of a row. Where several subsets share one, a column says to which of them a row belongs.
    """

    hub_name: ClassVar[str]
    """Of the data set on the hub."""
    split: ClassVar[str] = "test"
    columns: ClassVar[tuple[str, ...]]
    """That every row must have."""
    text_columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix")
    """Those of them that hold text."""
    empty_columns: ClassVar[tuple[str, ...]] = ()
    """Those of them that hold text or nothing."""
    task_column: ClassVar[str] = "task"
    """Where one table holds several subsets: the column that tells them apart."""

    data: str | None = field(
        default=None,
        metadata={
            "file": True,
            **doc(
                "A local folder with <configuration>.jsonl, .parquet, .csv or a folder of that name, or one file or "
                "`save_to_disk` folder whose rows say their subset in the task column. None: the hub."
            ),
        },
    )
    revision: str = field(default="main", metadata=doc("Of the data set on the hub."))

    def __post_init__(self) -> None:
        if self.data is None:
            return
        named_path("data", self.data)
        if self.revision != type(self).revision:
            raise ValueError("revision has no effect with data; leave out one")

    def configuration(self, subset: str | None) -> str:
        """Where a subset lies: the data set's configuration, and the name of the local file."""
        return subset or DEFAULT

    def task(self, subset: str | None) -> str | None:  # noqa: ARG002
        """What the task column says in a subset's rows; None: all rows of the configuration are the subset's."""
        return None

    @abstractmethod
    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """The sample in a row; `index`: its place in the table, from 0.

        An error that it raises is shown with the file and line of the row.
        """

    def identity(self, subset: str | None) -> dict[str, Json]:
        """Local data by sha256, the hub's by name and revision."""
        options = {key: value for key, value in super().identity(subset).items() if key not in ("data", "revision")}
        if (path := self._local_path(self._known(subset))) is not None:
            return {**options, "sha256": digest_data(path, self.split)}
        return {**options, "data": self.hub_name, "revision": self.revision}

    def hub_data(self, subset: str | None) -> HubRepo | None:
        """The subset's configuration, unless local data was named."""
        if self.data is not None:
            return None
        return HubRepo("dataset", self.hub_name, self.revision, self.configuration(self._known(subset)), self.split)

    def check_data(self, subsets: Sequence[str | None]) -> None:
        """Makes every sample of local data, one table in memory at a time; the hub is not asked."""
        tables: dict[Path, list[str | None]] = {}
        for name in map(self._known, subsets):
            if (path := self._local_path(name)) is not None:
                tables.setdefault(path, []).append(name)
        for path, names in tables.items():
            self._check_table(path, names)

    def _check_table(self, path: Path, subsets: Iterable[str | None]) -> None:
        table = self._read_table(path)
        for subset in subsets:
            self._samples(subset, table)

    def load(self, subset: str | None, tokens: Tokens) -> Iterable[Sample]:  # noqa: ARG002
        """All rows, those of one context next to each other; a sample's id is its place in the table."""
        name = self._known(subset)
        if (path := self._local_path(name)) is not None:
            return self._samples(name, self._read_table(path))
        on_hub = HubRepo("dataset", self.hub_name, self.revision, self.configuration(name), self.split)
        return self._samples(name, _Table(read_hub(on_hub), on_hub.title))

    def _local_path(self, subset: str | None) -> Path | None:
        """The file or folder that a subset lies in; None: it is on the hub."""
        return None if self.data is None else find_data(self.data, self.configuration(subset))

    def _read_table(self, path: Path) -> _Table:
        """A local table; where `data` itself is one, it holds all subsets."""
        holds_all = self.data is not None and path == Path(self.data).expanduser() and len(self.subsets) > 1
        return _Table(read_local(path, self.split), str(path), holds_all)

    def _samples(self, subset: str | None, table: _Table) -> list[Sample]:
        task = subset if table.holds_all and self.task(subset) is None else self.task(subset)
        by_context: dict[str, list[Sample]] = {}
        with self._refused(table.where):
            require_columns(table.rows, self.columns if task is None else (*self.columns, self.task_column))
            for index, row in self._rows_of(task, table.rows):
                sample = self._placed_sample(index, row, subset)
                by_context.setdefault(sample.context, []).append(sample)
        return [sample for group in by_context.values() for sample in group]

    def _known(self, subset: str | None) -> str | None:
        if subset is None and self.subsets:
            raise SweepError(f"needs one of the subsets {', '.join(self.subsets)}")
        return subset if subset is None else self.check_subset(subset)

    def _rows_of(self, task: str | None, rows: Sequence[PlacedRow]) -> list[tuple[int, PlacedRow]]:
        """The subset's rows with their places; DatasetError if there are none."""
        if task is None:
            return list(enumerate(rows))
        chosen = [(index, row) for index, row in enumerate(rows) if row.values[self.task_column] == task]
        if not chosen:
            found = ", ".join(sorted({str(row.values[self.task_column]) for row in rows}))
            raise DatasetError(f"holds no rows of task {task} (has: {found})")
        return chosen

    def _placed_sample(self, index: int, row: PlacedRow, subset: str | None) -> Sample:
        """A row's sample; DatasetError says where the row is, whatever is wrong with it."""
        try:
            self._require_texts(row.values)
            return self.to_sample(index, row.values, subset)
        except (DatasetError, ValueError) as error:
            raise DatasetError(f"{row.place}: {error}") from error
        except (AttributeError, LookupError, TypeError) as error:
            raise DatasetError(f"{row.place}: {type(error).__name__}: {error}") from error

    def _require_texts(self, row: Row) -> None:
        for column in self.text_columns:
            value = row[column]
            if not isinstance(value, str) and not (value is None and column in self.empty_columns):
                raise DatasetError(f"{column} is {str(value)[:50]!r} ({type(value).__name__}), not text")

    @contextmanager
    def _refused(self, where: str) -> Iterator[None]:
        """Says of whatever is wrong with the rows where they are, and what can be done."""
        try:
            yield
        except DatasetError as error:
            other = "another `revision`, or local `data`" if self.data is None else "other `data`"
            raise DatasetError(f"{where}: {error}; name {other} with the columns {', '.join(self.columns)}") from error
