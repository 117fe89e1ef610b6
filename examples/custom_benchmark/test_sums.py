import pytest

from hpc_bench import catalog
from hpc_bench.errors import SweepError


def test_sum_is_of_the_two_numbers_asked_for() -> None:
    benchmark = catalog.build("benchmark", "sums", {"samples": 3})

    for sample in benchmark.load("10", len):
        first, second = (int(word.rstrip("?\n")) for word in sample.question.split() if word.rstrip("?\n").isdigit())
        values = [int(line.rstrip(".").split()[-1]) for line in sample.context.splitlines()]
        assert sample.references == (str(values[first] + values[second]),)


def test_samples_are_the_same_every_time_and_differ_by_seed() -> None:
    one, again, other = (
        list(catalog.build("benchmark", "sums", {"seed": seed}).load("100", len)) for seed in (0, 0, 1)
    )

    assert one == again != other


def test_only_the_whole_number_counts() -> None:
    benchmark = catalog.build("benchmark", "sums", {"samples": 2})
    samples = list(benchmark.load("10", len))
    right = samples[0].references[0]

    scores = benchmark.score(samples, [f"The sum is {right}.", f"1{samples[1].references[0]}"])

    assert scores.score == 50.0
    assert [row["accuracy"] for row in scores.per_sample] == [100.0, 0.0]


def test_no_samples_are_refused() -> None:
    with pytest.raises(SweepError, match="at least 1"):
        catalog.build("benchmark", "sums", {"samples": 0})
