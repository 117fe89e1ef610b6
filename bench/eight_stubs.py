"""8 stubs that differ in their attention config, as one sweep and as 8 sweeps one after the other, through `submit`.

One demo model, one context of about 4k tokens with 8 questions, one worker on the CPU. Each sweep of its own starts a
worker and an engine, loads the model and reads the context again. Target: at least 4 times faster together, and every
answer the same.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import yaml
from paired import Times, interleave, print_figure, print_machine, print_times, ratio, seconds_of_command

LENGTH, QUESTIONS = 3900, 8
CONFIGS: dict[str, Any] = {
    "dense": None,
    "streaming": [{"streaming": {"sink": 4, "local": 1020}}],
    "oracle_top_k": [{"sink": 128}, {"local": 128}, {"oracle_top_k": 0.1}],
    "oracle_top_p": [{"oracle_top_p": 0.95}],
    "quest": [{"quest": {"heavy": 1024, "page_size": 16}}],
    "pq_cache": [{"sink": 32}, {"local": 0.1}, {"pq_cache": {"heavy": 0.1}}],
    "h2o": [{"h2o": {"heavy": 0.1, "recent": 0.1}}],
    "snapkv": [{"snapkv": {"keep": 1024}}],
}
TARGET = 4.0


def write_sweep(folder: Path, configs: dict[str, Any]) -> Path:
    """A sweep of these configs with a results folder of its own."""
    folder.mkdir(parents=True)
    sweep = {
        "base_result_dir": str(folder / "results"),
        "model_names": ["demo/tiny-2l"],
        "sparse_attention_configs": configs,
        "benchmark_configs": {
            "needle": {"subsets": [LENGTH], "samples": QUESTIONS, "questions_per_context": QUESTIONS}
        },
        "adapter_config": {"model_kwargs": {"dtype": "float32"}},
        "generation_kwargs": {"max_new_tokens": 6},
        "max_concurrent_runs": 1,
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    return folder / "sweep.yaml"


def submit(folder: Path, sweeps: list[dict[str, Any]]) -> float:
    """Seconds of all sweeps, one after the other."""
    paths = [write_sweep(folder / str(number), configs) for number, configs in enumerate(sweeps)]
    command = [sys.executable, "-m", "hpc_bench", "submit", "--gpus", "none"]
    return sum(seconds_of_command([*command, str(path)]) for path in paths)


def answers(folder: Path) -> dict[str, list[str]]:
    """Attention config -> predictions."""
    found = {}
    for path in folder.rglob("raw_results.csv"):
        with path.open(newline="") as file:
            found[path.parts[-3]] = [row["prediction"] for row in csv.DictReader(file)]
    return found


@click.command()
@click.option("--quick", is_flag=True, help="One round instead of 3.")
def main(quick: bool) -> None:
    """Time both ways."""
    print_machine()
    ways = {"together": [CONFIGS], "one by one": [{name: chain} for name, chain in CONFIGS.items()]}
    with tempfile.TemporaryDirectory() as name:
        rounds = iter(range(100))
        given: list[dict[str, list[str]]] = []

        def run(way: str) -> float:
            folder = Path(name) / f"{way} {next(rounds)}"
            took = submit(folder, ways[way])
            given.append(answers(folder))
            return took

        times: Times = interleave({way: lambda way=way: run(way) for way in ways}, 1 if quick else 3)
    if any(one != given[0] or len(one) != len(CONFIGS) for one in given):
        raise SystemExit("the answers differ")
    print_times(times)
    faster = ratio(times, "one by one", "together")
    figure = f"8 stubs x {QUESTIONS} questions on {LENGTH} tokens, one sweep against 8 sweeps"
    print_figure(figure, f"at least {TARGET:g} x", f"{faster:.1f} x, same answers", met=faster >= TARGET)


if __name__ == "__main__":
    main()
