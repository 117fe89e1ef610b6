"""longbench: question answering over long documents (THUDM/LongBench)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import ClassVar

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.benchmarks.qa_f1 import best_qa_f1
from hpc_bench.benchmarks.rows import Row
from hpc_bench.benchmarks.table import TableBenchmark
from hpc_bench.errors import SweepError
from hpc_bench.records import Metric, Sample, Scores

__all__ = ["LongBench"]

_FIRST_LINE_ONLY = frozenset({"triviaqa"})
"""Few-shot tasks: asked without a chat template, and the model may go on with a next example."""


@dataclass(frozen=True)
class _Subset:
    samples: int
    context_words: int
    """On average, as published in LongBench's README."""
    new_tokens: int
    """LongBench/config/dataset2maxlen.json."""


_SUBSETS: Mapping[str, _Subset] = MappingProxyType(
    {
        "narrativeqa": _Subset(200, 18_409, 128),
        "qasper": _Subset(200, 3_619, 128),
        "multifieldqa_en": _Subset(150, 4_559, 64),
        "hotpotqa": _Subset(200, 9_151, 32),
        "2wikimqa": _Subset(200, 4_887, 32),
        "musique": _Subset(200, 11_214, 32),
        "triviaqa": _Subset(200, 8_209, 32),
    }
)


@dataclass(frozen=True)
class LongBench(TableBenchmark):
    """LongBench, the seven English question answering subsets, which are scored by F1 over words.

    The other LongBench subsets use other metrics and are not part of this class yet. Prompts are the columns of the
    data set, new-token limits those of LongBench/config/dataset2maxlen.json, scores those of LongBench/eval.py.
    """

    subsets: ClassVar[tuple[str, ...]] = tuple(_SUBSETS)
    hub_name: ClassVar[str] = "Xnhyacinth/LongBench"
    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix", "answers")

    def size(self, subset: str | None) -> SubsetSize:
        """From the published averages, at three tokens for two words."""
        about = _SUBSETS[_known(subset)]
        return SubsetSize(about.samples, about.context_words * 3 // 2, about.new_tokens)

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """A row of the data set; the new-token limit is the authors'."""
        answers, name = row["answers"], _known(subset)
        return Sample(
            sample_id=f"{index:04d}",
            context=row["context"],
            question=row["question"],
            references=(answers,) if isinstance(answers, str) else tuple(answers),
            max_new_tokens=_SUBSETS[name].new_tokens,
            answer_prefix=row["answer_prefix"],
            task=name,
            chat=name not in _FIRST_LINE_ONLY,
            extra={"length": row["length"]} if "length" in row else {},
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The mean of the best F1 over the references (LongBench/eval.py, `scorer`)."""
        f1 = [_score_one(sample, text) for sample, text in zip(samples, predictions, strict=True)]
        if not f1:
            return Scores(None, {}, (), note="no samples")
        score = round(fmean(f1), 2)
        return Scores(score, {"qa_f1": Metric(score)}, tuple({"qa_f1": value} for value in f1))


def _known(subset: str | None) -> str:
    if subset is None or subset not in _SUBSETS:
        raise SweepError(f"needs one of the subsets {', '.join(_SUBSETS)}")
    return subset


def _score_one(sample: Sample, prediction: str) -> float:
    if sample.task in _FIRST_LINE_ONLY:
        prediction = prediction.lstrip("\n").split("\n")[0]
    return 100 * best_qa_f1(prediction, sample.references)
