"""What every benchmark keeps to, a new one too: each name in the catalog passes through here."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.errors import SweepError
from hpc_bench.execution.results.raw_results import sample_of, to_row
from hpc_bench.values import Answer, Sample

NAMES = catalog.names("benchmark")

PREDICTIONS = {
    "empty": "",
    "blank": " \n\t ",
    "huge": "word 1234 " * 200_000,
    "one huge line": "x" * 2_000_000,
    "surrogates": "\ud800 half a pair \udfff",
    "replacement": b"\xff\xfe broken".decode(errors="replace"),
    "control characters": "".join(map(chr, range(32))) + "\x7f\x85\u2028",
    "right to left": "\u202e4829\u202c",
    "code": "__import__('os').abort()",
    "pattern": "(.*)+[",
    "digits": "1234567890" * 100_000,
    "brackets": "(" * 1_000_000,
    "line breaks": "\n" * 1_000_000,
    "Chinese": "我们在北京大学" * 7_000,
    "lone surrogates": "\ud800" * 100_000,
    "NUL": "\0" * 100_000,
    "boxes": "\\boxed{" * 100_000,
    "nested braces": "{" * 100_000 + "}" * 100_000,
    "thinking": "<think>" * 100_000 + "</think>" * 10,
    "lines of the references": "Ann\n1234\n" * 20_000,
}


@pytest.fixture(params=NAMES)
def benchmark(request: pytest.FixtureRequest, tmp_path: Path) -> Benchmark:
    made: Benchmark = catalog.build("benchmark", request.param, needed_options(request.param, tmp_path))
    return made


def needed_options(name: str, folder: Path) -> dict[str, Any]:
    """The options without which a benchmark cannot be."""
    if name != "own_data":
        return {}
    data = folder / "my.jsonl"
    data.write_text('{"context": "c", "question": "q", "answer": "a", "max_new_tokens": 8}\n')
    return {"data": str(data), "metric": "qa_f1"}


def subsets_of(benchmark: Benchmark) -> tuple[str | None, ...]:
    return benchmark.subsets or (None,)


def samples_for(benchmark: Benchmark, subset: str | None, count: int) -> list[Sample]:
    """Samples as `load` would make them, without data that would have to be downloaded."""
    task = subset or ""
    return [
        Sample(str(index), "context", "question", ("Ann", "1234"), 8, task=task, extra={"depth": 50.0, "length": 4096})
        for index in range(count)
    ]


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS.keys())
def test_no_prediction_breaks_the_score(benchmark: Benchmark, prediction: str) -> None:
    for subset in subsets_of(benchmark):
        scores = benchmark.score(samples_for(benchmark, subset, 1), [prediction])

        assert len(scores.per_sample) == 1
        assert scores.score is None or 0 <= scores.score <= 100


def test_one_row_of_scores_a_sample(benchmark: Benchmark) -> None:
    for subset in subsets_of(benchmark):
        scores = benchmark.score(samples_for(benchmark, subset, 3), ["Ann 1234", "", "wrong"])

        assert len(scores.per_sample) == 3
        assert len({tuple(row) for row in scores.per_sample}) == 1
        json.dumps(dataclasses.asdict(scores), allow_nan=False)


def test_scores_hang_on_nothing_that_raw_results_do_not_hold(benchmark: Benchmark) -> None:
    texts = ["Ann 1234", "", "wrong"]
    for subset in subsets_of(benchmark):
        samples = samples_for(benchmark, subset, 3)
        rows = [
            to_row(sample, Answer(text, 1, 1, 0, 1, 1, 1), keep_context=False)
            for sample, text in zip(samples, texts, strict=True)
        ]

        assert benchmark.score(list(map(sample_of, rows)), texts) == benchmark.score(samples, texts)


def test_headline_is_the_metric_that_is_the_score(benchmark: Benchmark) -> None:
    for subset in subsets_of(benchmark):
        scores = benchmark.score(samples_for(benchmark, subset, 3), ["Ann 1234", "", "wrong"])

        name = benchmark.headline(subset)
        assert (scores.score is None) == (name == "")
        assert not name or next(iter(scores.per_sample[0])) == name
        assert scores.score is None or scores.metrics[name].value == scores.score


def test_missing_answers_are_an_error_and_never_a_smaller_mean(benchmark: Benchmark) -> None:
    subset = subsets_of(benchmark)[0]

    with pytest.raises(ValueError, match="zip"):
        benchmark.score(samples_for(benchmark, subset, 2), ["Ann"])


def test_no_samples_have_no_score(benchmark: Benchmark) -> None:
    scores = benchmark.score([], [])

    assert scores.score is None
    assert scores.per_sample == ()


def test_identity_is_json_and_the_same_every_time(benchmark: Benchmark) -> None:
    again = dataclasses.replace(benchmark)
    for subset in subsets_of(benchmark):
        identity = benchmark.identity(subset)

        assert json.loads(json.dumps(identity)) == identity == again.identity(subset)
        assert identity["version"] == benchmark.version
        assert not any(str(value).startswith(("/", "~", "./")) for value in identity.values())


def test_hub_data_follows_one_revision_option(benchmark: Benchmark) -> None:
    repos = [repo for subset in subsets_of(benchmark) if (repo := benchmark.hub_data(subset))]
    if not repos:
        pytest.skip("needs no data set of the hub")

    pinned = dataclasses.replace(benchmark, revision="0" * 40)

    assert len({(repo.kind, repo.name, repo.revision) for repo in repos}) == 1
    for subset in subsets_of(benchmark):
        repo = pinned.hub_data(subset)
        assert repo is not None
        assert repo.revision == "0" * 40
        assert "0" * 40 in json.dumps(pinned.identity(subset))


def test_sizes_are_positive(benchmark: Benchmark) -> None:
    for subset in subsets_of(benchmark):
        assert all(value > 0 for value in dataclasses.astuple(benchmark.size(subset)))


def test_averages_are_of_valid_subsets_with_weights_above_zero(benchmark: Benchmark) -> None:
    for subset in benchmark.subsets or ("",):
        averages = benchmark.averages([subset])

        assert any(subset in weights for weights in averages.values())
        assert all(weight > 0 for weights in averages.values() for weight in weights.values())
        for other in {other for weights in averages.values() for other in weights} - {""}:
            assert benchmark.check_subset(other) == other


def test_own_subsets_are_valid_and_others_are_refused(benchmark: Benchmark) -> None:
    for subset in benchmark.subsets:
        assert benchmark.check_subset(subset) == subset
    for wrong in ("no such subset", "", "../../etc"):
        with pytest.raises(SweepError):
            benchmark.check_subset(wrong)


def test_unknown_option_is_refused() -> None:
    for name in NAMES:
        with pytest.raises(SweepError):
            catalog.build("benchmark", name, {"no_such_option": 1})
