"""needle: numbers hidden in a text of any length, made on the spot; needs no download."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from statistics import fmean
from typing import ClassVar, cast

from hpc_bench.benchmarks.base import Benchmark, SubsetSize, Tokens, prompt_tokens
from hpc_bench.benchmarks.generated.needle_text import ANSWER_PREFIX, INTRO, KEYS, NEEDLE, QUESTION, draw_filler
from hpc_bench.benchmarks.metrics.string_match import string_match
from hpc_bench.errors import PluginError, SweepError
from hpc_bench.options import doc
from hpc_bench.values import Metric, Sample, Scores

__all__ = ["Needle"]

_SHORTEST, _LONGEST = 128, 1_048_576
_NEW_TOKENS = 16
_TOKENS_PER_NEEDLE = 21
"""One needle for so many tokens of length, and from 8 to 96 needles in all."""
_DEPTH_BIN = 20
_GOLDEN_RATIO = 0.6180339887498949
_FILLER_MISSES = 20
_CORRECTIONS = 8


@dataclass(frozen=True)
class Needle(Benchmark):
    """Key-value recall in the form of RULER's niah_multikey (NVIDIA/RULER, scripts/data/synthetic/niah.py).

    A subset is a length in tokens of the model's own tokenizer. The whole prompt, special tokens and chat template
    included, and the answer's tokens fill it as far as whole sentences allow: a model with exactly so many positions
    can be asked. Scored by RULER's string match, also in five bins of the asked needle's depth, which is 0 for the
    first sentence of the text and 100 for the last.
    """

    version: ClassVar[int] = 2
    subsets: ClassVar[tuple[str, ...]] = ("256", "512", "1024", "2048", "4096", "8192", "16384", "32768")

    samples: int = 100
    questions_per_context: int = field(default=4, metadata=doc("Less where a short context holds fewer needles."))
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.questions_per_context < 1:
            raise ValueError("samples and questions_per_context must be at least 1")

    def check_subset(self, subset: str) -> str:
        """Any length from 128 to 1048576 tokens, written without leading zeros."""
        if not re.fullmatch(r"[1-9][0-9]{2,6}", subset) or not _SHORTEST <= int(subset) <= _LONGEST:
            raise SweepError(
                f"{subset!r} is no length in tokens; give an integer from {_SHORTEST} to {_LONGEST}, such as '4096'"
            )
        return subset

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        """The share of references found."""
        return "string_match"

    def size(self, subset: str | None) -> SubsetSize:
        """Exact but for very short lengths."""
        return SubsetSize(self.samples, self._length(subset), _NEW_TOKENS, self.questions_per_context)

    def load(self, subset: str | None, tokens: Tokens) -> Iterator[Sample]:
        """Depends on the seed, the subset and the tokenizer alone."""
        length = self._length(subset)
        builder = _Builder(length, tokens)
        context = made = 0
        while made < self.samples:
            rng = random.Random(f"{self.seed}/{length}/{context}")  # noqa: S311 - text, no secret
            haystack = builder.build(rng)
            for question in range(min(self.questions_per_context, len(haystack.needles), self.samples - made)):
                needle = haystack.take((made * _GOLDEN_RATIO) % 1 * 100)
                yield _to_sample(f"{context:04d}-{question}", haystack.text, needle, length)
                made += 1
            context += 1

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """The mean of RULER's string match, overall and by depth."""
        matches = [
            100 * string_match(text, sample.references) for sample, text in zip(samples, predictions, strict=True)
        ]
        if not matches:
            return Scores(None, {}, (), note="no samples")
        score = round(fmean(matches), 2)
        return Scores(
            score,
            {"string_match": Metric(score)},
            tuple({"string_match": match} for match in matches),
            by={"depth": _by_depth(samples, matches)},
        )

    def _length(self, subset: str | None) -> int:
        if subset is None:
            raise SweepError("needs a subset: a length in tokens, such as '4096'")
        return int(self.check_subset(subset))


