"""What stands in a result's stub.json and metrics.json; docs/results.md says what each key means."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar

import pydantic

from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.fingerprint import identity_of
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.scoring_versions import present_versions
from hpc_bench.execution.schema import FileName, InnerPath, Json
from hpc_bench.values import Answer, Asked, Metric, Sample, Scores

__all__ = ["Facts", "Metrics", "Place", "facts_of", "metrics_of"]

FORMAT_VERSION = 1
_CHECKED = pydantic.ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """stub.json: what a result is of, how it was made, and what it took. Keys that came later have a default."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _CHECKED

    key: str
    attempt: int
    fingerprint: str
    samples: int
    seconds: float
    """As if the stub had run alone: prefills and answers."""
    provenance: Mapping[str, Json]
    sha256: Mapping[FileName, str]
    """Name -> digest, for the other files of the result."""
    bytes: Mapping[FileName, int] = field(default_factory=dict)
    """Name -> size, of the same files."""
    format_version: int = FORMAT_VERSION
    model: str = ""
    attention: str = ""
    benchmark: str = ""
    subset: str | None = None
    identity: Mapping[str, Json] = field(default_factory=dict)
    scoring_version: int = 1
    """Of the benchmark, behind the scores."""
    prefill_s: float = 0.0
    answer_s: float = 0.0
    tokens_out: int = 0
    tokens_per_s: float | None = None
    cut_tokens: int = 0
    unshared_tokens: float = 0.0
    """Mean of `Answer.unshared_tokens`."""
    density: float | None = None
    layer_density: tuple[float, ...] | None = None
    prefill_density: float | None = None
    attention_error: float | None = None
    measure_error: float = 0.0
    """The share of passes in which the attention error was measured."""
    peak_memory_gb: float | None = None
    asked: Asked | None = None
    """Which samples of the subset were asked; None in results of format 1, whose fingerprint says it."""
    log: InnerPath = ""
    """Of the engine."""


@dataclass(frozen=True)
class Metrics:
    """metrics.json: the scores."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _CHECKED

    score: float | None
    metrics: Mapping[str, Metric]
    by: Mapping[str, Mapping[str, float]]
    samples: int
    headline: str = ""
    """The metric that is the score; empty: the first column of scores in raw_results.csv."""
    density: float | None = None
    layer_density: tuple[float, ...] | None = None
    prefill_density: float | None = None
    attention_error: float | None = None
    note: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.score is not None and not 0 <= self.score <= 100:
            raise ValueError(f"score is outside 0-100: {self.score!r}")


@dataclass(frozen=True)
class Place:
    """Where a result was made, and on what."""

    provenance: Mapping[str, Json]
    peak_memory_gb: float | None
    log: str


def facts_of(
    header: Header, claim: Claim, samples: Sequence[Sample], answers: Mapping[str, Answer], place: Place
) -> Facts:
    """The facts of a run whose answers are all there."""
    stub, mine = claim.stub, [answers[sample.sample_id] for sample in samples]
    groups = itertools.groupby(samples, key=lambda sample: (sample.context, sample.chat))
    prefill_s = sum(sum(_prefills(answers[sample.sample_id] for sample in group)) for _, group in groups)
    answer_s, tokens_out = sum(answer.seconds for answer in mine), sum(answer.tokens_out for answer in mine)
    facts = Facts(
        key=stub.key,
        attempt=claim.attempt,
        fingerprint=stub.fingerprint,
        samples=len(samples),
        seconds=round(answer_s + prefill_s, 6),
        provenance=place.provenance,
        sha256={},
        model=stub.model,
        attention=stub.attention,
        benchmark=stub.benchmark,
        subset=stub.subset,
        identity=identity_of(header, stub),
        scoring_version=present_versions(header)[stub.benchmark],
        prefill_s=round(prefill_s, 6),
        answer_s=round(answer_s, 6),
        tokens_out=tokens_out,
        tokens_per_s=round(tokens_out / answer_s, 3) if answer_s else None,
        cut_tokens=sum(answer.cut_tokens for answer in mine),
        unshared_tokens=round(fmean(answer.unshared_tokens for answer in mine), 6),
        measure_error=header.attentions[stub.attention].measure_error,
        asked=header.request.asked,
        peak_memory_gb=place.peak_memory_gb and round(place.peak_memory_gb, 3),
        log=place.log,
    )
    return _with_attention_means(facts, mine)


def _prefills(answers: Iterable[Answer]) -> Iterable[float]:
    """The seconds of each prefill behind the answers about one context: those that share one have its time."""
    return {(answer.cut_tokens, answer.prefill_s): answer.prefill_s for answer in answers}.values()


def _with_attention_means(facts: Facts, answers: Sequence[Answer]) -> Facts:
    """Means over the samples; of the error, over those in which it was measured."""
    layers = zip(*(answer.layer_density for answer in answers if answer.layer_density), strict=True)
    errors = [answer.attention_error for answer in answers if answer.attention_error is not None]
    return dataclasses.replace(
        facts,
        density=round(fmean(answer.density for answer in answers), 6),
        layer_density=tuple(round(fmean(layer), 6) for layer in layers),
        prefill_density=round(fmean(answer.prefill_density for answer in answers), 6),
        attention_error=round(fmean(errors), 6) if errors else None,
    )


def metrics_of(scores: Scores, facts: Facts) -> Metrics:
    """The metrics of a result with these scores."""
    return Metrics(
        score=scores.score,
        metrics=scores.metrics,
        by=scores.by,
        samples=facts.samples,
        headline=next(iter(scores.per_sample[0] if scores.per_sample else ()), ""),
        density=facts.density,
        layer_density=facts.layer_density,
        prefill_density=facts.prefill_density,
        attention_error=facts.attention_error,
        note=scores.note,
    )
