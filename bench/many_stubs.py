"""24 stubs on 2 slots of the CPU: `hpc-bench submit` against one submitit job per stub, and against the floor.

2 demo models x 3 attention configs x 4 needle lengths, 5 samples each. All ways answer the same stubs through the
same adapter and benchmark code, with one thread a process, and must come to the same predictions.

- submit: the command as a user calls it, from sweep file and empty results folder to the printed summary.
- job per stub: a submitit LocalExecutor job a stub, two at a time; each loads the model and answers its one stub.
- floor: two processes started at once; each loads one model and answers its half of the stubs with shared prefill.

The two others get their stubs from a manifest that was written before the clock started.
Targets: at least 8 times faster than a job per stub, at most 1.25 times the floor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import yaml
from paired import interleave, print_figure, print_machine, print_times, ratio, seconds_of_command

PROGRAM = str(Path(sys.executable).with_name("hpc-bench"))
SLOTS = 2
SWEEP = {
    "name": "many_stubs",
    "base_result_dir": "results",
    "model_names": ["demo/tiny-2l", "demo/tiny-4l"],
    "sparse_attention_configs": {
        "dense": None,
        "streaming": [{"sink": 4}, {"local": 64}],
        "oracle_topk": [{"sink": 4}, {"local": 16}, {"oracle_top_k": 32}],
    },
    "benchmark_configs": {"needle": [256, 512, 1024, 2048]},
    "request_kwargs": {"max_samples": 5},
    "generation_kwargs": {"max_new_tokens": 8},
    "max_concurrent_runs": SLOTS,
}
JOBS_TARGET, FLOOR_TARGET = 8.0, 1.25
Predictions = dict[str, list[str]]
"""Result path of a stub -> its answers"""


def answer_stubs(folder: str, model: str, result_path: str | None) -> Predictions:
    """Loads a model and answers one of its stubs, or all with shared prefill.

    Imports inside, since submitit ships this function, not its module, to a fresh process.
    """
    from itertools import groupby
    from pathlib import Path

    from hpc_bench import catalog
    from hpc_bench.execution.folder import ExecutionDir
    from hpc_bench.execution.manifest import read_manifest

    manifest = read_manifest(ExecutionDir(Path(folder)))
    header, generation = manifest.header, manifest.header.generation
    stubs = [stub for stub in manifest.stubs if stub.model == model and result_path in (None, stub.result_path)]
    spec = header.models[model]
    adapter = catalog.resolve("adapter", spec.adapter).load(spec.options())
    told: Predictions = {stub.result_path: [] for stub in stubs}
    for name, subset in dict.fromkeys((stub.benchmark, stub.subset) for stub in stubs):
        benchmark = header.benchmark(name)
        chosen = [stub for stub in stubs if (stub.benchmark, stub.subset) == (name, subset)]
        configs = {stub.result_path: header.attention(stub.attention) for stub in chosen}
        samples = header.request.choose(benchmark.load(subset, adapter.tokens))
        for _, group in groupby(samples, key=lambda sample: sample.context):
            questions = list(group)
            prefill = adapter.prefill(questions, list(configs.values()))
            for path, config in configs.items():
                told[path] += [adapter.answer(prefill, sample, config, generation).text for sample in questions]
        for path in configs:
            benchmark.score(samples, told[path])
    return told


def run_submit(folder: Path) -> tuple[float, Predictions]:
    import pandas as pd

    took = seconds_of_command([PROGRAM, "submit", "--backend", "local", "--gpus", "none", "sweep.yaml"], cwd=folder)
    told: Predictions = {}
    for file in (folder / "results").glob("execution_*/*/*/*/raw_results.csv"):
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        told["/".join(file.parts[-4:-1])] = list(rows["prediction"])
    return took, told


def run_jobs(folder: Path) -> tuple[float, Predictions]:
    """The clock stops when the last result is back."""
    import submitit

    from hpc_bench.execution.manifest import read_manifest

    execution = prepare(folder)
    waiting = list(read_manifest(execution).stubs)
    told: Predictions = {}
    started = time.perf_counter()
    executor = submitit.LocalExecutor(folder=folder / "jobs")
    executor.update_parameters(timeout_min=60)
    running: list[submitit.Job[Predictions]] = []
    while waiting or running:
        while waiting and len(running) < SLOTS:
            stub = waiting.pop(0)
            running.append(executor.submit(answer_stubs, str(execution.path), stub.model, stub.result_path))
        time.sleep(0.02)
        for job in [job for job in running if job.done()]:
            running.remove(job)
            told.update(job.result())
    return time.perf_counter() - started, told


def run_floor(folder: Path) -> tuple[float, Predictions]:
    execution = prepare(folder)
    started = time.perf_counter()
    halves = [
        subprocess.Popen(
            [sys.executable, __file__, "--floor-of", model, str(execution.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for model in SWEEP["model_names"]
    ]
    outputs = [half.communicate()[0] for half in halves]
    took = time.perf_counter() - started
    return took, {path: told for output in outputs for path, told in json.loads(output).items()}


def prepare(folder: Path):
    """An execution that has its manifest and nothing else."""
    from hpc_bench.running.submit import prepare_execution
    from hpc_bench.sweep.plan import make_plan
    from hpc_bench.sweep.sweep import parse_sweep

    return prepare_execution(make_plan(parse_sweep({**SWEEP, "base_result_dir": str(folder / "planned")})))


def timed(run: Callable[[Path], tuple[float, Predictions]], seen: list[Predictions]) -> float:
    """Seconds of one way in a fresh folder; exits if its predictions are not those of the earlier ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False), encoding="utf-8")
        took, told = run(folder)
    seen.append(told)
    if told != seen[0] or len(told) != 24 or any(len(answers) != 5 for answers in told.values()):
        raise SystemExit(f"the ways differ in their predictions: {seen[0]} {told}")
    print(f"  {run.__name__}: {took:.2f} s", flush=True)
    return took


@click.command()
@click.option("--quick", is_flag=True, help="One round instead of 2; a job per stub takes minutes a round.")
@click.option("--floor-of", nargs=2, hidden=True, help="MODEL EXECUTION: be one process of the floor.")
def main(quick: bool, floor_of: tuple[str, str] | None) -> None:
    """Time three ways to answer the same 24 stubs."""
    if floor_of:
        json.dump(answer_stubs(floor_of[1], floor_of[0], None), sys.stdout)
        return
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")
    print_machine()
    seen: list[Predictions] = []
    timed(run_floor, seen)  # fills the file cache
    slow = interleave(
        {"job per stub": partial(timed, run_jobs, seen), "submit": partial(timed, run_submit, seen)}, 1 if quick else 2
    )
    quick_ways = {"floor": partial(timed, run_floor, seen), "submit": partial(timed, run_submit, seen)}
    fast = interleave(quick_ways, 3 if quick else 7)
    print_times(slow)
    print_times(fast)
    faster, over = ratio(slow, "job per stub", "submit"), ratio(fast, "submit", "floor")
    figure = "24 stubs, 2 slots: `hpc-bench submit` against"
    print_figure(
        f"{figure} a submitit job per stub",
        f"at least {JOBS_TARGET:g} x faster",
        f"{faster:.1f} x",
        met=faster >= JOBS_TARGET,
    )
    print_figure(f"{figure} the floor", f"at most {FLOOR_TARGET} x its time", f"{over:.2f} x", met=over <= FLOOR_TARGET)


if __name__ == "__main__":
    main()
