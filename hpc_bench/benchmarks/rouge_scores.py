"""ROUGE as the package `rouge` 1.0.1 counts it, without its recursion and its table for every pair of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Rouge", "rouge_l", "rouge_n"]

_MOST_WORDS = 20_000
"""What of a prediction is searched for common subsequences: many times what any benchmark lets a model write."""


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


def rouge_l(prediction: str, reference: str) -> Rouge:
    """Distinct words of the common subsequences of all pairs of sentences (rouge/rouge_score.py,
    `rouge_l_summary_level`); 0 where either has no sentence.
    """
    said, wanted = _sentences(prediction), _sentences(reference)
    searched = _first_words(said)
    shared: set[str] = set()
    for sentence in {tuple(words) for words in wanted}:
        # Words that the sentence lacks change no subsequence, nor the choice between equally long ones.
        known = set(sentence)
        for other in {tuple(word for word in words if word in known) for words in searched}:
            shared |= _common_words(sentence, other)
    return _rouge(len(shared), len(_ngrams(said, 1)), len(_ngrams(wanted, 1)))


def _rouge(shared: int, said: int, wanted: int) -> Rouge:
    recall = shared / wanted if wanted else 0.0
    precision = shared / said if said else 0.0
    return Rouge(recall, precision, 2 * precision * recall / (precision + recall + 1e-8))


def _sentences(text: str) -> list[list[str]]:
    """Words of the pieces between full stops; a piece of blanks is one empty word, as in `Rouge._get_scores`."""
    return [" ".join(piece.split()).split(" ") for piece in text.split(".") if piece]


def _ngrams(sentences: Sequence[Sequence[str]], n: int) -> set[tuple[str, ...]]:
    words = [word for sentence in sentences for word in sentence]
    return set(zip(*(words[start:] for start in range(n)), strict=False))


def _first_words(sentences: Sequence[list[str]]) -> list[list[str]]:
    chosen, left = [], _MOST_WORDS
    for sentence in sentences:
        if left <= 0:
            break
        chosen.append(sentence[:left])
        left -= len(sentence)
    return chosen


def _common_words(one: Sequence[str], other: Sequence[str]) -> set[str]:
    """The words of the longest common subsequence that `_recon_lcs` of the package finds among several."""
    lengths = [[0] * (len(other) + 1)]
    for word in one:
        above, row = lengths[-1], [0]
        for column, candidate in enumerate(other):
            row.append(above[column] + 1 if word == candidate else max(above[column + 1], row[column]))
        lengths.append(row)
    found: set[str] = set()
    i, j = len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            found.add(one[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
