"""ROUGE as the package `rouge` 1.0.1 counts it, in time linear in the prediction's length."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

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
    """The words of all pairs' longest common subsequences; None where the package gives up."""
    words_of = [frozenset(sentence) for sentence in wanted]
    vocabulary, longest = frozenset(chain(*wanted)), max(map(len, wanted))
    found: set[str] = set()
    for words in said:
        known = vocabulary.intersection(words)
        if known <= found and len(words) + longest <= most_steps:
            continue  # nothing to gain, and nothing to give up at
        places = _places(words, known)
        for sentence, own in zip(wanted, words_of, strict=True):
            if known & own <= found and len(words) + len(sentence) <= most_steps:
                continue
            subsequence = _common_subsequence(sentence, words, places, most_steps)
            if subsequence is None:
                return None
            found.update(subsequence)
    return found


def _places(words: Sequence[str], vocabulary: Iterable[str]) -> dict[str, int]:
    """For each word of the vocabulary that is there: the bits of its places."""
    by_word: dict[str, list[int]] = {word: [] for word in vocabulary}
    for place, word in enumerate(words):
        if word in by_word:
            by_word[word].append(place)
    return {word: _as_bits(places, len(words)) for word, places in by_word.items() if places}


def _as_bits(places: Iterable[int], size: int) -> int:
    packed = bytearray(size // 8 + 1)
    for place in places:
        packed[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(packed, "little")


def _common_subsequence(
    wanted: Sequence[str], said: Sequence[str], places: dict[str, int], most_steps: int
) -> list[str] | None:
    """The subsequence that the package's walk picks among the longest ones (rouge_score.py, `_recon_lcs`).

    The table is kept as one row of bits for each wanted word, 0 where it grows by one from left to right (Hyyrö 2004,
    "Bit-parallel LCS-length computation revisited"). Where two words differ, the entry above exceeds the entry to the
    left exactly if the row grows there.
    """
    rows: list[int] = []
    row = everywhere = (1 << len(said)) - 1
    for word in wanted:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & everywhere
        rows.append(row)
    picked: list[str] = []
    i, j = len(wanted), len(said)
    for _ in range(min(most_steps, i + j) + 1):
        if not i or not j:
            return picked
        if wanted[i - 1] == said[j - 1]:
            picked.append(wanted[i - 1])
            i, j = i - 1, j - 1
        elif rows[i - 1] >> (j - 1) & 1:
            j -= 1
        else:
            i -= 1
    return None
