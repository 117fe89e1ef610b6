"""From answers on disk to a published result: one rename makes it complete."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.results.facts import Facts, metrics_of
from hpc_bench.execution.results.raw_results import Row, to_row, with_scores, write_rows
from hpc_bench.execution.results.result import METRICS, RAW_RESULTS, SAMPLES, STUB, digest_of_facts, standing_facts
from hpc_bench.execution.schema import Json
from hpc_bench.files import file_digest, own_opener, sync_folder, sync_tree
from hpc_bench.values import Answer, Sample, Scores

__all__ = ["own_file", "publish_result", "write_facts", "write_result", "write_scored"]


def write_result(
    folder: Path,
    samples: Sequence[Sample],
    answers: Mapping[str, Answer],
    scores: Scores,
    facts: Facts,
    *,
    keep_context: bool = False,
) -> None:
    """Writes the files of a result; those of a broken-off attempt are replaced."""
    rows = [to_row(sample, answers[sample.sample_id], keep_context=keep_context) for sample in samples]
    write_scored(folder, rows, scores, facts, {})


def write_scored(
    folder: Path, rows: Sequence[Row], scores: Scores, facts: Facts, other_facts: Mapping[str, Json]
) -> None:
    """Writes the files of a result; what depends on the scores is put into rows and facts. `other_facts`: further keys
    of stub.json.
    """
    scored = [with_scores(row, of_one) for row, of_one in zip(rows, scores.per_sample, strict=True)]
    write_rows(folder / RAW_RESULTS, scored)
    _write_json(folder / METRICS, dataclasses.asdict(metrics_of(scores, facts)))
    _write_own_files(folder, scores.files)
    names = (RAW_RESULTS, METRICS, *scores.files)
    facts = dataclasses.replace(
        facts,
        sha256={name: file_digest(folder / name) for name in names},
        bytes={name: (folder / name).stat().st_size for name in names},
    )
    write_facts(folder, facts, other_facts)


def write_facts(folder: Path, facts: Facts, other_facts: Mapping[str, Json]) -> None:
    """Writes stub.json alone; of `other_facts`, the keys that are not those of `facts`."""
    document = {**other_facts, **dataclasses.asdict(facts)}
    _write_json(folder / STUB, {**document, "digest": digest_of_facts(document)})


def _write_own_files(folder: Path, files: Mapping[str, str]) -> None:
    """Those of the benchmark; ValueError if one is no file of its own in this folder."""
    for name, text in files.items():
        if name in (RAW_RESULTS, METRICS, STUB, SAMPLES, "", ".", "..") or Path(name).name != name:
            raise ValueError(f"a benchmark cannot write a file of the name {name!r}")
        with open(folder / name, "wb", opener=own_opener) as file:
            file.write(own_file(text))


def own_file(text: str) -> bytes:
    """A benchmark's own file as it stands on disk."""
    return text.encode(errors="backslashreplace")


def _write_json(path: Path, value: object) -> None:
    with open(path, "w", encoding="utf-8", opener=own_opener) as file:
        file.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


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
    standing = standing_facts(target)
    if standing is None or standing.key != claim.stub.key:
        raise FileExistsError(f"{target} holds something else than a result of this stub; move it away")
    won = standing.attempt == claim.attempt
    if won:
        sync_folder(target.parent)
        sync_folder(target.parent.parent)
        (target / SAMPLES).unlink(missing_ok=True)
    for number in range(1, claim.attempt + 1):
        shutil.rmtree(execution.attempt(claim.stub.key, number), ignore_errors=True)
    return won
