"""From a results folder to a summary: every stub's score or state, checked against its manifest. Disk only."""

from __future__ import annotations

import csv
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpc_bench.claims import Outcome
from hpc_bench.errors import ExecutionError
from hpc_bench.execution_dir import ExecutionDir
from hpc_bench.files import file_digest, read_json, write_whole
from hpc_bench.manifest import Header, Stub
from hpc_bench.publish import METRICS, RAW_RESULTS, STUB
from hpc_bench.records import Json
from hpc_bench.replacement import current, version_of
from hpc_bench.status import StatusReader

__all__ = ["Cell", "Summary", "collect_execution", "read_cell", "write_summary"]

_FACTS = (
    "samples",
    "seconds",
    "prefill_s",
    "answer_s",
    "tokens_out",
    "tokens_per_s",
    "cut_tokens",
    "peak_memory_gb",
    "density",
    "prefill_density",
    "attention_error",
)
_READINGS = 5
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Cell:
    """One stub in the summary."""

    stub: Stub
    state: str
    """complete, stale, invalid, failed, running or pending"""
    attempt: int
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    by: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """stub.json of a complete stub, without the identity"""
    failure: Outcome | None = None

    @property
    def reason(self) -> str:
        """Why there is no result, in a line; empty if there is one."""
        if not self.failure:
            return ""
        first = (self.failure.message.strip().splitlines() or [""])[0]
        # An exception may quote a path or an answer that cannot be encoded.
        return f"{self.failure.error}: {first}".encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Summary:
    """Everything that an execution has come to."""

    execution: ExecutionDir
    header: Header
    cells: tuple[Cell, ...]

    @property
    def counts(self) -> dict[str, int]:
        """State -> stubs, for the states that occur, complete ones first."""
        counts = Counter(cell.state for cell in self.cells)
        order = ("complete", "running", "pending", "failed", "stale", "invalid")
        return {state: counts[state] for state in order if counts[state] or state == "complete"}

    @property
    def is_complete(self) -> bool:
        """Whether every stub has a valid result."""
        return all(cell.state == "complete" for cell in self.cells)


def collect_execution(execution: ExecutionDir) -> Summary:
    """Reads and checks every result; a bad one makes its own cell invalid, nothing else."""
    reader = StatusReader(execution)
    reader.board.refresh()
    return Summary(execution, reader.manifest.header, tuple(read_cell(reader, stub) for stub in reader.manifest.stubs))


def read_cell(reader: StatusReader, stub: Stub) -> Cell:
    """Where a stub stands, its result read and checked; `reader.board` must have been read before."""
    try:
        state = reader.state(stub)
    except ExecutionError as error:
        return Cell(stub, "invalid", 0, failure=Outcome("failed", "CorruptClaim", str(error)))
    if state.state == "complete":
        return _read_result(reader.execution, stub, state.attempt)
    return Cell(stub, state.state, state.attempt, failure=reader.last_outcome(stub))


def _read_result(execution: ExecutionDir, stub: Stub, attempt: int) -> Cell:
    """Reads once more what looks bad and was being scored again at that moment."""
    folder = execution.result(stub.result_path)
    for _ in range(_READINGS):
        before = version_of(folder)
        cell = _read_files(folder, stub, attempt)
        if cell.state != "invalid" or version_of(folder) == before:
            break
    return cell


def _read_files(folder: Path, stub: Stub, attempt: int) -> Cell:
    """What stub.json says comes first: once it is a new one, so are all other files."""
    try:
        facts: Any = read_json(current(folder, STUB))
        metrics: Any = read_json(current(folder, METRICS))
        if facts["fingerprint"] != stub.fingerprint:
            reason = f"{folder} was made by another configuration than the manifest's; `plan` names the difference"
            return Cell(stub, "stale", attempt, failure=Outcome("failed", "StaleResult", reason))
        problem = _problem(facts, metrics)
        if not problem:
            rows = _count_rows(current(folder, RAW_RESULTS))
            problem = "" if rows == metrics["samples"] else f"{RAW_RESULTS} has {rows} rows, not {metrics['samples']}"
        if not problem:
            values = {name: _number(metric["value"]) for name, metric in metrics["metrics"].items()}
            by = {name: {part: _number(value) for part, value in of.items()} for name, of in metrics["by"].items()}
            _number(facts["seconds"]), facts["provenance"].items()
            facts.pop("identity", None)  # the manifest has it, and a copy a stub would take most of the memory
            problem = _altered(folder, facts["sha256"])
        if not problem:
            return Cell(stub, "complete", facts["attempt"], metrics["score"], values, by, facts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, csv.Error) as error:
        problem = f"cannot be read: {type(error).__name__}: {error}"
    advice = f"{folder}: {problem}; move the folder away and submit again"
    return Cell(stub, "invalid", attempt, failure=Outcome("failed", "InvalidResult", advice))


