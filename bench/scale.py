"""Planning, claiming, watching and collecting at 1,000, 10,000 and 100,000 stubs: seconds, peak memory, growth.

Each measurement is a fresh process (its ru_maxrss is its own), and the sizes take turns within a round.

- plan: `make_plan` of a sweep of hub models x attention configs x needle lengths; submit adds the manifest.
- claim: `Board.refresh` and `Schedule.claim_next` by one worker until all is claimed (at 100,000 stubs a sample of at
  least 2,000), with everything free, and once more with everything complete, as a late worker meets it.
- collect: `collect_execution` and `write_summary` over results written by the functions that engines publish with;
  their 3 samples are made up. Also planning the same sweep again, and one look of `hpc-bench status`.

Targets: 100,000 stubs plan in at most 8 s and 500 MB; 10,000 results are collected in at most 10 s.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
from paired import print_figure, print_machine

from hpc_bench.execution.attempts.board import Board
from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.results.facts import Place, facts_of
from hpc_bench.execution.results.publish import publish_result, write_result
from hpc_bench.execution.results.samples_file import SamplesFile
from hpc_bench.report.collect import collect_execution
from hpc_bench.report.files import write_summary
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.status import StatusReader
from hpc_bench.running.submit import prepare_execution
from hpc_bench.running.worker.schedule import Schedule, Share
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import Sweep, parse_sweep
from hpc_bench.values import Answer, Metric, Sample, Scores

SHAPES = {1_000: (10, 10, 10), 10_000: (20, 20, 25), 100_000: (40, 50, 50)}
"""Stubs -> models, attention configs, needle lengths"""
CLAIM_SAMPLE = 2_000
SAMPLES = [Sample(f"{number:04d}-0", "", "What is the number?", ("1234",), 16, task="needle") for number in range(3)]


def make_sweep(stubs: int, folder: Path) -> Sweep:
    models, attentions, lengths = SHAPES[stubs]
    return parse_sweep(
        {
            "name": f"scale_{stubs}",
            "base_result_dir": str(folder),
            "model_names": [f"organisation/Model-{number}-8B-Instruct" for number in range(models)],
            "sparse_attention_configs": {f"local_{1 + n}": [{"sink": 4}, {"local": 1 + n}] for n in range(attentions)},
            "benchmark_configs": {"needle": [1024 + 64 * number for number in range(lengths)]},
        }
    )


def plan(stubs: int, folder: Path) -> dict[str, float]:
    """Into an empty folder the first time; later it finds what is there."""
    started = time.perf_counter()
    made = make_plan(make_sweep(stubs, folder))
    took = time.perf_counter() - started
    assert len(made.manifest.stubs) == stubs
    assert not made.stale
    return {"seconds": took, "to_run": len(made.to_run)}


def write(stubs: int, folder: Path) -> dict[str, float]:
    """What submit writes before it starts workers."""
    made = make_plan(make_sweep(stubs, folder))
    started = time.perf_counter()
    prepare_execution(made)
    return {"seconds": time.perf_counter() - started}


def claim(stubs: int, folder: Path) -> dict[str, float]:
    execution = ExecutionDir.locate(folder)
    started = time.perf_counter()
    manifest = read_manifest(execution)
    board = Board(execution, manifest.header)
    schedule = Schedule(manifest, board, "worker", Share(index=0, slots=1, gpus=0), PatientLook())
    claims = schedule.claim_next(None)
    first = time.perf_counter() - started
    claimed, loaded, wanted = len(claims), None, stubs if stubs < 100_000 else CLAIM_SAMPLE
    while claims and claimed < wanted:
        loaded = claims[0].stub.model
        claims = schedule.claim_next(loaded)
        claimed += len(claims)
    took = time.perf_counter() - started
    return {"seconds": took, "first": first, "claimed": claimed, "each": (took - first) / max(1, claimed)}


def publish(stubs: int, folder: Path) -> dict[str, float]:
    """A result for every stub, the way an engine does it: answers, scores, three files, one rename."""
    execution = ExecutionDir.locate(folder)
    manifest = read_manifest(execution)
    started = time.perf_counter()
    for stub in manifest.stubs:
        publish_fake(execution, manifest.header, Claim(stub, 1))
    return {"seconds": time.perf_counter() - started, "each": (time.perf_counter() - started) / stubs}


def publish_fake(execution: ExecutionDir, header: Header, made: Claim) -> None:
    file = SamplesFile(execution, made)
    for sample in SAMPLES:
        file.add(sample.sample_id, Answer(" 1234.", 2048, 5, 0, seconds=0.5, prefill_s=0.25, density=0.1))
    file.close()
    scores = Scores(100.0, {"string_match": Metric(100.0)}, ({"string_match": 100.0},) * 3, {"depth": {"0-20": 100.0}})
    made_by = {"host": "node", "device": "none", "dtype": "bfloat16", "torch": "2.13.0", "batch_size": 1}
    facts = facts_of(header, made, SAMPLES, file.answers, Place(made_by, 20.5, ""))
    write_result(execution.attempt(made.stub.key, 1), SAMPLES, file.answers, scores, facts)
    assert publish_result(execution, made)


def collect(stubs: int, folder: Path) -> dict[str, float]:
    started = time.perf_counter()
    summary = collect_execution(ExecutionDir.locate(folder))
    write_summary(summary)
    took = time.perf_counter() - started
    assert summary.is_complete
    assert len(summary.cells) == stubs
    return {"seconds": took}


def status(_stubs: int, folder: Path) -> dict[str, float]:
    """The first look, and a later one, which `submit` takes twice a second while it waits."""
    started = time.perf_counter()
    reader = StatusReader(ExecutionDir.locate(folder))
    reader.read()
    first = time.perf_counter() - started
    reader.read()
    return {"seconds": first, "again": time.perf_counter() - started - first}


STEPS: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "plan, nothing there": plan,
    "write the manifest": write,
    "claim": claim,
    "status, nothing done": status,
    "publish": publish,
    "claim, all done": claim,
    "status, all done": status,
    "plan, all done": plan,
    "collect": collect,
}


def measure(step: str, stubs: int, folder: Path) -> dict[str, float]:
    """A step's figures, from a process of its own."""
    command = [sys.executable, __file__, "--step", step, str(stubs), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def be_step(step: str, stubs: int, folder: Path) -> None:
    """One measurement; the only thing that this process does."""
    figures = STEPS[step](stubs, folder)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump({**figures, "peak_mb": peak_mb}, sys.stdout)


def run_round(sizes: list[int], seen: dict[tuple[str, int], list[dict[str, float]]]) -> None:
    """All steps in their order on fresh folders, the sizes taking turns."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        for step in STEPS:
            for stubs in sizes:
                folder = Path(name, str(stubs))
                seen.setdefault((step, stubs), []).append(measure(step, stubs, folder))


def print_table(seen: dict[tuple[str, int], list[dict[str, float]]]) -> None:
    """Medians; growth is the factor of seconds to the next smaller size, where linear is 10."""
    print("\n| step | stubs | seconds | growth | peak memory | more |\n|---|---|---|---|---|---|")
    for step in STEPS:
        before = None
        for stubs in [stubs for name, stubs in seen if name == step]:
            rows = seen[step, stubs]
            middle = {key: median(row[key] for row in rows) for key in rows[0]}
            growth = f"{middle['seconds'] / before:.1f} x" if before else ""
            before = middle["seconds"]
            more = ", ".join(f"{key} {middle[key]:.6g}" for key in middle if key not in ("seconds", "peak_mb"))
            print(f"| {step} | {stubs:,} | {before:.3f} | {growth} | {middle['peak_mb']:.0f} MB | {more} |")


def print_targets(seen: dict[tuple[str, int], list[dict[str, float]]]) -> None:
    def middle(step: str, stubs: int, key: str) -> float:
        return median(row[key] for row in seen[step, stubs])

    largest = max(stubs for _, stubs in seen)
    plan_s, plan_mb = (middle("plan, nothing there", largest, key) for key in ("seconds", "peak_mb"))
    met = plan_s <= 8 and plan_mb <= 500
    print_figure(
        f"plan {largest:,} stubs", "at most 8 s, 500 MB (100,000)", f"{plan_s:.2f} s, {plan_mb:.0f} MB", met=met
    )
    collect_s = middle("collect", 10_000, "seconds")
    print_figure("collect 10,000 results", "at most 10 s", f"{collect_s:.2f} s", met=collect_s <= 10)


@click.command()
@click.option("--quick", is_flag=True, help="Without 100,000 stubs, and once.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--step", "one", nargs=3, hidden=True, help="STEP STUBS FOLDER: be one measurement.")
def main(quick: bool, rounds: int, one: tuple[str, str, str] | None) -> None:
    """Measure how planning, claiming and collecting grow."""
    if one:
        be_step(one[0], int(one[1]), Path(one[2]))
        return
    print_machine()
    seen: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(1 if quick else rounds):
        run_round([stubs for stubs in SHAPES if stubs < 100_000 or not quick], seen)
    print_table(seen)
    print_targets(seen)


if __name__ == "__main__":
    main()
