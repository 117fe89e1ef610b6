from importlib.metadata import entry_points

import pytest
from hpc_bench_sums import Sums

from hpc_bench.plugin_checks import check_benchmark


def test_contract_of_benchmarks_is_kept() -> None:
    check_benchmark(Sums(samples=3))


def test_name_leads_to_the_benchmark() -> None:
    assert entry_points(group="hpc_bench.benchmarks")["sums"].load() is Sums


def test_sum_is_of_the_two_numbers_asked_for() -> None:
    for sample in Sums(samples=3).load("10", len):
        first, second = (int(word.rstrip("?\n")) for word in sample.question.split() if word.rstrip("?\n").isdigit())
        values = [int(line.rstrip(".").split()[-1]) for line in sample.context.splitlines()]
        assert sample.references == (str(values[first] + values[second]),)


def test_samples_differ_by_seed() -> None:
    one, other = (list(Sums(seed=seed).load("100", len)) for seed in (0, 1))

    assert one != other


def test_only_the_whole_number_counts() -> None:
    benchmark = Sums(samples=2)
    samples = list(benchmark.load("10", len))
    right = samples[0].references[0]

    scores = benchmark.score(samples, [f"The sum is {right}.", f"1{samples[1].references[0]}"])

    assert scores.score == 50.0
    assert [row["accuracy"] for row in scores.per_sample] == [100.0, 0.0]


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Sums(samples=0)
