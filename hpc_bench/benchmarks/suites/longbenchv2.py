"""longbenchv2: multiple-choice questions over texts of 8,000 to two million words (THUDM/LongBench, LongBench v2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.benchmarks.data.rows import Row
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.benchmarks.data.texts import as_text
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import Metric, Sample, Scores

__all__ = ["LongBenchV2", "extract_choice"]

_NEW_TOKENS: Mapping[str, int] = MappingProxyType({"0shot": 128, "cot": 1024})
"""pred.py, `get_pred`."""


@dataclass(frozen=True)
class LongBenchV2(TableBenchmark):
    """LongBench v2, asked for the answer alone (0shot) or for reasoning that ends in it (cot).

    The prompt's last part, which the data set keeps as `answer_prefix`, tells the model how to answer; it goes into the
    user's message, where the authors' templates have it (prompts/0shot.txt). For cot, the authors ask a second time for
    the conclusion (prompts/0shot_cot_ans.txt); here, as in the data set, one answer holds both. So scores of cot do not
    compare with the authors' leaderboard, which samples at temperature 0.1 besides.
    """

    subsets: ClassVar[tuple[str, ...]] = tuple(_NEW_TOKENS)
    hub_name: ClassVar[str] = "Xnhyacinth/LongBench-v2"
    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix", "answer", "difficulty", "length")

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        """The share of right choices."""
        return "accuracy"

    def size(self, subset: str | None) -> SubsetSize:
        """503 questions; texts are guessed at 200,000 tokens, since their lengths differ 200-fold."""
        return SubsetSize(503, 200_000, _NEW_TOKENS[_known(subset)])

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """A row of the data set; DatasetError if its answer is not one of the four letters."""
        answer = str(row["answer"])
        if answer not in ("A", "B", "C", "D"):
            raise DatasetError(f"has the answer {answer!r}, which is none of A, B, C, D")
        name = _known(subset)
        return Sample(
            sample_id=f"{index:04d}",
            context=row["context"],
            question=f"{row['question']}{row['answer_prefix']}",
            references=(answer,),
            max_new_tokens=_NEW_TOKENS[name],
            task=name,
            extra={key: as_text(row[key], key) for key in ("difficulty", "length")},
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The share of right answers, over all, by difficulty and by length, to one decimal (result.py).

        An answer without a choice in it is wrong, as there; `extracted` is the share of answers with one. An empty
        answer is wrong, too. The authors drop it instead (pred.py, `get_pred`, writes no line for it), so that they
        divide by fewer questions; here every config is judged on the same questions, and saying nothing gains none.
        """
        per_sample = tuple(_judge(sample, text) for sample, text in zip(samples, predictions, strict=True))
        if not per_sample:
            return Scores(None, {}, (), note="no samples")
        values = {name: _mean([row[name] for row in per_sample]) for name in ("accuracy", "extracted")}
        by = {key: _by(key, samples, per_sample) for key in ("difficulty", "length")}
        return Scores(values["accuracy"], {name: Metric(value) for name, value in values.items()}, per_sample, by)

    @classmethod
    def averages(cls, subsets: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """Each subset alone: both ways of asking are told apart."""
        return {subset: {subset: 1.0} for subset in subsets}


def extract_choice(prediction: str) -> str | None:
    """The letter behind "The correct answer is", in brackets or else without (pred.py, `extract_answer`)."""
    text = prediction.strip().replace("*", "")
    found = re.search(r"The correct answer is \(([A-D])\)", text) or re.search(r"The correct answer is ([A-D])", text)
    return found[1] if found else None


def _known(subset: str | None) -> str:
    if subset is None or subset not in _NEW_TOKENS:
        raise SweepError(f"needs one of the subsets {', '.join(_NEW_TOKENS)}")
    return subset


def _judge(sample: Sample, prediction: str) -> dict[str, float]:
    choice = extract_choice(prediction)
    return {"accuracy": 100.0 * (choice in sample.references), "extracted": 100.0 * (choice is not None)}


def _by(key: str, samples: Sequence[Sample], per_sample: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The accuracy of each group that has samples."""
    groups: dict[str, list[float]] = {}
    for sample, row in zip(samples, per_sample, strict=True):
        groups.setdefault(str(sample.extra.get(key)), []).append(row["accuracy"])
    return {name: _mean(values) for name, values in sorted(groups.items())}


def _mean(percents: Sequence[float]) -> float:
    return round(sum(percents) / len(percents), 1)
