"""Sums: additions whose terms lie in a list; the numbers of an answer are compared with the sum."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from hpc_bench.plugin import Benchmark, Metric, Sample, Scores, SubsetSize, Tokens


@dataclass(frozen=True)
class Sums(Benchmark):
    """Asks for the sum of two numbers of a list; subsets are the lengths of the list."""

    version: ClassVar[int] = 1
    subsets: ClassVar[tuple[str, ...]] = ("10", "100")

    samples: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be at least 1")

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        return "accuracy"

    def size(self, subset: str | None) -> SubsetSize:
        return SubsetSize(self.samples, 8 * int(subset or 0), 8)

    def load(self, subset: str | None, tokens: Tokens) -> Iterator[Sample]:  # noqa: ARG002
        for number in range(self.samples):
            draw = Random(f"{self.seed} {subset} {number}")
            values = [draw.randrange(100) for _ in range(int(subset or 0))]
            first, second = draw.sample(range(len(values)), 2)
            context = "".join(f"Number {place} is {value}.\n" for place, value in enumerate(values))
            question = f"What is the sum of number {first} and number {second}?\n"
            yield Sample(f"{number:04d}", context, question, (str(values[first] + values[second]),), 8)

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        pairs = zip(samples, predictions, strict=True)
        hits = [100.0 * (sample.references[0] in re.findall(r"\d+", text)) for sample, text in pairs]
        mean = round(sum(hits) / len(hits), 2) if hits else None
        metrics = {} if mean is None else {"accuracy": Metric(mean)}
        return Scores(mean, metrics, tuple({"accuracy": hit} for hit in hits))
