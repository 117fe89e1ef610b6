"""ROUGE as the package `rouge` 1.0.1 counts it, in time linear in the prediction's length."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from hpc_bench.benchmarks.metrics.common_subsequence import common_places, word_places

__all__ = ["PACKAGE_STEPS", "Rouge", "rouge_l", "rouge_n"]

PACKAGE_STEPS = 989
"""The package walks back through a table by recursion. From about this many steps on (in a script of its own, under
CPython 3.11) it meets Python's recursion limit."""


@dataclass(frozen=True)
class Rouge:
    """Recall, precision and their harmonic mean, each 0-1."""

    recall: float
    precision: float
    f1: float


def rouge_n(prediction: str, reference: str, n: int) -> Rouge:
    """Distinct n-grams that both have (rouge/rouge_score.py, `rouge_n`); 0 where either has no sentence."""
    said, wanted = _ngrams(_sentences(prediction), n), _ngrams(_sentences(reference), n)
    return _rouge(len(said & wanted), len(said), len(wanted))


def rouge_l(prediction: str, reference: str, most_steps: int = sys.maxsize) -> Rouge:
    """Distinct words of the common subsequences of all pairs of sentences, which end at full stops
    (rouge/rouge_score.py, `rouge_l_summary_level`); 0 where either has no sentence, and where the package, which takes
    `most_steps` in a pair of sentences, gives up.
    """
    said, wanted = _sentences(prediction), _sentences(reference)
    shared = _union_of_subsequences(said, wanted, most_steps) if said and wanted else None
    return _rouge(len(shared or ()), len(set(chain(*said))), len(set(chain(*wanted))))


def _rouge(shared: int, said: int, wanted: int) -> Rouge:
    recall = shared / wanted if wanted else 0.0
    precision = shared / said if said else 0.0
    return Rouge(recall, precision, 2.0 * ((precision * recall) / (precision + recall + 1e-8)))


def _ngrams(sentences: Sequence[Sequence[str]], n: int) -> set[tuple[str, ...]]:
    words = [word for sentence in sentences for word in sentence]
    return set(zip(*(words[start:] for start in range(n)), strict=False))


def _sentences(text: str) -> list[list[str]]:
    """The words of each sentence; one of spaces alone has the empty word, as in the package."""
    return [sentence.split() or [""] for sentence in text.split(".") if sentence]


def _union_of_subsequences(said: Sequence[list[str]], wanted: Sequence[list[str]], most_steps: int) -> set[str] | None:
    """The words of all pairs' longest common subsequences (rouge_score.py, `_recon_lcs`); None where the package gives
    up.
    """
    words_of = [frozenset(sentence) for sentence in wanted]
    vocabulary, longest = frozenset(chain(*wanted)), max(map(len, wanted))
    found: set[str] = set()
    for words in said:
        known = vocabulary.intersection(words)
        if known <= found and len(words) + longest <= most_steps:
            continue  # nothing to gain, and nothing to give up at
        places = word_places(words, known)
        for sentence, own in zip(wanted, words_of, strict=True):
            if known & own <= found and len(words) + len(sentence) <= most_steps:
                continue
            picked = common_places(sentence, words, places, most_steps)
            if picked is None:
                return None
            found.update(words[place] for place in picked)
    return found
