"""rougeLsum against the package that InfiniteBench's authors use, and on text made to take long."""

from __future__ import annotations

import sys
import time
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_bench.benchmarks.metrics.rouge_lsum import rouge_lsum

LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "A-b", "É", "\n", "\n\n", " . "]), max_size=40).map(" ".join)


@cache
def official() -> Any:
    from absl.logging import get_absl_handler
    from rouge_score.rouge_scorer import RougeScorer

    # absl, which the package imports, closes what was standard error at that time: here, pytest's capture of a test.
    get_absl_handler().python_handler.stream = sys.__stderr__
    return RougeScorer(["rougeLsum"])


def official_f(prediction: str, reference: str) -> float:
    return float(official().score(reference, prediction)["rougeLsum"].fmeasure)


@settings(deadline=None, max_examples=500)
@given(LINES, LINES)
def test_lines_of_few_words_score_as_in_the_package(prediction: str, reference: str) -> None:
    assert rouge_lsum(prediction, [reference]) == official_f(prediction, reference)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_scores_as_in_the_package(prediction: str, reference: str) -> None:
    assert rouge_lsum(prediction, [reference]) == official_f(prediction, reference)


@pytest.mark.parametrize("lines", [1, 7])
def test_long_texts_score_as_in_the_package(lines: int) -> None:
    said = [f"w{n * n % 97}" for n in range(500)]
    wanted = [f"w{n * 5 % 89}" for n in range(300)]
    prediction, reference = ("\n".join(" ".join(words[n::lines]) for n in range(lines)) for words in (said, wanted))

    assert rouge_lsum(prediction, [reference]) == official_f(prediction, reference) > 0


LARGE = {
    "one line": "the cat sat on a mat " * 50_000,
    "equal lines": "the cat\nsat on\n" * 70_000,
    "distinct lines": "\n".join(f"the {n} cat" for n in range(80_000)),
}


@pytest.mark.parametrize("prediction", LARGE.values(), ids=LARGE)
def test_a_megabyte_takes_seconds_at_most(prediction: str) -> None:
    reference = "\n".join(f"the mat and the cat {n} sat on the mat" for n in range(10))
    started = time.process_time()

    assert rouge_lsum(prediction, [reference]) > 0
    assert time.process_time() - started < 5
