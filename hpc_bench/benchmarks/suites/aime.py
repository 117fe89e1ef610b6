"""aime2024, aime2025: problems of the American Invitational Mathematics Examination, answered by an integer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.benchmarks.data.rows import Row
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.benchmarks.metrics.aime import extract_answer, integer_in
from hpc_bench.errors import DatasetError
from hpc_bench.values import Metric, Sample, Scores

__all__ = ["Aime", "Aime2024", "Aime2025"]

_PROBLEMS, _PROBLEM_TOKENS, _NEW_TOKENS = 30, 150, 32_000
_INSTRUCTION = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
"""As the cards of reasoning models ask for."""


@dataclass(frozen=True)
class Aime(TableBenchmark):
    """The thirty problems of a year, without a context: the problem is the question.

    The score is the share of problems whose integer was found; there is no official scorer. `extracted` is the share
    of answers in which there was an integer from 0 to 999 to compare.
    """

    scoring_version: ClassVar[int] = 2
    split: ClassVar[str] = "train"
    """The one that the data sets have."""

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        """The share of problems whose integer was found."""
        return "accuracy"

    def size(self, subset: str | None) -> SubsetSize:
        """The limit of new tokens is far above what most answers take."""
        self._known(subset)
        return SubsetSize(_PROBLEMS, _PROBLEM_TOKENS, _NEW_TOKENS)

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:  # noqa: ARG002
        """The two columns of a row; DatasetError if its answer is no integer from 0 to 999."""
        problem, label = (row[column] for column in self.columns)
        answer = integer_in(str(label))
        if answer is None:
            raise DatasetError(f"the answer {str(label)[:50]!r} is no integer from 0 to 999")
        return Sample(
            sample_id=f"{index:04d}",
            context="",
            question=f"{problem}{_INSTRUCTION}",
            references=(answer,),
            max_new_tokens=_NEW_TOKENS,
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """Accuracy by `extract_answer`, and the share of answers that it found one in."""
        rows = [_score_one(sample, text) for sample, text in zip(samples, predictions, strict=True)]
        if not rows:
            return Scores(None, {}, (), note="no samples")
        means = {name: round(fmean(row[name] for row in rows), 2) for name in rows[0]}
        return Scores(means["accuracy"], {name: Metric(mean) for name, mean in means.items()}, tuple(rows))


@dataclass(frozen=True)
class Aime2024(Aime):
    """AIME I and II of 2024."""

    hub_name: ClassVar[str] = "Maxwell-Jia/AIME_2024"
    columns: ClassVar[tuple[str, ...]] = ("Problem", "Answer")
    text_columns: ClassVar[tuple[str, ...]] = ("Problem",)


@dataclass(frozen=True)
class Aime2025(Aime):
    """AIME I and II of 2025."""

    hub_name: ClassVar[str] = "yentinglin/aime_2025"
    columns: ClassVar[tuple[str, ...]] = ("problem", "answer")
    text_columns: ClassVar[tuple[str, ...]] = ("problem",)


def _score_one(sample: Sample, prediction: str) -> dict[str, float]:
    said = extract_answer(prediction)
    return {"accuracy": 100.0 * (said == sample.references[0]), "extracted": 100.0 * (said is not None)}
