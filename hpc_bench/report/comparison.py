"""How far results are from those of a baseline attention config: differences with 95 % intervals from a paired
bootstrap over samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpc_bench.errors import ExecutionError, unknown_name
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.raw_results import SampleScores
from hpc_bench.report.averages import Group
from hpc_bench.report.bootstrap import percentiles, resample_means
from hpc_bench.report.cell import Cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Comparison", "Delta", "choose_baseline", "compare_cells"]

_ROUNDING = 0.05 + 1e-6
"""Benchmarks print their headline with at least one decimal."""
_ROWS_AT_ONCE = 250


@dataclass(frozen=True)
class Delta:
    """A score less the baseline's."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    """The interval's ends; None where there is no interval."""
    note: str = ""
    """Why there is no difference or no interval, or of which subsets it is."""
    subsets: int = 1
    """Over how many subsets an average's difference is."""

    @property
    def is_significant(self) -> bool | None:
        """Whether the interval excludes 0; None where there is no interval."""
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """The differences to one baseline."""

    baseline: str = ""
    """Empty: nothing is compared."""
    stubs: Mapping[str, Delta] = field(default_factory=dict)
    """Stub key -> its difference, for every stub with a score that is not the baseline's own."""
    averages: Mapping[tuple[str, str, str, str], Delta] = field(default_factory=dict)
    """Model, attention config, benchmark and the average's name -> the difference of the averages."""


def choose_baseline(header: Header, asked: str | None) -> str:
    """The config to compare with: the one asked for, the sweep's, or `dense`; empty if there is none of that name."""
    if asked is not None and asked not in header.attentions:
        raise ExecutionError(f"--baseline: {unknown_name('sparse attention config', asked, header.attentions)}")
    wanted = asked or header.baseline or "dense"
    return wanted if wanted in header.attentions else ""


def compare_cells(cells: Sequence[Cell], groups: Sequence[Group], baseline: str) -> Comparison:
    """Compares every cell that has a score, and the averages of those groups."""
    if not baseline:
        return Comparison()
    bases = {cell.stub.bundle: cell for cell in cells if cell.stub.attention == baseline}
    rows: dict[str, dict[tuple[str, str], dict[str, _Pair]]] = {}
    for cell in cells:
        if cell.score is not None and cell.stub.attention != baseline:
            row = rows.setdefault(cell.stub.benchmark, {}).setdefault((cell.stub.model, cell.stub.attention), {})
            row[cell.stub.subset or ""] = _pair(cell, bases.get(cell.stub.bundle))
    stubs: dict[str, Delta] = {}
    averages: dict[tuple[str, str, str, str], Delta] = {}
    for benchmark, of_benchmark in rows.items():
        mine = [group for group in groups if group.benchmark == benchmark]
        items = list(of_benchmark.items())
        for start in range(0, len(items), _ROWS_AT_ONCE):
            block = _Block(benchmark, [row for _, row in items[start : start + _ROWS_AT_ONCE]], mine)
            stubs.update(block.stub_deltas())
            for ((model, attention), _), deltas in zip(items[start:], block.average_deltas(), strict=False):
                averages.update({(model, attention, benchmark, name): delta for name, delta in deltas})
    return Comparison(baseline, stubs, averages)


@dataclass(frozen=True)
class _Pair:
    """A stub beside the baseline's of the same model, benchmark and subset."""

    key: str
    delta: float | None
    note: str
    differences: NDArray[np.float64] | None = None
    """Of the samples; None where there is no interval."""


def _pair(cell: Cell, base: Cell | None) -> _Pair:
    if base is None or cell.score is None or base.score is None:
        state = "not in the sweep" if base is None else base.state
        return _Pair(
            cell.stub.key, None, f"no score of the baseline ({'not scored' if state == 'complete' else state})"
        )
    delta = round(cell.score - base.score, 6)
    note = _why_not_paired(cell, base)
    return _Pair(cell.stub.key, delta, note, None if note else _differences(cell.samples, base.samples))


def _why_not_paired(cell: Cell, base: Cell) -> str:
    """Why the samples of two results cannot be compared one by one; empty if they can."""
    ids, base_ids = cell.samples.ids, base.samples.ids
    if not ids or not cell.samples.column or cell.samples.column != base.samples.column:
        return "no scores of single samples"
    if len(ids) != len(base_ids):
        return f"other samples: {len(ids)}, the baseline {len(base_ids)}"
    if ids != base_ids and set(ids) != set(base_ids):
        return "other sample ids than the baseline"
    if len(set(ids)) < len(ids):
        return "a sample id occurs twice"
    for one in (cell, base):
        if not all(map(math.isfinite, one.samples.values)):
            return "the score of a sample is no number"
        if abs(math.fsum(one.samples.values) / len(ids) - (one.score or 0.0)) > _ROUNDING:
            return "the score is no mean over samples"
    return "one sample alone" if len(ids) == 1 else ""


