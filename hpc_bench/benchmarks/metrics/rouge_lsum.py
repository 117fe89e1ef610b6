"""rougeLsum as the package `rouge-score` 0.1.2 counts it, without its table of all pairs of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from hpc_bench.benchmarks.metrics.common_subsequence import common_places, word_places

__all__ = ["rouge_lsum"]

Line: TypeAlias = tuple[str, ...]


def rouge_lsum(prediction: str, references: Iterable[str]) -> float:
    """The best F over the references, 0-1, without stemming (rouge_score/rouge_scorer.py, `score_multi`)."""
    said = _lines(prediction)
    said_words: Counter[str] = Counter()
    for line, times in Counter(said).items():
        for word in line:
            said_words[word] += times
    return max((_f1(said, said_words, _lines(reference)) for reference in references), default=0.0)


def _f1(said: Sequence[Line], said_words: Counter[str], wanted: Sequence[Line]) -> float:
    """Of the words that each line wanted has in common with any line said, in order (`_summary_level_lcs`)."""
    known_of = _known_words(said, frozenset(word for line in wanted for word in line))
    shared = Counter(word for line in wanted for word in _union(line, known_of))
    hits = sum(min(count, said_words[word]) for word, count in shared.items())
    if not hits:
        return 0.0
    precision, recall = hits / said_words.total(), hits / sum(map(len, wanted))
    return 2 * precision * recall / (precision + recall)


def _lines(text: str) -> list[Line]:
    """The words of each line (rouge_score/tokenize.py, `tokenize`)."""
    lines = [line for line in text.lower().split("\n") if line]
    words_of = {line: tuple(re.findall("[a-z0-9]+", line)) for line in set(lines)}
    return [words_of[line] for line in lines]


def _known_words(lines: Iterable[Line], vocabulary: frozenset[str]) -> dict[Line, frozenset[str]]:
    """The lines that have words of the vocabulary, and which these are. Other words, which match nothing, are left
    empty: lines that differ in them alone are one.
    """
    known_of: dict[Line, frozenset[str]] = {}
    for line in dict.fromkeys(lines):
        if known := vocabulary.intersection(line):
            known_of[tuple(word if word in known else "" for word in line)] = known
    return known_of


def _union(wanted: Sequence[str], known_of: Mapping[Line, frozenset[str]]) -> list[str]:
    """The words of `wanted` that are in its longest common subsequence with any of the lines (`_union_lcs`)."""
    missing = frozenset(wanted)
    places = word_places(wanted, missing)
    found: set[int] = set()
    for line, known in known_of.items():
        if known.isdisjoint(missing):
            continue  # nothing to gain
        picked = common_places(line, wanted, places) or ()
        if not found.issuperset(picked):
            found.update(picked)
            missing = frozenset(word for place, word in enumerate(wanted) if place not in found)
    return [wanted[place] for place in found]
