"""What is scored of what a model wrote, its thinking left out; the same however often it is scored."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.values import Sample, Scores

__all__ = ["START_OF_THINKING", "final_answer", "score_answers"]

START_OF_THINKING = "<think>"
_END_OF_THINKING = "</think>"


def score_answers(benchmark: Benchmark, samples: Sequence[Sample], texts: Sequence[str]) -> Scores:
    """Scores of whole answers: a benchmark gets what stands behind the thinking."""
    return benchmark.score(samples, [final_answer(text) for text in texts])


def final_answer(text: str) -> str:
    """The text behind the last finished thought, as it is, up to an unfinished one; all of a text without think tags.

    So what was said before a model began to think again counts, and nothing where it never came to an answer. Adapters
    put the opening tag in front of a text where the chat template has printed it already.
    """
    return text.rpartition(_END_OF_THINKING)[2].partition(START_OF_THINKING)[0]
