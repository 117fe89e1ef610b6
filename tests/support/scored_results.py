"""Results of needle whose scores are not those of their answers, and scoring them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.results.publish import publish_result, write_result
from hpc_bench.report.collect import Cell, collect_execution
from hpc_bench.report.rescore import Rescored, rescore_execution
from hpc_bench.values import Answer, Metric, Sample, Scores
from tests.support.builders import claim, prepare, stub_facts, stubs_of

ANSWERS = ("right", "wrong", "it is right", "")
NAMES = ("metrics.json", "raw_results.csv", "stub.json")


def publish_scored(execution: ExecutionDir, score: float, number: int = 0) -> Path:
    """A result of needle, half of whose answers are right, published with that score."""
    stub = stubs_of(execution)[number]
    made = claim(execution, stub)
    folder = execution.attempt(stub.key, made.attempt)
    folder.mkdir(parents=True)
    asked = [
        Sample(str(index), "context", "q", ("right",), 8, task="needle", extra={"depth": 25.0 * index})
        for index in range(len(ANSWERS))
    ]
    answers = {
        sample.sample_id: Answer(text, 9, 1, 0, 0.5, 0.25, 0.5) for sample, text in zip(asked, ANSWERS, strict=True)
    }
    scores = Scores(score, {"string_match": Metric(score)}, tuple({"string_match": score} for _ in asked))
    write_result(folder, asked, answers, scores, stub_facts(read_manifest(execution), made, len(asked)))
    assert publish_result(execution, made)
    return execution.result(stub.result_path)


ONE_STUB: dict[str, Any] = {
    "model_names": ["org/alpha"],
    "sparse_attention_configs": {"dense": None},
    "benchmark_configs": {"needle": [256]},
}


def one_stub(base: Path) -> ExecutionDir:
    return prepare(base, **ONE_STUB)


def rescored(execution: ExecutionDir, *benchmarks: str) -> list[Rescored]:
    return list(rescore_execution(execution, benchmarks))


def cell_of(execution: ExecutionDir) -> Cell:
    return collect_execution(execution).cells[0]


def result_of(execution: ExecutionDir) -> Path:
    return execution.result(stubs_of(execution)[0].result_path)


def text_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}
