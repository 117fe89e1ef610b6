"""The summary for programs: execution_summary.json and summary.csv."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hpc_bench.execution.results.environment import KEYS
from hpc_bench.files import write_whole
from hpc_bench.report.averages import Average
from hpc_bench.report.cell import Cell
from hpc_bench.report.collect import Summary
from hpc_bench.report.comparison import Comparison, Delta
from hpc_bench.values import Json, plain_options

__all__ = ["write_summary"]

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
    "scoring_version",
)


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What formulas begin with, also the wide forms of these characters."""


def write_summary(summary: Summary) -> None:
    """Replaces execution_summary.json and summary.csv."""
    write_whole(summary.execution.summary_json, json.dumps(_as_json(summary), indent=1, ensure_ascii=True) + "\n")
    write_whole(summary.execution.summary_csv, _as_csv(summary))


def _as_json(summary: Summary) -> dict[str, Any]:
    header = summary.header
    prefill_s: dict[Any, float] = {}  # once a bundle, whose stubs share it
    for cell in summary.cells:
        prefill_s[cell.stub.bundle] = max(prefill_s.get(cell.stub.bundle, 0.0), cell.fact("prefill_s") or 0.0)
    return {
        "format_version": 1,
        "name": header.name,
        "execution": summary.execution.path.name,
        "collected": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "counts": {"stubs": len(summary.cells), **summary.counts},
        "models": list(header.models),
        "sparse_attention_configs": {name: asdict(spec) for name, spec in header.attentions.items()},
        "benchmarks": {name: list(spec.identities) for name, spec in header.benchmarks.items()},
        "generation": plain_options(header.generation),
        "request": plain_options(header.request),
        "provenance": dict(header.provenance),
        "timings": {
            "answer_s": round(sum(cell.fact("answer_s") or 0.0 for cell in summary.cells), 3),
            "prefill_s": round(sum(prefill_s.values()), 3),
        },
        "baseline": summary.comparison.baseline or None,
        "notes": list(summary.notes),
        "averages": [_average_json(average, summary.comparison) for average in summary.averages],
        "stubs": [_stub_json(cell, summary.comparison) for cell in summary.cells],
        "failures": [
            {"stub": cell.stub.title, **asdict(cell.failure), "state": cell.state}
            for cell in summary.cells
            if cell.failure
        ],
    }


def _stub_json(cell: Cell, comparison: Comparison) -> dict[str, Json]:
    stub = cell.stub
    shared: dict[str, Json] = {
        "model": stub.model,
        "attention": stub.attention,
        "benchmark": stub.benchmark,
        "subset": stub.subset,
        "state": cell.state,
        "score": cell.score,
        **_delta_columns(comparison, comparison.stubs.get(stub.key)),
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
        **{key: cell.fact(key) for key in (*_FACTS, "layer_density", "provenance")},
    }


def _average_json(average: Average, comparison: Comparison) -> dict[str, Json]:
    group = average.group
    delta = comparison.averages.get((average.model, average.attention, group.benchmark, group.name))
    return {
        "model": average.model,
        "attention": average.attention,
        "benchmark": group.benchmark,
        "average": group.name,
        "score": None if average.score is None else round(average.score, 6),
        "scored": average.scored,
        "subsets": group.total,
        "complete": average.is_complete,
        **_delta_columns(comparison, delta),
    }


def _delta_columns(comparison: Comparison, delta: Delta | None) -> dict[str, Json]:
    """The same in both files; null for the baseline itself and for what has no score."""
    delta = delta or Delta()
    return {
        "baseline": comparison.baseline or None,
        "delta": delta.value,
        "delta_low": delta.low,
        "delta_high": delta.high,
        "delta_significant": delta.is_significant,
        "delta_note": delta.note,
    }


def _as_csv(summary: Summary) -> str:
    import pandas as pd

    metrics = list(dict.fromkeys(name for cell in summary.cells for name in cell.metrics))
    rows = [_csv_row(cell, metrics, summary.comparison) for cell in summary.cells]
    inert = [{_inert(name): _inert(value) for name, value in row.items()} for row in rows]
    # Of objects: whole numbers beside empty cells would become floats.
    return str(pd.DataFrame(inert, dtype=object).to_csv(index=False))


def _inert(value: Any) -> Any:
    """What a spreadsheet takes for no formula (OWASP, "CSV Injection"): text that could be one gets an apostrophe."""
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(_FORMULA) else "") + value.replace("\r", " ")  # csv would leave it unquoted


def _csv_row(cell: Cell, metrics: Sequence[str], comparison: Comparison) -> dict[str, Any]:
    stub = cell.stub
    delta = comparison.stubs.get(stub.key)
    made = cell.fact("provenance") or {}
    return {
        "model": stub.model,
        "attention": stub.attention,
        "benchmark": stub.benchmark,
        "subset": stub.subset,
        "state": cell.state,
        "score": cell.score,
        **{name: None if value == "" else value for name, value in _delta_columns(comparison, delta).items()},
        **{f"metric_{name}": cell.metrics.get(name) for name in metrics},
        **{key: cell.fact(key) for key in _FACTS},
        "attempt": cell.attempt,
        "host": made.get("host") or (cell.failure.host if cell.failure else None),
        **{key: made.get(key) for key in KEYS},
        "reason": cell.reason or None,
        "log": (cell.failure.log if cell.failure else None) or None,
    }
