"""BLEU of one order of n-grams against one reference, as nltk counts it."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence

__all__ = ["bleu"]


def bleu(said: Sequence[str], wanted: Sequence[str], n: int) -> float:
    """The share of the n-grams said that are wanted, 0-1, less where fewer words are said than wanted
    (nltk/translate/bleu_score.py, `sentence_bleu` with the whole weight on n).

    0 where no word is shared. Where only no n-gram is, nltk goes on with the least float above 0, and so does this.
    """
    if not said or set(said).isdisjoint(wanted):
        return 0.0
    grams, wanted_grams = _ngrams(said, n), _ngrams(wanted, n)
    shared = (grams & wanted_grams).total()
    precision = shared / grams.total() if shared else sys.float_info.min
    brevity = 1.0 if len(said) > len(wanted) else math.exp(1 - len(wanted) / len(said))
    return brevity * math.exp(math.log(precision))


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))
