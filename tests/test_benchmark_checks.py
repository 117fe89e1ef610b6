"""The contract check for benchmarks can fail, and its message says what is violated."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from hpc_bench.plugin import Benchmark, HubRepo, Metric, Sample, Scores, SubsetSize, SweepError, Tokens
from hpc_bench.plugin_checks import ContractError, check_benchmark
from tests.support.broken_plugins import broken


@dataclass(frozen=True)
class Quiz(Benchmark):
    """Keeps the contract."""

    subsets: ClassVar[tuple[str, ...]] = ("easy", "hard")

    def headline(self, subset: str | None) -> str:
        return "accuracy"

    def size(self, subset: str | None) -> SubsetSize:
        return SubsetSize(4, 10, 4)

    def load(self, subset: str | None, tokens: Tokens) -> Iterator[Sample]:
        for number in range(4):
            yield Sample(str(number), f"Context {number // 2}.", f"{subset} question {number}?", (f"{number}",), 4)

    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        return graded([sample.references[0] in text for sample, text in zip(samples, predictions, strict=True)])


def graded(hits: Sequence[float], best: float = 100.0) -> Scores:
    if not hits:
        return Scores(None, {}, ())
    mean = best * sum(hits) / len(hits)
    return Scores(mean, {"accuracy": Metric(mean)}, tuple({"accuracy": best * hit} for hit in hits))


def loads(**changes: Any) -> dict[str, Any]:
    """Samples that differ from the good ones."""
    return {"load": lambda self, *args: [dataclasses.replace(sample, **changes) for sample in Quiz().load(*args)]}


def scores(make: Any) -> dict[str, Any]:
    """Scores that are made of the good ones, where there are any."""

    def score(self: Benchmark, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        good = Quiz().score(samples, predictions)
        return make(good) if samples else good  # type: ignore[no-any-return]

    return {"score": score}


def answers(make: Any) -> dict[str, Any]:
    """Scores by a rule of one sample and its prediction."""

    def score(self: Benchmark, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        return graded([make(sample, text) for sample, text in zip(samples, predictions, strict=True)])

    return {"score": score}


def with_rows(make: Any) -> dict[str, Any]:
    return scores(lambda good: dataclasses.replace(good, per_sample=make(good.per_sample)))


def taken(self: Benchmark, subset: str) -> str:
    return subset


def all_but_subsets(self: Benchmark, subset: str) -> str:
    raise SweepError("no")


BENCHMARKS: dict[str, tuple[dict[str, Any], str]] = {
    "no samples": ({"load": lambda *_: []}, "load returned no samples"),
    "doubled ids": (loads(sample_id="7"), "ids must be unique; duplicated: 7"),
    "other samples at every call": (
        {"load": lambda self, *args: [Sample(str(random.random()), "c", "q", ("r",), 4)]},
        "the same samples at every call",
    ),
    "contexts apart": (
        {"load": lambda *_: [Sample(str(number), f"c{number % 2}", "q", ("r",), 4) for number in range(4)]},
        "must be next to each other",
    ),
    "references in a list": (loads(references=["r"]), "references must be a tuple of strings"),
    "number as a question": (loads(question=1), "question must be a string"),
    "no question": (loads(question=""), "question and answer_prefix are both empty"),
    "no room for an answer": (loads(max_new_tokens=0), "max_new_tokens must be at least 1"),
    "cut already": (loads(cut_tokens=3), "cut_tokens must be 0"),
    "column that is taken": (loads(extra={"prediction": 1}), "raw_results.csv needs the name"),
    "column without JSON": (loads(extra={"odd": {1}}), "extra must be plain JSON data"),
    "score above 100": ({"score": lambda self, s, p: graded([1.0] * len(s), 1000.0)}, "between 0 and 100, not 1000"),
    "score that is no number": (
        scores(lambda good: dataclasses.replace(good, score=float("nan"))),
        "between 0 and 100, not nan",
    ),
    "row that is no number": (with_rows(lambda rows: [{"accuracy": float("inf")} for _ in rows]), "without NaN"),
    "too few rows": (with_rows(lambda rows: rows[:-1]), "rows in per_sample for"),
    "rows of their own kind": (
        with_rows(lambda rows: tuple({"accuracy": 0.0, str(number): 0.0} for number, _ in enumerate(rows))),
        "the same names in the same order",
    ),
    "prediction that must be a number": (answers(lambda sample, text: float(int(text) > 0)), "raised ValueError"),
    "prediction that is run": (
        answers(lambda sample, text: float(bool(eval(text)) if text.startswith("(") else 0)),
        "prediction 'pattern': score must not raise because of a prediction; it raised SyntaxError",
    ),
    "missing answers": (
        {"score": lambda self, samples, texts: graded([0.0 for _ in zip(samples, texts, strict=False)])},
        "must raise ValueError for 3 samples with 2 answers",
    ),
    "score of nothing": (
        {"score": lambda self, samples, texts: graded([0.0 for _ in zip(samples, texts, strict=True)] or [0.0])},
        "without samples the score must be None",
    ),
    "score by chance": (answers(lambda sample, text: random.random()), "the same scores at every call"),
    "score by the context": (answers(lambda sample, text: float(bool(sample.context))), "depends on more of a sample"),
    "no headline": ({"headline": lambda *_: ""}, "headline must name a metric if there is a score"),
    "headline without a score": (
        {"score": lambda self, s, p: dataclasses.replace(Quiz().score(s, p), score=None)},
        "headline .* must be empty otherwise",
    ),
    "another headline": (
        {"headline": lambda *_: "f1"},
        "first score of each sample must be that of the headline, 'f1'",
    ),
    "headline unlike the score": (
        scores(lambda good: dataclasses.replace(good, metrics={"accuracy": Metric(-1.0)})),
        "metrics must contain 'accuracy', equal to the score",
    ),
    "identity without version": ({"identity": lambda *_: {"seed": 0}}, "identity must contain the benchmark's version"),
    "identity of another time": (
        {"identity": lambda *_: {"version": 1, "time": random.random()}},
        "identity must be the same at every call",
    ),
    "identity with a path": ({"identity": lambda *_: {"version": 1, "data": "/home/me"}}, "contains the path"),
    "identity without JSON": ({"identity": lambda *_: {"version": 1, "ids": (1,)}}, "identity must be plain JSON"),
    "no size": ({"size": lambda *_: SubsetSize(0, 10, 4)}, "size must be positive, not samples 0"),
    "any subset": ({"check_subset": taken}, r"check_subset\('no such subset'\) must raise SweepError"),
    "no subset": ({"check_subset": all_but_subsets}, "must return the subset as `subsets` spells it"),
    "subset by number": ({"check_subset": lambda self, subset: str(int(subset))}, "raised ValueError, not SweepError"),
    "hub data without a revision": (
        {"hub_data": lambda *_: HubRepo("dataset", "org/data", "main")},
        "requires an option `revision`",
    ),
    "two data sets": (
        {"hub_data": lambda self, subset: HubRepo("dataset", f"org/{subset}", "main")},
        "more than one repository",
    ),
}


def test_benchmark_that_keeps_the_contract_passes() -> None:
    check_benchmark(Quiz())


@pytest.mark.parametrize(("changes", "violation"), BENCHMARKS.values(), ids=BENCHMARKS.keys())
def test_broken_benchmark_is_found(changes: dict[str, Any], violation: str) -> None:
    with pytest.raises(ContractError, match=violation):
        check_benchmark(broken(Quiz, changes))


@dataclass(frozen=True)
class Pinned(Quiz):
    """Has a revision, and does not follow it."""

    revision: str = "main"

    def hub_data(self, subset: str | None) -> HubRepo | None:
        return HubRepo("dataset", "org/data", "main")


@dataclass(frozen=True)
class Unsaid(Pinned):
    """Follows its revision, and does not say so in its identity."""

    def hub_data(self, subset: str | None) -> HubRepo | None:
        return HubRepo("dataset", "org/data", self.revision)

    def identity(self, subset: str | None) -> dict[str, Any]:
        return {"version": self.version}


@pytest.mark.parametrize(
    ("benchmark", "violation"), [(Pinned(), "does not follow the option"), (Unsaid(), "does not contain the revision")]
)
def test_revision_that_pins_nothing_is_found(benchmark: Benchmark, violation: str) -> None:
    with pytest.raises(ContractError, match=violation):
        check_benchmark(benchmark)


@dataclass(frozen=True)
class Odd(Quiz):
    """An option that no sweep can hold."""

    names: frozenset[str] = frozenset({"a"})


@dataclass(frozen=True)
class Growing(Quiz):
    """An option that is another one when it is read again."""

    rate: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", self.rate + 1)


class NoDataclass(Quiz):
    """Its fields would be no options."""

    samples: int = 4


@pytest.mark.parametrize(
    ("benchmark", "violation"),
    [
        (Odd(), "the options of Odd must be plain JSON data"),
        (Growing(), "built from its own options .* is not equal"),
        (NoDataclass(), "NoDataclass must be a frozen dataclass"),
    ],
)
def test_options_that_a_sweep_cannot_give_are_found(benchmark: Benchmark, violation: str) -> None:
    with pytest.raises(ContractError, match=violation):
        check_benchmark(benchmark)


def test_given_samples_are_scored_in_place_of_loaded_ones() -> None:
    unloadable = broken(Quiz, {"load": None})

    check_benchmark(unloadable, samples={"easy": [Sample("0", "c", "q", ("r",), 4)]})
    with pytest.raises(ContractError, match="ids must be unique"):
        check_benchmark(unloadable, samples={"easy": [Sample("0", "c", "q", ("r",), 4)] * 2})
