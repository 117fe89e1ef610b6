"""How many stubs fail, are lost or are answered twice when workers and engines are killed at random?

A scripted model answers 80 stubs of 8 samples in 4 slots under the default limits, while kill -9 hits a worker, an
engine or `submit` itself every 0.1-0.6 s, 100 times a seed; `submit` is called again whenever it has ended.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil
import yaml

STUBS, SAMPLES = 80, 8
SUBMIT = [sys.executable, "-m", "hpc_bench", "submit", "--gpus", "none"]


def write_sweep(folder: Path) -> Path:
    """2 models x 4 attention configs x 10 contexts."""
    sweep = {
        "name": "kills",
        "base_result_dir": str(folder / "results"),
        "model_names": ["demo/tiny-2l", "demo/tiny-4l"],
        "sparse_attention_configs": {"dense": None, **{f"local{n}": [{"local": n}] for n in (32, 64, 128)}},
        "benchmark_configs": {"needle": {"subsets": list(range(256, 1256, 100)), "samples": SAMPLES}},
        "adapter_config": {"adapter_name": "scripted", "model_kwargs": {"seconds": 0.2}},
        "max_concurrent_runs": 4,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return path


def victims(folder: Path) -> Iterator[psutil.Process]:
    """The processes that work for the sweep in this folder."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(folder) in part for part in process.cmdline()):
                yield process
        except psutil.Error:
            continue


def run(seed: int, kills: int, folder: Path) -> Counter[str]:
    """One history: what it did and what came of the stubs."""
    chance, sweep, counts = random.Random(seed), write_sweep(folder), Counter[str]()
    started = time.monotonic()
    submit = _submit(sweep)
    while submit.poll() is None or counts["kills"] < kills:
        if submit.poll() is not None:
            if submit.returncode in (0, 1) and _ended(folder):
                break
            submit = _submit(sweep)
            counts["submits"] += 1
        time.sleep(chance.uniform(0.1, 0.6))
        found = sorted(victims(folder), key=lambda process: process.pid)
        if found and counts["kills"] < kills:
            counts["kills"] += 1
            _kill(chance.choice(found))
    while not _ended(folder):
        _submit(sweep).wait()
    counts["seconds"] = round(time.monotonic() - started)
    return counts + _what_came(folder)


def _kill(process: psutil.Process) -> None:
    """Kill -9; it may have ended meanwhile."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.Error:
        return


def _submit(sweep: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*SUBMIT, str(sweep)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _status(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "hpc_bench", "status", "--json", str(folder / "results")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(json.loads(said)) if said else {}


def _ended(folder: Path) -> bool:
    counts = _status(folder)
    return bool(counts) and counts["pending"] == counts["running"] == 0


def _what_came(folder: Path) -> Counter[str]:
    counts = Counter({"failed": _status(folder)["failed"]})
    results = list((folder / "results").glob("execution_*/[!.]*/*/*/raw_results.csv"))
    counts["complete"] = len(results)
    for path in results:
        with path.open(newline="") as file:
            ids = [row["sample_id"] for row in csv.DictReader(file)]
        counts["doubled"] += len(ids) - len(set(ids))
        counts["lost"] += SAMPLES - len(set(ids))
    for log in (folder / "results").glob("execution_*/.state/jobs/*.engine*.log"):
        counts["answers"] += sum(line.startswith("answered") for line in log.read_text(errors="replace").splitlines())
    return counts


@click.command(help=__doc__)
@click.option("--seeds", default=10)
@click.option("--kills", default=100, help="Of each seed.")
@click.option("--quick", is_flag=True, help="One seed of 30 kills.")
def main(seeds: int, kills: int, quick: bool) -> None:
    """Prints a line a seed, and the sums."""
    total: Counter[str] = Counter()
    for seed in range(1 if quick else seeds):
        with tempfile.TemporaryDirectory() as folder:
            counts = run(seed, 30 if quick else kills, Path(folder))
        total += counts
        _print(f"seed {seed}", counts)
    _print("all", total)


def _print(title: str, counts: Counter[str]) -> None:
    names = ("kills", "submits", "seconds", "complete", "failed", "lost", "doubled", "answers")
    print(f"{title}: " + ", ".join(f"{counts[name]} {name}" for name in names), flush=True)


if __name__ == "__main__":
    main()
