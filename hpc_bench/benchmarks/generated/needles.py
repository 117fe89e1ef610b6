"""RULER's needles in haystacks and its variable tracking (NVIDIA/RULER, scripts/data/synthetic)."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Literal, TypeAlias

from hpc_bench.benchmarks.base import Tokens
from hpc_bench.benchmarks.generated import ruler_text as text
from hpc_bench.benchmarks.generated.fill import Puzzle

__all__ = [
    "NIAH",
    "Haystack",
    "NiahForm",
    "essay_haystack",
    "needle_haystack",
    "niah_puzzle",
    "noise_haystack",
    "vt_puzzles",
]

Buried: TypeAlias = Sequence[tuple[float, str]]
"""Needles and how deep they lie, 0 to 1."""
Haystack: TypeAlias = Callable[[int, Buried], str]
"""Text of so many units with needles in it."""

_HOPS = 4
_EXAMPLE_FROM = 2048
_EXAMPLE_SENTENCES = 25


@dataclass(frozen=True)
class NiahForm:
    """One of the niah tasks, as scripts/synthetic.yaml describes it."""

    haystack: Literal["noise", "essay", "needle"]
    key: Literal["word", "uuid"] = "word"
    value: Literal["number", "uuid"] = "number"
    keys: int = 1
    values: int = 1
    """Of each key."""
    queries: int = 1


NIAH: Mapping[str, NiahForm] = MappingProxyType(
    {
        "niah_single_1": NiahForm("noise"),
        "niah_single_2": NiahForm("essay"),
        "niah_single_3": NiahForm("essay", value="uuid"),
        "niah_multikey_1": NiahForm("essay", keys=4),
        "niah_multikey_2": NiahForm("needle"),
        "niah_multikey_3": NiahForm("needle", key="uuid", value="uuid"),
        "niah_multivalue": NiahForm("essay", values=4),
        "niah_multiquery": NiahForm("essay", keys=4, queries=4),
    }
)


def niah_puzzle(form: NiahForm, rng: random.Random, tokens: Tokens, essay: Haystack | None = None) -> Puzzle:
    """Asks for the values of one or more keys (niah.py); `essay` is the haystack of the forms that want one."""
    pairs = _pairs(form, rng)
    facts = list(islice(pairs, form.keys * form.values))
    asked = facts[: form.queries * form.values]
    needles = [_needle(form, *fact) for fact in facts]
    buried = [(rng.random(), needle) for needle in needles]
    if form.haystack == "needle":
        haystack = needle_haystack((_needle(form, *pair) for pair in pairs), tokens)
    else:
        haystack = noise_haystack if essay is None or form.haystack == "noise" else essay
    number: Literal["one", "many"] = "one" if len(asked) == 1 else "many"
    words = {"kind": form.value, "keys": _enumerate(list(dict.fromkeys(key for key, _ in asked)))}
    intro = text.NIAH_INTRO[number].format(**words)
    return Puzzle(
        render=lambda units: intro + haystack(units, buried),
        question=text.NIAH_QUESTION[number].format(**words),
        answer_prefix=text.NIAH_ANSWER[number].format(**words),
        references=tuple(value for _, value in asked),
        needles=tuple(needles[: len(asked)]),
    )


def _pairs(form: NiahForm, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless keys with their values, each value once; a key comes as often as it has values."""
    keys = text.uuids(rng) if form.key == "uuid" else text.key_words(rng)
    values = text.uuids(rng) if form.value == "uuid" else text.numbers(rng)
    for key in keys:
        for _ in range(form.values):
            yield key, next(values)


def _needle(form: NiahForm, key: str, value: str) -> str:
    return text.NEEDLE.format(kind=form.value, key=key, value=value)


def _enumerate(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"


def noise_haystack(units: int, buried: Buried) -> str:
    """RULER's noise, a unit a sentence; needles lie between its repetitions."""
    return _bury(_noise_lines(units), buried)


def needle_haystack(needles: Iterator[str], tokens: Tokens) -> Haystack:
    """Other needles; noise fills what a last one would exceed, so that units are as small as there."""
    others = text.Growing(needles)
    per_needle = max(1, round(len(text.NOISE) * tokens(others[0]) / max(1, tokens(" ".join(text.NOISE)))))

    def haystack(units: int, buried: Buried) -> str:
        return _bury(others.first(units // per_needle) + _noise_lines(units % per_needle), buried)

    return haystack


def essay_haystack(words: Sequence[str]) -> Haystack:
    """Running text, a unit a word, from its start and repeated where it is too short; needles lie between sentences."""
    ends = [0, *(index + 1 for index, word in enumerate(words) if word.rstrip("\"')]").endswith((".", "!", "?")))]

    def haystack(units: int, buried: Buried) -> str:
        pieces, start = [], 0
        for depth, needle in sorted(buried):
            rounds, place = divmod(int(depth * units), len(words))
            end = rounds * len(words) + ends[bisect_right(ends, place) - 1]
            pieces += [_words(words, start, end), needle]
            start = end
        return " ".join(filter(None, [*pieces, _words(words, start, units)]))

    return haystack


def _words(words: Sequence[str], start: int, end: int) -> str:
    if end <= len(words):
        return " ".join(words[start:end])
    return " ".join(words[index % len(words)] for index in range(start, end))


def _noise_lines(sentences: int) -> list[str]:
    rounds, rest = divmod(sentences, len(text.NOISE))
    return [" ".join(text.NOISE)] * rounds + ([" ".join(text.NOISE[:rest])] if rest else [])


def _bury(lines: Sequence[str], buried: Buried) -> str:
    pieces: list[str] = []
    start = 0
    for depth, needle in sorted(buried, key=lambda item: item[0]):
        end = int(depth * (len(lines) + 1))
        pieces += [*lines[start:end], needle]
        start = end
    return "\n".join([*pieces, *lines[start:]])


def vt_puzzles(length: int, rng: random.Random) -> list[Puzzle]:
    """Asks which variables hold a value (variable_tracking.py, one chain): with a solved example, and without.

    The example takes a few hundred tokens, so there is none below 2048 tokens.
    """
    names, values = text.variables(rng), text.numbers(rng, digits=5)
    if length < _EXAMPLE_FROM:
        return [_vt_puzzle(list(islice(names, _HOPS + 1)), next(values), rng)]
    puzzle, example = (_vt_puzzle(list(islice(names, _HOPS + 1)), next(values), rng) for _ in range(2))
    solved = (
        f"{example.render(_EXAMPLE_SENTENCES)}{example.question}{example.answer_prefix} {' '.join(example.references)}"
    )
    return [replace(puzzle, render=lambda units: f"{solved}\n\n{puzzle.render(units)}"), puzzle]


def _vt_puzzle(names: Sequence[str], value: str, rng: random.Random) -> Puzzle:
    sources = [value, *(f"VAR {name}" for name in names[:-1])]
    chain = [f"VAR {name} = {source}." for name, source in zip(names, sources, strict=True)]
    buried = list(zip(sorted(rng.random() for _ in chain), chain, strict=True))
    return Puzzle(
        render=lambda units: text.VT_INTRO + noise_haystack(units, buried),
        question=text.VT_QUESTION.format(value=value),
        answer_prefix=text.VT_ANSWER.format(count=len(names), value=value),
        references=tuple(names),
        needles=tuple(chain),
    )
