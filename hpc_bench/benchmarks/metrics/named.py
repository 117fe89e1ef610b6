"""Metrics that data of one's own can name: each compares an answer with its references and gives 0-1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from hpc_bench.benchmarks.metrics.qa_f1 import best_qa_f1, normalize_answer
from hpc_bench.benchmarks.metrics.rouge import rouge_l as rouge_l_of

__all__ = ["METRICS", "NamedMetric"]

NamedMetric: TypeAlias = Callable[[str, Sequence[str]], float]


def _exact_match(prediction: str, references: Sequence[str]) -> float:
    """Whether it equals a reference but for case, punctuation and articles (SQuAD, evaluate-v1.1.py,
    `exact_match_score`).
    """
    said = normalize_answer(prediction)
    return float(any(said == normalize_answer(reference) for reference in references))


def _contains(prediction: str, references: Sequence[str]) -> float:
    """Whether a reference stands in it, in any case (NVIDIA/RULER, scripts/eval/synthetic/constants.py,
    `string_match_part`).
    """
    return float(any(_holds(prediction, reference) for reference in references))


def _contains_all(prediction: str, references: Sequence[str]) -> float:
    """The share of the references that stand in it, in any case (NVIDIA/RULER, scripts/eval/synthetic/constants.py,
    `string_match_all`).
    """
    return sum(_holds(prediction, reference) for reference in references) / len(references) if references else 0.0


def _holds(prediction: str, reference: str) -> bool:
    """No answer stands in an empty answer alone, not in every one."""
    return reference.lower() in prediction.lower() if reference.strip() else not prediction.strip()


def _rouge_l(prediction: str, references: Sequence[str]) -> float:
    """The best ROUGE-L (THUDM/LongBench, LongBench/metrics.py, `rouge_score`)."""
    return max((rouge_l_of(prediction, reference).f1 for reference in references), default=0.0)


METRICS: Mapping[str, NamedMetric] = MappingProxyType(
    {
        "contains": _contains,
        "contains_all": _contains_all,
        "exact_match": _exact_match,
        "qa_f1": best_qa_f1,
        "rouge_l": _rouge_l,
    }
)
