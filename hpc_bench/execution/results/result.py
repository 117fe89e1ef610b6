"""From answers on disk to a published result: one rename makes it complete."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from hpc_bench.execution.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.raw_results import Row, to_row, with_scores, write_rows
from hpc_bench.execution.results.scoring_versions import SCORING_VERSION, present_versions
from hpc_bench.files import file_digest, read_json, sync_folder, sync_tree
from hpc_bench.values import Answer, Json, Sample, Scores

__all__ = [
    "METRICS",
    "RAW_RESULTS",
    "SAMPLES",
    "STUB",
    "metrics_of",
    "own_file",
    "publish_result",
    "stub_facts",
    "write_result",
    "write_scored",
]

RAW_RESULTS, METRICS, STUB, SAMPLES = "raw_results.csv", "metrics.json", "stub.json", "samples.jsonl"
FORMAT_VERSION = 1
ATTENTION_FACTS = ("density", "layer_density", "prefill_density", "attention_error")
"""Keys of metrics.json that say what the attention config did."""


def stub_facts(
    header: Header, claim: Claim, samples: Sequence[Sample], answers: Mapping[str, Answer]
) -> dict[str, Json]:
    """What stub.json says of a run: its configuration and what it took."""
    stub, mine = claim.stub, [answers[sample.sample_id] for sample in samples]
    groups = itertools.groupby(samples, key=lambda sample: (sample.context, sample.chat))
    prefill_s = sum(sum(_prefills(answers[sample.sample_id] for sample in group)) for _, group in groups)
    answer_s, tokens_out = sum(answer.seconds for answer in mine), sum(answer.tokens_out for answer in mine)
    return {
        "format_version": FORMAT_VERSION,
        "key": stub.key,
        "attempt": claim.attempt,
        "model": stub.model,
        "attention": stub.attention,
        "benchmark": stub.benchmark,
        "subset": stub.subset,
        "fingerprint": stub.fingerprint,
        "identity": header.identity(stub),
        SCORING_VERSION: present_versions(header)[stub.benchmark],
        "samples": len(samples),
        "seconds": round(answer_s + prefill_s, 6),  # as if it had run alone
        "prefill_s": round(prefill_s, 6),
        "answer_s": round(answer_s, 6),
        "tokens_out": tokens_out,
        "tokens_per_s": round(tokens_out / answer_s, 3) if answer_s else None,
        "cut_tokens": sum(answer.cut_tokens for answer in mine),
        **_attention_facts(mine),
        "measure_error": header.measure_error(stub.attention),
    }


def _prefills(answers: Iterable[Answer]) -> Iterable[float]:
    """The seconds of each prefill behind the answers about one context: those that lost as much of it share one."""
    return {answer.cut_tokens: answer.prefill_s for answer in answers}.values()


def _attention_facts(answers: Sequence[Answer]) -> dict[str, Json]:
    """Means over the samples; of the error, over those in which it was measured."""
    layers = zip(*(answer.layer_density for answer in answers if answer.layer_density), strict=True)
    errors = [answer.attention_error for answer in answers if answer.attention_error is not None]
    return {
        "density": round(fmean(answer.density for answer in answers), 6),
        "layer_density": [round(fmean(layer), 6) for layer in layers],
        "prefill_density": round(fmean(answer.prefill_density for answer in answers), 6),
        "attention_error": round(fmean(errors), 6) if errors else None,
    }


def write_result(
    folder: Path,
    samples: Sequence[Sample],
    answers: Mapping[str, Answer],
    scores: Scores,
    stub: Mapping[str, Json],
    *,
    keep_context: bool = False,
) -> None:
    """Writes the files of a result; those of a broken-off attempt are replaced."""
    rows = [to_row(sample, answers[sample.sample_id], keep_context=keep_context) for sample in samples]
    write_scored(folder, rows, scores, stub)


def write_scored(folder: Path, rows: Sequence[Row], scores: Scores, stub: Mapping[str, Json]) -> None:
    """Writes the files of a result: rows and stub.json, with what hangs on the scores put in, and all the others."""
    scored = [with_scores(row, of_one) for row, of_one in zip(rows, scores.per_sample, strict=True)]
    write_rows(folder / RAW_RESULTS, scored)
    _write_json(folder / METRICS, metrics_of(scores, len(rows), stub))
    _write_own_files(folder, scores.files)
    digests = {name: file_digest(folder / name) for name in (RAW_RESULTS, METRICS, *scores.files)}
    _write_json(folder / STUB, {**stub, "sha256": digests})


def metrics_of(scores: Scores, samples: int, stub: Mapping[str, Json]) -> dict[str, Json]:
    """The content of metrics.json (docs/results.md says what each key means)."""
    return {
        "format_version": FORMAT_VERSION,
        "score": scores.score,
        "headline": next(iter(scores.per_sample[0] if scores.per_sample else ()), ""),
        "metrics": {name: asdict(metric) for name, metric in scores.metrics.items()},
        "by": {name: dict(parts) for name, parts in scores.by.items()},
        "samples": samples,
        **{key: stub.get(key) for key in ATTENTION_FACTS},
        "note": scores.note,
    }


def _write_own_files(folder: Path, files: Mapping[str, str]) -> None:
    """Those of the benchmark; ValueError if one is no file of its own in this folder."""
    for name, text in files.items():
        if name in (RAW_RESULTS, METRICS, STUB, SAMPLES, "", ".", "..") or Path(name).name != name:
            raise ValueError(f"a benchmark cannot write a file of the name {name!r}")
        (folder / name).write_bytes(own_file(text))


def own_file(text: str) -> bytes:
    """A benchmark's own file as it stands on disk."""
    return text.encode(errors="backslashreplace")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def publish_result(execution: ExecutionDir, claim: Claim) -> bool:
    """Renames an attempt's folder to the stub's result; False if an earlier result stands there, which then stays.
    FileExistsError, with the attempt kept, if what stands there is not a result of this stub.

    An error of rename may hide a rename that happened (NFS), so the target's stub.json tells who won. The winner
    removes earlier attempts' folders, so a late loser may find its own gone.
    """
    folder = execution.attempt(claim.stub.key, claim.attempt)
    target = execution.result(claim.stub.result_path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        sync_tree(folder)
        folder.rename(target)
    except OSError:
        if not target.exists():
            raise
    standing = _standing(target)
    if standing["key"] != claim.stub.key:
        raise FileExistsError(f"{target} holds something else than a result of this stub; move it away")
    won: bool = standing["attempt"] == claim.attempt
    if won:
        sync_folder(target.parent)
        sync_folder(target.parent.parent)
        (target / SAMPLES).unlink(missing_ok=True)
    for number in range(1, claim.attempt + 1):
        shutil.rmtree(execution.attempt(claim.stub.key, number), ignore_errors=True)
    return won


def _standing(target: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError, KeyError):
        data: Any = read_json(target / STUB)
        return {"key": data["key"], "attempt": data["attempt"]}
    return {"key": None, "attempt": None}
