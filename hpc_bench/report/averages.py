"""The averages over a benchmark's subsets, as its authors average, and over how many of them a score is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpc_bench import catalog
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.errors import PluginError, SweepError
from hpc_bench.execution.header import Header
from hpc_bench.report.cell import Cell

__all__ = ["Average", "Group", "average_cells", "find_groups"]


@dataclass(frozen=True)
class Group:
    """The subsets in the sweep that a benchmark sums up in one figure."""

    benchmark: str
    name: str
    weights: Mapping[str, float]
    """Subset ("" for a benchmark without) -> weight."""
    left_out: int = 0
    """How many more subsets the authors' figure is of."""

    @property
    def total(self) -> int:
        """Of how many subsets the authors' figure is."""
        return len(self.weights) + self.left_out

    @property
    def title(self) -> str:
        """The figure as a table names it."""
        if self.total == 1:
            return " ".join(filter(None, (self.benchmark, *self.weights)))
        return f"{self.benchmark} {self.name}" + ("" if self.name.startswith("mean") else " mean")

    def average(self, scores: Mapping[str, float]) -> float | None:
        """The weighted mean over those of its subsets that have a score; None if none has."""
        known = {subset: weight for subset, weight in self.weights.items() if subset in scores}
        if not known:
            return None
        return sum(weight * scores[subset] for subset, weight in known.items()) / sum(known.values())


@dataclass(frozen=True)
class Average:
    """A group's figure for one model under one attention config."""

    model: str
    attention: str
    group: Group
    score: float | None
    scored: int
    """How many of the group's subsets have a score; the average is over these."""

    @property
    def is_complete(self) -> bool:
        """Whether it is over all subsets that the authors' figure is of."""
        return self.scored == self.group.total


def find_groups(header: Header) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """The groups of all benchmarks, and a line for each benchmark whose own way of averaging cannot be used."""
    groups: list[Group] = []
    notes: list[str] = []
    for name, spec in header.benchmarks.items():
        subsets = list(spec.identities)
        try:
            kind = catalog.resolve("benchmark", spec.kind)
            groups += _groups_of(name, kind, subsets)
        except (SweepError, PluginError) as error:
            notes.append(f"{name}: averaged as the mean of the subset scores: {error}")
            groups += _groups_of(name, Benchmark, subsets)  # type: ignore[type-abstract]
    return tuple(groups), tuple(notes)


def _groups_of(name: str, kind: type[Benchmark], subsets: Sequence[str]) -> list[Group]:
    try:
        groups = [_group(name, average, weights, subsets) for average, weights in kind.averages(subsets).items()]
    except Exception as error:  # of a plug-in, say, which must not keep results from being collected
        raise PluginError(f"its averages cannot be used: {type(error).__name__}: {error}") from error
    return [group for group in groups if group.weights]


def _group(name: str, average: str, weights: Mapping[str, float], subsets: Sequence[str]) -> Group:
    """In the order of the sweep; ValueError if a weight is not above 0."""
    for subset, weight in weights.items():
        if not 0 < weight < math.inf:
            raise ValueError(f"the weight of {subset!r} in {average!r} is {weight!r}, and must be a number above 0")
    mine = {subset: weights[subset] for subset in subsets if subset in weights}
    return Group(name, average, mine, len(weights) - len(mine))


def average_cells(cells: Iterable[Cell], groups: Iterable[Group]) -> tuple[Average, ...]:
    """The averages of each model and attention config that has a stub of the group."""
    rows: dict[tuple[str, str], dict[str, dict[str, float | None]]] = {}
    for cell in cells:
        row = rows.setdefault((cell.stub.model, cell.stub.attention), {})
        row.setdefault(cell.stub.benchmark, {})[cell.stub.subset or ""] = cell.score
    return tuple(
        _average(model, attention, group, row[group.benchmark])
        for (model, attention), row in rows.items()
        for group in groups
        if group.weights.keys() & row.get(group.benchmark, {}).keys()
    )


def _average(model: str, attention: str, group: Group, scores: Mapping[str, float | None]) -> Average:
    known = {subset: score for subset in group.weights if (score := scores.get(subset)) is not None}
    return Average(model, attention, group, group.average(known), len(known))