def _altered(folder: Path, digests: Mapping[str, str]) -> str:
    """Which file is not as it was published; empty if none."""
    changed = [name for name, digest in digests.items() if file_digest(current(folder, name)) != digest]
    return f"{changed[0]} is not as it was published" if changed else ""


def _problem(facts: Any, metrics: Any) -> str:
    """What makes a result untrustworthy; empty if nothing does."""
    if metrics["samples"] != facts["samples"]:
        return f"{METRICS} counts {metrics['samples']} samples, {STUB} {facts['samples']}"
    score = metrics["score"]
    if score is not None and (
        isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score)
    ):
        return f"{METRICS} holds no number as score: {score!r}"
    if score is not None and not 0 <= score <= 100:
        return f"{METRICS} holds a score outside 0-100: {score!r}"
    return ""


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _count_rows(path: Path) -> int:
    """Rows below the heading; ValueError if one is torn."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        width, count = len(next(rows, [])), 0
        for count, row in enumerate(rows, 1):
            if len(row) != width:
                raise ValueError(f"row {count} of {path.name} has {len(row)} fields, not {width}")
    return count


def write_summary(summary: Summary) -> None:
    """Replaces execution_summary.json and summary.csv."""
    write_whole(summary.execution.summary_json, json.dumps(_as_json(summary), indent=1, ensure_ascii=True) + "\n")
    write_whole(summary.execution.summary_csv, _as_csv(summary))


def _as_json(summary: Summary) -> dict[str, Any]:
    header = summary.header
    prefill_s: dict[Any, float] = {}  # once a bundle, whose stubs share it
    for cell in summary.cells:
        prefill_s[cell.stub.bundle] = max(prefill_s.get(cell.stub.bundle, 0.0), cell.facts.get("prefill_s", 0.0))
    return {
        "format_version": 1,
        "name": header.name,
        "execution": summary.execution.path.name,
        "collected": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "counts": {"stubs": len(summary.cells), **summary.counts},
        "models": list(header.models),
        "sparse_attention_configs": dict(header.attentions),
        "benchmarks": {name: list(entry["identities"]) for name, entry in header.benchmarks.items()},
        "generation": header.generation,
        "request": header.request,
        "provenance": header.provenance,
        "timings": {
            "answer_s": round(sum(cell.facts.get("answer_s", 0.0) for cell in summary.cells), 3),
            "prefill_s": round(sum(prefill_s.values()), 3),
        },
        "stubs": [_stub_json(cell) for cell in summary.cells],
        "failures": [
            {"stub": cell.stub.title, **asdict(cell.failure), "state": cell.state}
            for cell in summary.cells
            if cell.failure
        ],
    }


def _stub_json(cell: Cell) -> dict[str, Json]:
    stub = cell.stub
    shared: dict[str, Json] = {
        "model": stub.model,
        "attention": stub.attention,
        "benchmark": stub.benchmark,
        "subset": stub.subset,
        "state": cell.state,
        "score": cell.score,
        "metrics": dict(cell.metrics),
        "attempt": cell.attempt,
    }
    if cell.state != "complete":
        return {**shared, "reason": cell.reason}
    by: Json = {name: dict(parts) for name, parts in cell.by.items()}
    return {
        **shared,
        "by": by,
        "result": stub.result_path,
        **{key: cell.facts.get(key) for key in (*_FACTS, "layer_density", "provenance")},
    }


def _as_csv(summary: Summary) -> str:
    import pandas as pd

    metrics = list(dict.fromkeys(name for cell in summary.cells for name in cell.metrics))
    # Of objects: whole numbers beside empty cells would become floats.
    return str(pd.DataFrame([_csv_row(cell, metrics) for cell in summary.cells], dtype=object).to_csv(index=False))


def _csv_row(cell: Cell, metrics: Sequence[str]) -> dict[str, Any]:
    facts, stub = cell.facts, cell.stub
    made = facts.get("provenance", {})
    return {
        "model": stub.model,
        "attention": stub.attention,
        "benchmark": stub.benchmark,
        "subset": stub.subset,
        "state": cell.state,
        "score": cell.score,
        **{f"metric_{name}": cell.metrics.get(name) for name in metrics},
        **{key: facts.get(key) for key in _FACTS},
        "attempt": cell.attempt,
        "host": made.get("host") or (cell.failure.host if cell.failure else None),
        "device": made.get("device"),
        "reason": cell.reason or None,
        "log": (cell.failure.log if cell.failure else None) or None,
    }
