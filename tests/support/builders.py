"""Tiny sweeps, and results made without a model, so that planning and collecting are tested in milliseconds."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from hpc_bench.cli import main
from hpc_bench.execution.attempts.board import Board, claim_attempt
from hpc_bench.execution.attempts.claims import Claim, Outcome, write_outcome
from hpc_bench.execution.fingerprint import identity_of
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import Manifest, read_manifest
from hpc_bench.execution.results.facts import Facts
from hpc_bench.execution.results.publish import publish_result, write_result
from hpc_bench.execution.results.result import METRICS, STUB
from hpc_bench.execution.stub import Stub
from hpc_bench.running.submit import prepare_execution
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import parse_sweep
from hpc_bench.values import Answer, Metric, Sample, Scores

MODELS = ["org/alpha", "org/beta"]
"""Hub names: planning asks no hub."""


def sweep_data(base: Path, **changes: Any) -> dict[str, Any]:
    """Two models x two attention configs x (two needle lengths + mock_benchmark): 12 stubs, with some keys changed."""
    data = {
        "name": "tiny",
        "base_result_dir": str(base),
        "model_names": MODELS,
        "sparse_attention_configs": {"dense": None, "streaming": [{"sink": 4}, {"local": 64}]},
        "benchmark_configs": {"needle": [256, 512], "mock_benchmark": None},
    }
    return copy.deepcopy({**data, **changes})


def write_sweep(folder: Path, **changes: Any) -> Path:
    """A sweep to plan, with some keys changed; its results are in `results` beside it."""
    return write_keys(folder, sweep_data(folder / "results", **changes))


def write_keys(folder: Path, keys: Mapping[str, Any]) -> Path:
    """The sweep file `sweep.yaml` in a folder."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(dict(keys), sort_keys=False), encoding="utf-8")
    return path


def prepare(base: Path, **changes: Any) -> ExecutionDir:
    """What `submit` leaves on disk before it starts workers."""
    return prepare_execution(make_plan(parse_sweep(sweep_data(base, **changes))))


def stubs_of(execution: ExecutionDir) -> tuple[Stub, ...]:
    """The stubs of its manifest."""
    return read_manifest(execution).stubs


def claim(execution: ExecutionDir, stub: Stub, worker: str = "worker") -> Claim:
    """The next attempt at a stub."""
    header = read_manifest(execution).header
    board = Board(execution, header)
    board.refresh()
    made = claim_attempt(board, stub, worker)
    assert made is not None
    return made


def publish(execution: ExecutionDir, stub: Stub, score: float | None = 50.0, samples: int = 3) -> Path:
    """A result as an engine publishes it, with made-up answers; returns its folder."""
    made = claim(execution, stub)
    folder = execution.attempt(stub.key, made.attempt)
    folder.mkdir(parents=True)
    asked = [Sample(f"s{number}", "context", "why?\n", ("because",), 8) for number in range(samples)]
    answers = {
        sample.sample_id: Answer('he said "so",\nand left', 100, 5, 0, seconds=0.5, prefill_s=0.25, density=0.5)
        for sample in asked
    }
    scores = Scores(
        score,
        {"match": Metric(score or 0.0)},
        tuple({"match": score or 0.0} for _ in asked),
        by={"depth": {"0-20": score or 0.0}},
    )
    write_result(folder, asked, answers, scores, stub_facts(read_manifest(execution), made, samples))
    assert publish_result(execution, made)
    return execution.result(stub.result_path)


def stub_facts(manifest: Manifest, made: Claim, samples: int) -> Facts:
    """The content of stub.json."""
    stub = made.stub
    return Facts(
        format_version=1,
        key=stub.key,
        attempt=made.attempt,
        model=stub.model,
        attention=stub.attention,
        benchmark=stub.benchmark,
        subset=stub.subset,
        fingerprint=stub.fingerprint,
        identity=identity_of(manifest.header, stub),
        scoring_version=1,
        samples=samples,
        seconds=2.0,
        prefill_s=0.5,
        answer_s=1.5,
        tokens_out=15,
        tokens_per_s=10.0,
        cut_tokens=0,
        density=0.5,
        layer_density=(0.25, 0.75),
        prefill_density=1.0,
        attention_error=0.25,
        peak_memory_gb=1.25,
        provenance={"host": "node7", "device": "Test GPU"},
        sha256={},
        asked=manifest.header.request.asked,
    )


def publish_all(execution: ExecutionDir, score: float = 50.0) -> None:
    """A result for every stub."""
    for stub in stubs_of(execution):
        publish(execution, stub, score)


def fail(execution: ExecutionDir, stub: Stub, attempts: int = 1, **fields: Any) -> None:
    """So many attempts that ended in a failure."""
    outcome = {"error": "OutOfMemoryError", "message": "no memory left\nat all", "log": ".state/jobs/w.engine1.log"}
    for _ in range(attempts):
        write_outcome(execution, claim(execution, stub), Outcome("failed", **{**outcome, **fields}))


def rewrite_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON file; a stub.json becomes an earlier one, without sizes and its own digest."""
    content = {**json.loads(path.read_text()), **changes}
    if path.name == STUB:
        content.pop("digest", None)
        content.pop("bytes", None)
    path.write_text(json.dumps(content))


def set_metrics(result: Path, **changes: Any) -> None:
    """Changes keys of a result's metrics.json."""
    rewrite_json(result / METRICS, **changes)


def run_cli(*arguments: str | Path) -> Result:
    """`hpc-bench` in this process; an exception that is no exit is a traceback for the user, and raised here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, hidden ones too, with its content; None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
