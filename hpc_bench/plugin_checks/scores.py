"""The contract of `Benchmark.score`: any prediction is scored, with one row for each sample, and always the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.execution.results.raw_results import sample_of, to_row
from hpc_bench.plugin_checks.contract import ContractError, require, require_json
from hpc_bench.values import Answer, Sample, Scores

__all__ = ["PREDICTIONS", "check_scores"]

PREDICTIONS: Mapping[str, str] = MappingProxyType(
    {
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
)
"""What models have said or may say; scoring must handle all of it."""


def check_scores(benchmark: Benchmark, subset: str | None, samples: Sequence[Sample], where: str) -> None:
    """ContractError, beginning with `where`, unless `score` keeps its contract for these samples."""
    few = samples[:3]
    texts = [" ".join(few[0].references), "", "wrong"][: len(few)]
    _check_no_samples(benchmark, where)
    for sample in {sample.task: sample for sample in reversed(samples)}.values():
        _check_predictions(benchmark, sample, where)
    scores = _score(benchmark, few, texts, where)
    _check_form(scores, len(few), where)
    _check_headline(benchmark, subset, scores, where)
    _check_missing_answers(benchmark, few, texts, where)
    require(_score(benchmark, few, texts, where) == scores, f"{where}: score must return the same scores at every call")
    again = [sample_of(to_row(*pair, keep_context=False)) for pair in zip(few, map(_answer, texts), strict=True)]
    require(
        _score(benchmark, again, texts, where) == scores,
        f"{where}: score depends on more of a sample than its sample_id, question, references, task and extra; "
        "raw_results.csv contains nothing else, so that answers could not be scored again",
    )


def _answer(text: str) -> Answer:
    return Answer(text, 1, 1, 0, 1, 1, 1)


def _score(benchmark: Benchmark, samples: Sequence[Sample], texts: Sequence[str], where: str) -> Scores:
    try:
        return benchmark.score(samples, texts)
    except Exception as error:
        raise ContractError(
            f"{where}: score must not raise because of a prediction; it raised {type(error).__name__}: {error}"
        ) from error


def _check_no_samples(benchmark: Benchmark, where: str) -> None:
    scores = _score(benchmark, [], [], f"{where}: no samples")
    require(
        scores.score is None and scores.per_sample == (),
        f"{where}: without samples the score must be None and per_sample (), not {scores.score} and "
        f"{scores.per_sample}",
    )


def _check_predictions(benchmark: Benchmark, sample: Sample, where: str) -> None:
    for name, prediction in PREDICTIONS.items():
        named = f"{where}: prediction {name!r}"
        _check_form(_score(benchmark, [sample], [prediction], named), 1, named)


def _check_form(scores: Scores, samples: int, where: str) -> None:
    rows = len(scores.per_sample)
    require(rows == samples, f"{where}: score returned {rows} rows in per_sample for {samples} samples")
    columns = {tuple(row) for row in scores.per_sample}
    require(len(columns) == 1, f"{where}: all rows of per_sample must have the same names in the same order")
    value = scores.score
    require(value is None or 0 <= value <= 100, f"{where}: the score must be between 0 and 100, not {value}")
    plain = {
        "metrics": {name: dataclasses.asdict(metric) for name, metric in scores.metrics.items()},
        "per_sample": list(map(dict, scores.per_sample)),
        "by": {name: dict(parts) for name, parts in scores.by.items()},
        "texts": [scores.note, dict(scores.files)],
    }
    require_json(plain, f"{where}: Scores")


def _check_headline(benchmark: Benchmark, subset: str | None, scores: Scores, where: str) -> None:
    name = benchmark.headline(subset)
    require(
        (scores.score is None) == (name == ""),
        f"{where}: headline must name a metric if there is a score, and must be empty otherwise; it is {name!r}, "
        f"and the score is {scores.score}",
    )
    if scores.score is None:
        return
    first = next(iter(scores.per_sample[0]), "")
    require(
        first == name, f"{where}: the first score of each sample must be that of the headline, {name!r}, not {first!r}"
    )
    metric = scores.metrics.get(name)
    require(
        metric is not None and metric.value == scores.score,
        f"{where}: metrics must contain {name!r}, equal to the score {scores.score}",
    )


def _check_missing_answers(benchmark: Benchmark, samples: Sequence[Sample], texts: Sequence[str], where: str) -> None:
    """A mean over too few answers would look like a valid result."""
    for fewer in (texts[:-1], [*texts, ""]):
        try:
            benchmark.score(samples, fewer)
        except ValueError:
            continue
        except Exception as error:
            raise ContractError(
                f"{where}: score of {len(samples)} samples with {len(fewer)} answers raised {type(error).__name__}, "
                "not ValueError"
            ) from error
        raise ContractError(
            f"{where}: score must raise ValueError for {len(samples)} samples with {len(fewer)} answers "
            "(zip(..., strict=True) does)"
        )
