"""1,000 trivial stubs on a real Slurm (slurm/testbed, 4 nodes x 4 fake GPUs), 8 workers at once.

A scripted model answers at once, so that all time beside claiming, prompting, scoring and publishing would show.
All figures are read off the results folder and from wrappers that count every call of a Slurm command:

- submit: the command as a user calls it, to its return (target 5 s);
- idle: from the publishing of a stub to the same worker's next claim (target 0.1 s);
- busy: the workers' time between claim and result, of all time of all slots between first claim and last result
  (target 90 %);
- Slurm calls: of submit, of all workers, and of one status a second.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median, quantiles

import click
import yaml
from paired import print_figure, print_machine, seconds_of_command

PROGRAM = str(Path(sys.executable).with_name("hpc-bench"))
TESTBED = str(Path(__file__).parent.parent / "slurm" / "testbed")
CAP = 8
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo")


def write_sweep(folder: Path, stubs: int, seconds: float) -> Path:
    sweep = {
        "name": "slurm",
        "base_result_dir": str(folder / "results"),
        "model_names": ["demo/tiny-2l"],
        "benchmark_configs": {"needle": {"subsets": [128 + number for number in range(stubs)], "samples": 1}},
        "adapter_config": {"adapter_name": "scripted", "model_kwargs": {"seconds": seconds}},
        "max_concurrent_runs": CAP,
        "slurm": {"time": "30m"},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep, sort_keys=False), encoding="utf-8")
    return path


def count_calls(folder: Path) -> Path:
    """Wrappers in front of PATH, also in the jobs', that append each call to the file returned."""
    calls, wrappers = folder / "calls", folder / "wrappers"
    calls.touch()
    wrappers.mkdir()
    for command in COMMANDS:
        wrapper = wrappers / command
        wrapper.write_text(f'#!/bin/sh\necho "{command}" >> {calls}\nexec {shutil.which(command)} "$@"\n')
        wrapper.chmod(0o755)
    os.environ["PATH"] = f"{wrappers}:{os.environ['PATH']}"
    return calls


def wait_complete(folder: Path, stubs: int) -> None:
    """Looks at the counts once a second, as a user with `status --watch` does."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        shown = subprocess.run(
            [PROGRAM, "status", str(folder / "results"), "--json"], capture_output=True, text=True, check=True
        )
        if json.loads(shown.stdout)["complete"] == stubs:
            return
        time.sleep(1)
    raise SystemExit("not complete within 15 minutes")


def read_spans(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Worker -> (claimed, published) of each of its stubs, in order, by the filesystem's clock."""
    (execution,) = (folder / "results").glob("execution_*")
    spans: dict[str, list[tuple[float, float]]] = {}
    for stub in execution.glob("[!.]*/*/*/stub.json"):
        facts = json.loads(stub.read_text())
        claim = execution / ".state" / "claims" / f"{facts['key']}.{facts['attempt']}"
        worker = json.loads(claim.read_text())["worker"]
        spans.setdefault(worker, []).append((claim.stat().st_mtime, stub.parent.stat().st_ctime))
    return {worker: sorted(of_worker) for worker, of_worker in spans.items()}


def report(spans: dict[str, list[tuple[float, float]]], stubs: int) -> None:
    started = min(of_worker[0][0] for of_worker in spans.values())
    ended = max(of_worker[-1][1] for of_worker in spans.values())
    idle = [after[0] - before[1] for of in spans.values() for before, after in itertools.pairwise(of)]
    busy = sum(published - claimed for of in spans.values() for claimed, published in of)
    slots = min(CAP, len(spans)) * (ended - started)
    late = sum(of_worker[0][0] - started for of_worker in spans.values())
    early = sum(ended - of_worker[-1][1] for of_worker in spans.values())
    print(
        f"  {len(spans)} workers, {ended - started:.1f} s from first claim to last result; of the slots' time "
        f"{100 * late / slots:.1f} % before their first claim, {100 * sum(idle) / slots:.1f} % between stubs, "
        f"{100 * early / slots:.1f} % after their last"
    )
    p99 = quantiles(idle, n=100)[98]
    share = busy / slots
    name = f"`python bench/slurm.py`: {stubs} trivial stubs, {CAP} slots:"
    measured = f"median {median(idle) * 1000:.1f} ms, 99 % below {p99 * 1000:.0f} ms, max {max(idle) * 1000:.0f} ms"
    print_figure(f"{name} idle time of a slot between two stubs", "at most 0.1 s", measured, met=p99 <= 0.1)
    print_figure(f"{name} slots busy", "at least 90 %", f"{100 * share:.1f} %", met=share >= 0.9)


@click.command()
@click.option("--quick", is_flag=True, help="100 stubs instead of 1,000.")
@click.option("--seconds", default=0.0, show_default=True, help="What the model takes for each stub.")
def main(quick: bool, seconds: float) -> None:
    """Measure what Slurm and the protocol add to the work."""
    print_machine()
    stubs = 100 if quick else 1000
    with tempfile.TemporaryDirectory(prefix="hb-", dir="/tmp") as name:
        folder = Path(name)
        os.environ.update(HPC_BENCH_TESTBED=str(folder / "slurm"), HPC_BENCH_TESTBED_PORT="25800")
        os.environ["SLURM_CONF"] = str(folder / "slurm" / "slurm.conf")
        with (folder / "testbed.log").open("w") as log:
            subprocess.run([TESTBED, "up"], check=True, stdout=log, stderr=log)
        try:
            calls = count_calls(folder)
            sweep = write_sweep(folder, stubs, seconds)
            took = seconds_of_command([PROGRAM, "submit", "--backend", "slurm", str(sweep)])
            submitted = Counter(calls.read_text().split())
            wait_complete(folder, stubs)
            time.sleep(5)  # the last worker cancels what still waits
            print_figure(f"submit of {stubs} stubs", "at most 5 s", f"{took:.2f} s", met=took <= 5)
            report(read_spans(folder), stubs)
            total = Counter(calls.read_text().split())
            print(f"Slurm calls: {sum(total.values())} in total ({dict(total)}), of them {dict(submitted)} by submit")
        finally:
            subprocess.run([TESTBED, "down", "--wipe"], check=True)


if __name__ == "__main__":
    main()
