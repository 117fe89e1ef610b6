"""RULER's word counting tasks (NVIDIA/RULER, scripts/data/synthetic/common_words_extraction.py, freq_words_...)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from hpc_bench.benchmarks.generated import ruler_text as text
from hpc_bench.benchmarks.generated.fill import Puzzle

__all__ = ["cwe_puzzles", "fwe_puzzle"]

_COMMON_WORDS = 10
_TOP = 3
_ZETA_OF_2 = math.pi**2 / 6


@dataclass(frozen=True)
class _Example:
    common: int
    others: int
    other_words: int


@dataclass(frozen=True)
class _CweForm:
    common: int
    """Times that each of the ten words occurs."""
    others: int
    """Times that each of the other words occurs."""
    example: _Example | None = None
    """A solved one in front."""


_CWE_FORMS = (
    (4096, _CweForm(30, 3, _Example(10, 3, 30))),
    (2048, _CweForm(6, 1, _Example(3, 1, 10))),
    (0, _CweForm(6, 1)),
    (0, _CweForm(3, 1)),
    (0, _CweForm(2, 1)),
)
"""From which length on, and what is tried: the first two are RULER's."""


def cwe_puzzles(length: int, rng: random.Random) -> list[Puzzle]:
    """Asks for the ten most common words of a list; the later puzzles are for lengths that hold few words."""
    seed = rng.random()
    return [_cwe_puzzle(form, random.Random(seed)) for least, form in _CWE_FORMS if length >= least]  # noqa: S311


def _cwe_puzzle(form: _CweForm, rng: random.Random) -> Puzzle:
    words = text.nonce_words(rng)
    solved = _solved_example(form.example, words, rng) if form.example else ""
    common = list(islice(words, _COMMON_WORDS))
    others, seed = text.Growing(words), rng.random()

    def render(units: int) -> str:
        tail = [others[index // form.others] for index in range(units)]
        return solved + _numbered(common * form.common + tail, random.Random(seed))  # noqa: S311 - text, no secret

    return Puzzle(
        render=render,
        question=text.CWE_QUESTION.format(count=_COMMON_WORDS),
        answer_prefix=text.CWE_ANSWER.format(count=_COMMON_WORDS),
        references=tuple(common),
    )


def _solved_example(form: _Example, words: Iterator[str], rng: random.Random) -> str:
    common, others = list(islice(words, _COMMON_WORDS)), list(islice(words, form.other_words))
    listed = _numbered([*common * form.common, *others * form.others], rng)
    question, prefix = (part.format(count=_COMMON_WORDS) for part in (text.CWE_QUESTION, text.CWE_ANSWER))
    return f"{listed}{question}{prefix} {_list(common)}\n\n"


def _numbered(words: list[str], rng: random.Random) -> str:
    rng.shuffle(words)
    return text.CWE_INTRO + _list(words)


def _list(words: Sequence[str]) -> str:
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, 1))


def fwe_puzzle(rng: random.Random) -> Puzzle:
    """Asks for the three most frequent coded words; frequencies fall with the square of the rank (alpha 2.0).

    The first rank is noise, dots. Of so few words that the fourth rank and the fifth would be even, the three get one
    more.
    """
    coded, seed = text.Growing(text.coded_words(rng)), rng.random()

    def render(units: int) -> str:
        counts = [int(units / rank**2 / _ZETA_OF_2) for rank in range(1, _TOP + 3 + math.isqrt(units))]
        for rank in range(1, _TOP + 1):
            counts[rank] = max(counts[rank], counts[_TOP + 1] + 1)
        words = ["..."] * counts[0]
        for index, count in enumerate(counts[1:]):
            words += [coded[index]] * count
        random.Random(seed).shuffle(words)  # noqa: S311 - text, no secret
        return text.FWE_INTRO + " ".join(words)

    return Puzzle(
        render=render,
        question=text.FWE_QUESTION.format(count=_TOP),
        answer_prefix=text.FWE_ANSWER.format(count=_TOP),
        references=tuple(coded.first(_TOP)),
    )