def _by_depth(samples: Sequence[Sample], matches: Sequence[float]) -> dict[str, float]:
    bins: dict[int, list[float]] = {}
    for sample, match in zip(samples, matches, strict=True):
        depth = cast(float, sample.extra["depth"])
        bins.setdefault(min(int(depth), 99) // _DEPTH_BIN * _DEPTH_BIN, []).append(match)
    return {f"{start}-{start + _DEPTH_BIN}": round(fmean(bins[start]), 2) for start in sorted(bins)}


@dataclass(frozen=True)
class _BuriedNeedle:
    key: str
    number: str
    depth: float


@dataclass(frozen=True)
class _Haystack:
    text: str
    needles: list[_BuriedNeedle]
    """Not asked for yet."""

    def take(self, depth: float) -> _BuriedNeedle:
        """Removes and returns the needle nearest to a depth."""
        nearest = min(self.needles, key=lambda needle: abs(needle.depth - depth))
        self.needles.remove(nearest)
        return nearest


def _to_sample(sample_id: str, context: str, needle: _BuriedNeedle, length: int) -> Sample:
    return Sample(
        sample_id=sample_id,
        context=context,
        question=QUESTION.format(needle.key),
        references=(needle.number,),
        max_new_tokens=_NEW_TOKENS,
        answer_prefix=ANSWER_PREFIX.format(needle.key),
        task="needle",
        extra={"length": length, "depth": round(needle.depth, 1)},
    )


class _Builder:
    """Fills contexts up to a length in tokens.

    Sentences are counted one by one, and each text a few times as a whole: the work grows linearly with length.
    """

    def __init__(self, length: int, tokens: Tokens) -> None:
        self._length = length
        self._room = length - _NEW_TOKENS
        self._tokens = tokens
        self._question_tokens = lru_cache(None)(partial(self._count_prompt, ""))
        self._sentence_tokens = lru_cache(100_000)(self._count_sentence)

    def build(self, rng: random.Random) -> _Haystack:
        """A context whose needles and fillers are in random order."""
        count = min(96, max(8, self._length // _TOKENS_PER_NEEDLE))
        keys = rng.sample(KEYS, count)
        numbers = rng.sample(range(1000, 10_000), count)
        room = self._room - max(map(self._question_tokens, keys))
        facts = self._fit_facts(dict(zip(keys, numbers, strict=True)), room)
        needles = [NEEDLE.format(key, number) for key, number in facts.items()]
        sentences = needles + self._draw_fillers(rng, needles, room)
        rng.shuffle(sentences)
        while self._context_tokens(_join(sentences)) > room and len(sentences) > 1:  # a tokenizer that minds the order
            sentences.remove(next((text for text in sentences if text not in needles), sentences[0]))
        return _locate(facts, _join(sentences))

    def _fit_facts(self, facts: dict[str, int], room: int) -> dict[str, int]:
        """As many facts as there is room for."""
        free = room - self._context_tokens(INTRO)
        fitting = {}
        for key, number in facts.items():
            free -= self._sentence_tokens(NEEDLE.format(key, number))
            if free < 0:
                break
            fitting[key] = number
        if not fitting:
            needed = self._length - free
            raise PluginError(
                f"{self._length} tokens hold no needle with this model's tokenizer, which takes about {needed}; "
                "choose a longer subset"
            )
        return fitting

    def _draw_fillers(self, rng: random.Random, needles: Sequence[str], room: int) -> list[str]:
        """Fillers for the room that the needles leave; recounted as a whole until nothing more fits."""
        fillers: list[str] = []
        for _ in range(_CORRECTIONS):
            free = room - self._context_tokens(_join([*needles, *fillers]))
            while free < 0 and fillers:
                free += self._sentence_tokens(fillers.pop())
            more = self._draw_fitting(rng, free)
            if not more:
                break
            fillers += more
        return fillers

    def _draw_fitting(self, rng: random.Random, free: int) -> list[str]:
        fillers, misses = [], 0
        while misses < _FILLER_MISSES:
            filler = draw_filler(rng)
            if (cost := self._sentence_tokens(filler)) <= free:
                fillers.append(filler)
                free -= cost
            else:
                misses += 1
        return fillers

    def _context_tokens(self, context: str) -> int:
        """What a context adds to a prompt, whose question is tokenized apart."""
        return self._count_prompt(context, KEYS[0]) - self._question_tokens(KEYS[0])

    def _count_prompt(self, context: str, key: str) -> int:
        return prompt_tokens(self._tokens, _to_sample("", context, _BuriedNeedle(key, "", 0.0), self._length))

    def _count_sentence(self, sentence: str) -> int:
        """What a sentence adds to a text; some tokenizers count more for a text that stands alone."""
        before = NEEDLE
        return max(1, self._tokens(f"{before} {sentence}") - self._tokens(before))


def _join(sentences: Sequence[str]) -> str:
    return INTRO + " ".join(sentences)


def _locate(facts: dict[str, int], text: str) -> _Haystack:
    """Finds how deep in the text each needle lies; a needle that is not in it is left out."""
    needles = []
    for key, number in facts.items():
        needle = NEEDLE.format(key, number)
        start = text.find(needle)
        if start >= 0:
            last = len(text) - len(needle)
            depth = 100 * (start - len(INTRO)) / max(1, last - len(INTRO))
            needles.append(_BuriedNeedle(key, str(number), depth))
    return _Haystack(text, needles)
