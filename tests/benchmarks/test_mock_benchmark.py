import pytest

from hpc_bench.benchmarks.suites.mock_benchmark import MockBenchmark
from hpc_bench.errors import SweepError


def test_five_questions_over_three_adjacent_contexts() -> None:
    samples = list(MockBenchmark().load(None, len))

    contexts = [sample.context for sample in samples]
    assert [contexts.count(context) for context in dict.fromkeys(contexts)] == [2, 2, 1]
    assert contexts == sorted(contexts, key=contexts.index)
    assert len({sample.sample_id for sample in samples}) == 5
    assert all(reference in sample.context for sample in samples for reference in sample.references)


def test_size_is_that_of_the_samples() -> None:
    assert MockBenchmark().size(None).samples == 5


def test_contained_reference_is_a_match_in_any_case() -> None:
    samples = list(MockBenchmark().load(None, len))

    scores = MockBenchmark().score(samples, ["CLARA whitfield", "It was in 1931.", "white bread", "", "a boat"])

    assert scores.score == 40.0
    assert [row["match"] for row in scores.per_sample] == [100.0, 100.0, 0.0, 0.0, 0.0]
    assert [row["exact_match"] for row in scores.per_sample] == [100.0, 0.0, 0.0, 0.0, 0.0]
    assert {name: metric.value for name, metric in scores.metrics.items()} == {"match": 40.0, "exact_match": 20.0}


def test_subset_is_refused() -> None:
    with pytest.raises(SweepError, match="has no subsets"):
        MockBenchmark().load("easy", len).__next__()
