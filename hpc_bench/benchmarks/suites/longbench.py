"""longbench: question answering, summaries, few-shot, synthetic and code tasks over long texts (THUDM/LongBench)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.benchmarks.data.rows import Row
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.benchmarks.data.texts import as_texts
from hpc_bench.benchmarks.metrics import longbench as metrics
from hpc_bench.benchmarks.metrics.qa_f1 import qa_f1
from hpc_bench.benchmarks.suites.longbench_subsets import BARE_PROMPT, FIRST_LINE_ONLY, SUBSETS, LongBenchSubset
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import AnswerPlace, Json, Metric, Sample, Scores

__all__ = ["LongBench"]


class _Score(Protocol):
    def __call__(self, prediction: str, reference: str, /) -> float: ...


_METRICS: Mapping[str, _Score] = MappingProxyType(
    {
        "qa_f1": qa_f1,
        "qa_f1_zh": metrics.qa_f1_zh,
        "rouge_l": metrics.rouge_l_f,
        "rouge_zh": metrics.rouge_zh,
        "retrieval": metrics.retrieval,
        "retrieval_zh": metrics.retrieval_zh,
        "count": metrics.count,
        "code_sim": metrics.code_similarity,
    }
)
"""All but classification, which needs the names of the classes too."""

_LENGTH_BINS = (("0-4k", 4_000), ("4-8k", 8_000), ("8k+", float("inf")))


@dataclass(frozen=True)
class LongBench(TableBenchmark):
    """LongBench (21 subsets) and LongBench-E (13 of them again, with lengths evenly spread, named <subset>_e).

    Prompts are the columns of the data set, new-token limits those of LongBench/config/dataset2maxlen.json, scores
    those of LongBench/eval.py. Local data also needs a column length for LongBench-E, and a column all_classes for trec
    and lsht.
    """

    answer_prefix: ClassVar[AnswerPlace] = "user"
    subsets: ClassVar[tuple[str, ...]] = tuple(SUBSETS)
    hub_name: ClassVar[str] = "Xnhyacinth/LongBench"
    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answer_prefix", "answers")

    def headline(self, subset: str | None) -> str:
        """As `dataset2metric` in LongBench/eval.py says."""
        return _known(subset).metric

    def size(self, subset: str | None) -> SubsetSize:
        """From the published averages."""
        about = _known(subset)
        return SubsetSize(about.samples, about.context_tokens, about.new_tokens)

    def to_sample(self, index: int, row: Row, subset: str | None) -> Sample:
        """A row of the data set; the new-token limit is the authors'.

        samsum ends at a newline, but not before the first token (LongBench/pred.py, `get_pred`).
        """
        about = _known(subset)
        return Sample(
            sample_id=f"{index:04d}",
            context=row["context"],
            question=row["question"],
            references=as_texts(row["answers"], "answers"),
            max_new_tokens=about.new_tokens,
            answer_prefix=row["answer_prefix"],
            task=subset or about.name,
            chat=about.name not in BARE_PROMPT,
            stop_strings=("\n",) if about.name == "samsum" else (),
            min_new_tokens=1 if about.name == "samsum" else 0,
            extra=_extra(row, about),
        )

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The mean over the samples of the best score over the references (LongBench/eval.py, `scorer`).

        LongBench-E's scores by length are those of `scorer_e` there, without the bins that are empty. It has no figure
        over all lengths; the headline is `scorer`'s for the same answers.
        """
        shares = [_score_one(sample, text) for sample, text in zip(samples, predictions, strict=True)]
        if not shares:
            return Scores(None, {}, (), note="no samples")
        about = _known(samples[0].task)
        score = _percent(shares)
        per_sample = tuple({about.metric: 100 * share} for share in shares)
        by = {"length": _by_length(samples, shares)} if about.by_length else {}
        return Scores(score, {about.metric: Metric(score)}, per_sample, by)

    @classmethod
    def averages(cls, subsets: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """The mean over all 21 of LongBench, and apart from it that over all 13 of LongBench-E."""
        kinds = {_known(subset).by_length for subset in subsets}
        return {
            name: {subset: 1.0 for subset, about in SUBSETS.items() if about.by_length == by_length}
            for name, by_length in (("mean", False), ("mean_e", True))
            if by_length in kinds
        }


def _known(subset: str | None) -> LongBenchSubset:
    if subset is None or subset not in SUBSETS:
        raise SweepError(f"needs one of the subsets {', '.join(SUBSETS)}")
    return SUBSETS[subset]


def _whole_number(value: Any, key: str) -> int:
    if isinstance(value, bool) or not re.fullmatch("[0-9]+", str(value).strip()):
        raise ValueError(f"{key} is {value!r}, not a whole number")
    return int(value)


def _extra(row: Row, about: LongBenchSubset) -> dict[str, Json]:
    """The columns that scores need beside the references; DatasetError if one that is needed is not there."""
    extra: dict[str, Json] = {}
    if row.get("length") is not None:
        extra["length"] = _whole_number(row["length"], "length")
    elif about.by_length:
        raise DatasetError(f"a row of {about.name}_e has no length, by which LongBench-E is scored")
    if about.metric == "classification":
        if row.get("all_classes") is None:
            raise DatasetError(f"a row of {about.name} has no all_classes, the names to choose from")
        extra["all_classes"] = list(as_texts(row["all_classes"], "all_classes"))
    return extra


def _score_one(sample: Sample, prediction: str) -> float:
    """The best score over the references, 0-1."""
    about = _known(sample.task)
    if about.name in FIRST_LINE_ONLY:
        prediction = prediction.lstrip("\n").split("\n")[0]
    if about.metric == "classification":
        listed = sample.extra.get("all_classes")
        classes = [str(name) for name in listed] if isinstance(listed, list) else []
        scores = [metrics.classification(prediction, reference, classes) for reference in sample.references]
    else:
        scores = [_METRICS[about.metric](prediction, reference) for reference in sample.references]
    return max(scores, default=0.0)


def _percent(shares: Sequence[float]) -> float:
    """The mean in percent, rounded as `scorer` rounds: added one by one, since the last digit depends on it."""
    total = 0.0
    for share in shares:
        total += share
    return round(100 * total / len(shares), 2)


def _by_length(samples: Sequence[Sample], shares: Sequence[float]) -> dict[str, float]:
    """The mean of each bin in percent, rounded as `scorer_e` rounds, which is numpy's way."""
    import numpy as np

    bins: dict[str, list[float]] = {name: [] for name, _ in _LENGTH_BINS}
    for sample, share in zip(samples, shares, strict=True):
        length = sample.extra["length"]
        if not isinstance(length, int | float):
            raise ValueError(f"the length of sample {sample.sample_id} is no number: {length!r}")
        bins[next(name for name, end in _LENGTH_BINS if length < end)].append(share)
    return {name: float(round(100 * np.mean(inside), 2)) for name, inside in bins.items() if inside}
