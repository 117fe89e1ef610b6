"""Word-overlap F1 between a prediction and a reference, as LongBench counts it."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["best_qa_f1", "normalize_answer", "qa_f1", "word_f1"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def best_qa_f1(prediction: str, references: Iterable[str]) -> float:
    """The best F1 over the references, 0-1 (THUDM/LongBench, LongBench/eval.py, `scorer`)."""
    said = normalize_answer(prediction).split()
    return max((word_f1(said, normalize_answer(reference).split()) for reference in references), default=0.0)


def qa_f1(prediction: str, reference: str) -> float:
    """F1 over normalized words, 0-1 (THUDM/LongBench, LongBench/metrics.py, `qa_f1_score`)."""
    return word_f1(normalize_answer(prediction).split(), normalize_answer(reference).split())


def word_f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 over words, each counted as often as it is there, 0-1 (LongBench/metrics.py, `f1_score`)."""
    shared = sum((Counter(said) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def normalize_answer(text: str) -> str:
    """Lower case without ASCII punctuation, articles and extra spaces (LongBench/metrics.py, `normalize_answer`)."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())
