"""Scores complete results again from their raw_results.csv: no model, no data, no GPU."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.scoring import score_answers
from hpc_bench.errors import ExecutionError, HpcBenchError, unknown_name
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.facts import Facts, metrics_of
from hpc_bench.execution.results.publish import own_file, write_scored
from hpc_bench.execution.results.raw_results import Row, sample_of, text_of, with_scores
from hpc_bench.execution.results.replacement import UnfinishedError, finish_replacing, replace_files, workplace
from hpc_bench.execution.results.result import (
    METRICS,
    STUB,
    InvalidResultError,
    Result,
    StaleResultError,
    verify_result,
)
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.view import ExecutionView
from hpc_bench.files import filesystem_now, list_names
from hpc_bench.values import Json, Scores

__all__ = ["Rescored", "rescore_execution"]

_ABANDONED_S = 86400.0


@dataclass(frozen=True)
class Rescored:
    """What became of one result."""

    stub: Stub
    state: Literal["changed", "unchanged", "confirmed", "left", "unfinished"]
    """confirmed: the scores are as they were, and stub.json now says that they are of the present scoring version too;
    left: as it was, since it is stale or invalid or cannot be scored, for the reason given; unfinished: changed for
    every reader of hpc-bench, but the next time has to move files to their places"""
    old: float | None = None
    new: float | None = None
    differing: tuple[str, ...] = ()
    """What changed: keys of metrics.json, how many samples, files"""
    reason: str = ""
    versions: tuple[int, int] | None = None
    """The benchmark's when the questions were asked and its present one, where they differ"""
    scoring_versions: tuple[int, int] | None = None
    """The benchmark's behind the old scores and its present one, where they differ"""


def rescore_execution(execution: ExecutionDir, benchmarks: Sequence[str] = ()) -> Iterator[Rescored]:
    """Scores every complete result again, of some benchmarks or of all, and replaces those whose scores changed.

    Workers may be at work: a result that is not published yet is not looked at.
    """
    view = ExecutionView(execution)
    header = view.manifest.header
    for name in benchmarks:
        if name not in header.benchmarks:
            raise ExecutionError(f"--benchmark: {unknown_name('benchmark', name, header.benchmarks)}")
    view.refresh()
    _remove_abandoned(execution)
    for stub in view.manifest.stubs:
        if not benchmarks or stub.benchmark in benchmarks:
            try:
                state = view.state(stub).state
            except ExecutionError as error:  # of a claim that cannot be read
                yield Rescored(stub, "left", reason=f"CorruptClaim: {error}")
                continue
            if state == "complete":
                yield _rescore(execution, header, stub)


def _rescore(execution: ExecutionDir, header: Header, stub: Stub) -> Rescored:
    """One result; whatever goes wrong, also in a plug-in's scores, is said of this one and stops no other."""
    folder = execution.result(stub.result_path)
    try:
        result = verify_result(folder, stub.fingerprint, header.request.asked)
        finish_replacing(folder)
        benchmark, rows = header.benchmark(stub.benchmark), result.rows()
        scores = score_answers(
            benchmark, [sample_of(row) for row in rows], [text_of(row["prediction"]) for row in rows]
        )
        facts = dataclasses.replace(result.facts, scoring_version=benchmark.scoring_version)
        differing = tuple(_differing(result, rows, _checked(scores, facts), scores))
        found = _compare(stub, result, scores, differing, benchmark)
        if found.state == "unchanged":
            return found
        try:
            _replace(execution, result, rows, scores, facts, benchmark)
        except UnfinishedError as error:
            return dataclasses.replace(found, state="unfinished", reason=str(error))
        return found
    except (StaleResultError, InvalidResultError) as error:
        kind = type(error).__name__.removesuffix("Error")
        return Rescored(stub, "left", reason=f"{kind}: {error}")
    except HpcBenchError as error:
        return Rescored(stub, "left", reason=str(error))
    except Exception as error:
        # It may quote a path or an answer that cannot be encoded.
        reason = f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()
        return Rescored(stub, "left", reason=reason)


def _checked(scores: Scores, facts: Facts) -> dict[str, Any]:
    """The metrics as they are read back; ValueError if a result with them would be invalid."""
    read_back: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(metrics_of(scores, facts)), allow_nan=False))
    return read_back


def _differing(result: Result, rows: Sequence[Row], metrics: Mapping[str, Any], scores: Scores) -> Iterator[str]:
    before = result.documents[METRICS]
    yield from (key for key in dict.fromkeys([*before, *metrics]) if before.get(key) != metrics.get(key))
    scored = [with_scores(row, of_one) for row, of_one in zip(rows, scores.per_sample, strict=True)]
    changed = sum(_filled(old) != _filled(new) for old, new in zip(rows, scored, strict=True))
    if changed:
        yield f"{changed} of {len(scored)} samples"
    known = result.facts.sha256
    yield from (
        name for name, text in scores.files.items() if hashlib.sha256(own_file(text)).hexdigest() != known.get(name)
    )


def _filled(row: Row) -> dict[str, str]:
    """Without the columns that only other rows have."""
    return {column: cell for column, cell in row.items() if cell}


def _compare(stub: Stub, result: Result, scores: Scores, differing: tuple[str, ...], benchmark: Benchmark) -> Rescored:
    identity: Any = result.facts.identity
    asked = identity["benchmark"].get("version", benchmark.version)
    scoring = _versions(result.facts.scoring_version, benchmark.scoring_version)
    return Rescored(
        stub,
        "changed" if differing else "confirmed" if scoring else "unchanged",
        result.metrics.score,
        scores.score,
        differing,
        versions=_versions(asked, benchmark.version),
        scoring_versions=scoring,
    )


def _versions(asked: int, present: int) -> tuple[int, int] | None:
    return None if asked == present else (asked, present)


def _made_by(benchmark: Benchmark) -> dict[str, Json]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "hpc_bench": version("hpc-bench"),
        "benchmark_version": benchmark.version,
    }


def _replace(
    execution: ExecutionDir, result: Result, rows: Sequence[Row], scores: Scores, facts: Facts, benchmark: Benchmark
) -> None:
    """Keeps the keys of stub.json that this version of the program does not know."""
    others = {**result.documents[STUB], "rescored": _made_by(benchmark)}
    with workplace(execution.rescoring, facts.key) as prepared:
        write_scored(prepared, rows, scores, facts, others)
        replace_files(result.folder, prepared)


def _remove_abandoned(execution: ExecutionDir) -> None:
    """What programs that were killed left behind; results do not depend on it."""
    for name in list(list_names(execution.rescoring)):
        place = execution.rescoring / name
        with suppress(OSError):
            if filesystem_now(execution.workers) - place.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(place)
