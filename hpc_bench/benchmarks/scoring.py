"""What is scored of what a model wrote; the same when it has just answered and whenever it is scored again."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.thinking import final_answer
from hpc_bench.values import Sample, Scores

__all__ = ["score_answers"]


def score_answers(benchmark: Benchmark, samples: Sequence[Sample], texts: Sequence[str]) -> Scores:
    """Scores of whole answers: a benchmark gets what stands behind the thinking."""
    return benchmark.score(samples, [final_answer(text) for text in texts])
