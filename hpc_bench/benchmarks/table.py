"""Benchmarks whose samples are the rows of a data set: on the hub, or the same columns in local files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hpc_bench.benchmarks.base import Benchmark, Tokens
from hpc_bench.benchmarks.rows import Row, digest_data, find_data, read_hub, read_local, require_columns
from hpc_bench.errors import PluginError, SweepError
from hpc_bench.hub import HubRepo
from hpc_bench.hub_files import DEFAULT
from hpc_bench.records import Json, Sample

__all__ = ["TableBenchmark"]


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
    task_column: ClassVar[str] = "task"
    """Where one table holds several subsets: the column that tells them apart."""

    data: str | None = None
    """A local folder with <configuration>.jsonl, .parquet, .csv or a folder of that name, or one file or `save_to_disk`
    folder whose rows say their subset in the task column. None: the hub."""
    revision: str = "main"
    """Of the data set on the hub."""

    def __post_init__(self) -> None:
        if self.data is not None and not Path(self.data).expanduser().exists():
            raise ValueError(f"data: {self.data} does not exist; give a file or folder, or leave it out to use the hub")

    def configuration(self, subset: str | None) -> str:
        """Where a subset lies: the data set's configuration, and the name of the local file."""
        return subset or DEFAULT

    def task(self, subset: str | None) -> str | None:  # noqa: ARG002
        """What the task column says in a subset's rows; None: all rows of the configuration are the subset's."""
        return None

    @abstractmethod
    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """The sample in a row; `index`: its place in the table."""

    def identity(self, subset: str | None) -> dict[str, Json]:
        """Local data by sha256, the hub's by name and revision."""
        options = {key: value for key, value in super().identity(subset).items() if key not in ("data", "revision")}
        if self.data is not None:
            return {**options, "sha256": digest_data(find_data(self.data, self.configuration(self._known(subset))))}
        return {**options, "data": self.hub_name, "revision": self.revision}

    def hub_data(self, subset: str | None) -> HubRepo | None:
        """The subset's configuration, unless local data was named."""
        if self.data is not None:
            return None
        return HubRepo("dataset", self.hub_name, self.revision, self.configuration(self._known(subset)), self.split)

    def load(self, subset: str | None, tokens: Tokens) -> Iterable[Sample]:  # noqa: ARG002
        """All rows, those of one context next to each other; a sample's id is its place in the table."""
        name = self._known(subset)
        by_context: dict[str, list[Sample]] = {}
        for index, row in self._rows(name):
            sample = self.to_sample(index, row, name)
            by_context.setdefault(sample.context, []).append(sample)
        return [sample for group in by_context.values() for sample in group]

    def _known(self, subset: str | None) -> str | None:
        if subset is None and self.subsets:
            raise SweepError(f"needs one of the subsets {', '.join(self.subsets)}")
        return subset if subset is None else self.check_subset(subset)

    def _rows(self, subset: str | None) -> list[tuple[int, Row]]:
        """The subset's rows with their places; PluginError if a column is missing or there are none."""
        task, configuration = self.task(subset), self.configuration(subset)
        if self.data is None:
            on_hub = HubRepo("dataset", self.hub_name, self.revision, configuration, self.split)
            rows, where = read_hub(on_hub), on_hub.title
        else:
            path = find_data(self.data, configuration)
            rows, where = read_local(path), str(path)
            if task is None and path == Path(self.data).expanduser() and len(self.subsets) > 1:
                task = subset
        require_columns(rows, self.columns if task is None else (*self.columns, self.task_column), where)
        return list(enumerate(rows)) if task is None else self._rows_of(task, rows, where)

    def _rows_of(self, task: str, rows: Sequence[Row], where: str) -> list[tuple[int, Row]]:
        chosen = [(index, row) for index, row in enumerate(rows) if row[self.task_column] == task]
        if not chosen:
            found = ", ".join(sorted({str(row[self.task_column]) for row in rows}))
            raise PluginError(f"{where} holds no rows of task {task} (has: {found})")
        return chosen