def _differences(mine: SampleScores, base: SampleScores) -> NDArray[np.float64]:
    """Sample by sample, in the baseline's order: `mine` less `base`."""
    import numpy as np

    values = np.asarray(mine.values)
    if mine.ids != base.ids:
        places = {sample_id: place for place, sample_id in enumerate(mine.ids)}
        values = values[[places[sample_id] for sample_id in base.ids]]
    return values - np.asarray(base.values)  # type: ignore[no-any-return]


class _Block:
    """Some models and attention configs under one benchmark, resampled together."""

    def __init__(self, benchmark: str, rows: Sequence[Mapping[str, _Pair]], groups: Sequence[Group]) -> None:
        self._rows, self._groups = rows, groups
        self._intervals: dict[str, tuple[float, float]] = {}
        self._sums: dict[tuple[int, str], NDArray[np.float64]] = {}
        """Row and group -> the weighted sum of the resampled means of its subsets."""
        for subset in dict.fromkeys(subset for row in rows for subset in row):
            for members in _by_samples(rows, subset):
                self._resample(f"{benchmark}/{subset}", subset, members)

    def _resample(self, place: str, subset: str, members: Mapping[int, NDArray[np.float64]]) -> None:
        import numpy as np

        means = resample_means(np.stack(list(members.values())), place)
        lows, highs = percentiles(means)
        for index, number in enumerate(members):
            self._intervals[self._rows[number][subset].key] = (float(lows[index]), float(highs[index]))
        for group in self._groups:
            if subset in group.weights and len(group.weights) > 1:
                for index, number in enumerate(members):
                    part = group.weights[subset] * means[index]
                    key = (number, group.name)
                    self._sums[key] = self._sums[key] + part if key in self._sums else part

    def stub_deltas(self) -> Iterator[tuple[str, Delta]]:
        """Stub key and difference of every stub."""
        for row in self._rows:
            for pair in row.values():
                low, high = self._intervals.get(pair.key, (None, None))
                yield pair.key, Delta(pair.delta, low, high, pair.note)

    def average_deltas(self) -> Iterator[list[tuple[str, Delta]]]:
        """Of every row, the differences of the averages over the subsets that both sides have a score of."""
        for number, row in enumerate(self._rows):
            yield [
                (group.name, self._average(number, group, row))
                for group in self._groups
                if group.weights.keys() & row.keys()
            ]

    def _average(self, number: int, group: Group, row: Mapping[str, _Pair]) -> Delta:
        pairs = {subset: row[subset] for subset in group.weights if subset in row}
        deltas = {subset: pair.delta for subset, pair in pairs.items() if pair.delta is not None}
        value = group.average(deltas)
        if value is None:
            return Delta(note=next(iter(pairs.values())).note, subsets=0)
        low, high, note = self._interval(number, group, {subset: pairs[subset] for subset in deltas})
        if len(deltas) < group.total:
            note = "; ".join(filter(None, (f"over {len(deltas)} of {group.total} subsets", note)))
        return Delta(round(value, 6), low, high, note, len(deltas))

    def _interval(
        self, number: int, group: Group, pairs: Mapping[str, _Pair]
    ) -> tuple[float | None, float | None, str]:
        """Low, high, and why there is none."""
        for subset, pair in pairs.items():
            if pair.note:
                return None, None, f"{subset}: {pair.note}" if subset else pair.note
        if len(group.weights) == 1:
            return *self._intervals[next(iter(pairs.values())).key], ""
        lows, highs = percentiles(self._sums[number, group.name][None] / sum(group.weights[name] for name in pairs))
        return float(lows[0]), float(highs[0]), ""


def _by_samples(rows: Sequence[Mapping[str, _Pair]], subset: str) -> Iterable[dict[int, NDArray[np.float64]]]:
    """Row number -> the differences in a subset, apart for each number of samples."""
    sizes: dict[int, dict[int, NDArray[np.float64]]] = {}
    for number, row in enumerate(rows):
        if subset in row and (differences := row[subset].differences) is not None:
            sizes.setdefault(len(differences), {})[number] = differences
    return sizes.values()
