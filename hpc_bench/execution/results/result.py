"""One owner of a published result's folder: all who ask whether a result stands get their answer here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc_bench.errors import HpcBenchError
from hpc_bench.execution.results.facts import Facts, Metrics
from hpc_bench.execution.results.raw_results import Row, SampleScores, read_rows, read_sample_scores
from hpc_bench.execution.results.replacement import current, version_of
from hpc_bench.execution.schema import Json, parse_as
from hpc_bench.files import file_digest, from_json, open_regular, to_json
from hpc_bench.values import Asked

__all__ = [
    "METRICS",
    "RAW_RESULTS",
    "SAMPLES",
    "STUB",
    "InvalidResultError",
    "Result",
    "StaleResultError",
    "digest_of_facts",
    "read_result",
    "standing_facts",
    "verify_result",
]

RAW_RESULTS, METRICS, STUB, SAMPLES = "raw_results.csv", "metrics.json", "stub.json", "samples.jsonl"
_READINGS = 5


class InvalidResultError(HpcBenchError):
    """A result's files cannot be read, contradict each other, or are not as they were published."""


class StaleResultError(HpcBenchError):
    """A result was made by another configuration than the one that is asked."""

    def __init__(self, message: str, facts: Facts) -> None:
        super().__init__(message)
        self.facts = facts


@dataclass(frozen=True)
class Result:
    """A result that stands: its facts and scores agree with each other and with what was asked."""

    folder: Path
    facts: Facts
    metrics: Metrics
    documents: Mapping[str, Mapping[str, Any]]
    """stub.json and metrics.json as they are, keys of other versions included."""

    def rows(self) -> list[Row]:
        """All rows of raw_results.csv; ValueError if one is torn."""
        return read_rows(current(self.folder, RAW_RESULTS))

    @cached_property
    def scores(self) -> SampleScores:
        """The headline's scores, sample by sample; ValueError if a row is torn."""
        return read_sample_scores(current(self.folder, RAW_RESULTS), self.metrics.headline)


def read_result(folder: Path, fingerprint: str, asked: Asked) -> Result:
    """The result in a folder, by the two small files alone and the sizes of the others; StaleResultError or
    InvalidResultError if it does not stand.
    """
    return _consistently(folder, lambda: _read(folder, fingerprint, asked))


def verify_result(folder: Path, fingerprint: str, asked: Asked) -> Result:
    """The same, with every byte of its files checked and the samples' scores read."""
    return _consistently(folder, lambda: _verified(_read(folder, fingerprint, asked)))


def standing_facts(folder: Path) -> Facts | None:
    """The facts in a folder, whatever they are of; None if it holds none that can be read."""
    try:
        return _facts(folder)[0]
    except (OSError, ValueError):
        return None


def digest_of_facts(document: Mapping[str, Json]) -> str:
    """What stub.json says of itself: sha256 of its canonical JSON, the digest left out."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(to_json(rest).encode(errors="surrogatepass")).hexdigest()


def _consistently(folder: Path, read: Callable[[], Result]) -> Result:
    """Reads once more what looks invalid and was being scored again at that moment."""
    for _ in range(_READINGS - 1):
        before = version_of(folder)
        try:
            return _explained(folder, read)
        except InvalidResultError:
            if version_of(folder) == before:
                raise
    return _explained(folder, read)


def _explained(folder: Path, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except _ProblemError as error:
        raise InvalidResultError(f"{folder}: {error}; move the folder away and submit again") from error
    except (OSError, ValueError) as error:
        raise InvalidResultError(f"{folder}: cannot be read: {error}; move the folder away and submit again") from error


class _ProblemError(ValueError):
    """What makes a result untrustworthy."""


def _read(folder: Path, fingerprint: str, asked: Asked) -> Result:
    """stub.json comes first: once it is a new one, so are all other files."""
    facts, document = _facts(folder)
    if facts.fingerprint != fingerprint or facts.asked not in (None, asked):
        raise StaleResultError(
            f"{folder} was made by another configuration than the manifest's; `plan` names the difference", facts
        )
    if "digest" in document and document["digest"] != digest_of_facts(document):
        raise _ProblemError(f"{STUB} is not as it was published")
    text = _content(folder, METRICS)
    metrics, metrics_document = _parsed(METRICS, Metrics, text)
    if metrics.samples != facts.samples:
        raise _ProblemError(f"{METRICS} counts {metrics.samples} samples, {STUB} {facts.samples}")
    if METRICS in facts.sha256 and facts.sha256[METRICS] != hashlib.sha256(text).hexdigest():
        raise _ProblemError(f"{METRICS} is not as it was published")
    for name in facts.sha256:
        size = current(folder, name).stat().st_size
        if facts.bytes.get(name, size) != size:
            raise _ProblemError(f"{name} is not as it was published")
    return Result(folder, facts, metrics, {STUB: document, METRICS: metrics_document})


def _facts(folder: Path) -> tuple[Facts, Mapping[str, Any]]:
    return _parsed(STUB, Facts, _content(folder, STUB))


def _content(folder: Path, name: str) -> bytes:
    with open_regular(current(folder, name)) as file:
        return file.read()


def _parsed(name: str, cls: Any, text: bytes) -> tuple[Any, Mapping[str, Any]]:
    try:
        document: Any = from_json(text)
        return parse_as(cls, text), document
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _verified(result: Result) -> Result:
    rows = len(result.scores.ids)
    if rows != result.metrics.samples:
        raise _ProblemError(f"{RAW_RESULTS} has {rows} rows, not {result.metrics.samples}")
    for name, digest in result.facts.sha256.items():
        if file_digest(current(result.folder, name)) != digest:
            raise _ProblemError(f"{name} is not as it was published")
    return result
