"""A number far too large, wherever it stands in a sweep: a plan, or one clear line; never a hang, and no memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PLANNER = """
import dataclasses, resource, sys
from pathlib import Path
from hpc_bench import catalog
from hpc_bench.errors import HpcBenchError
from hpc_bench.options import from_mapping
from hpc_bench.running.backend import backend_class
from hpc_bench.sweep import sweep as sweeps
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sections import ModelEntry
from hpc_bench.sweep.slurm_section import SlurmSection

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
HUGE = (10**8, 10**18, 1e300)

def numbers(cls):
    kinds = {item.name: set(str(item.type).replace("|", " ").split()) for item in dataclasses.fields(cls)}
    return [name for name, kind in kinds.items() if {"int", "float"} & kind]

def variants():
    yield "max_concurrent_runs", lambda sweep, value: sweep.update(max_concurrent_runs=value)
    for key, (_, cls) in sweeps._SECTIONS.items():
        for name in numbers(cls):
            yield f"{key}.{name}", lambda sweep, value, key=key, name=name: sweep.update({key: {name: value}})
    for name in numbers(SlurmSection):
        yield f"slurm.{name}", lambda sweep, value, name=name: sweep.update(slurm={name: value})
    for name in numbers(ModelEntry):
        yield f"model.{name}", lambda sweep, value, name=name: sweep["model_names"][0].update({name: value})
    for masker in catalog.names("masker"):
        cls = catalog.resolve("masker", masker)
        for name in numbers(cls):
            yield f"{masker}.{name}", lambda sweep, value, masker=masker, name=name: sweep.update(
                sparse_attention_configs={"one": [{masker: {name: value}}]})
    for kind in catalog.names("benchmark"):
        cls = catalog.resolve("benchmark", kind)
        for name in numbers(cls) if dataclasses.is_dataclass(cls) else ():
            yield f"{kind}.{name}", lambda sweep, value, kind=kind, name=name: sweep.update(
                benchmark_configs={kind: {name: value}})
    yield "needle.subsets", lambda sweep, value: sweep.update(benchmark_configs={"needle": [value]})
    yield "ruler.subsets", lambda sweep, value: sweep.update(benchmark_configs={"ruler": [f"niah_single_1_{value}"]})

tried = planned = 0
for title, change in variants():
    for value in HUGE:
        print("at", title, value, flush=True)
        sweep = {"name": "huge", "base_result_dir": sys.argv[1], "model_names": [{"name": "demo/tiny-2l"}],
                 "sparse_attention_configs": {"dense": None}, "benchmark_configs": {"needle": [256, 512]}}
        change(sweep, value)
        tried += 1
        try:
            parsed = sweeps.parse_sweep(sweep)
            plan = make_plan(parsed)
        except HpcBenchError as error:
            assert len(str(error).splitlines()) == 1, str(error)
            continue
        planned += 1
        for name in ("local", "slurm"):
            try:
                backend_class(name).of_sweep(parsed, None).describe(plan.manifest.header, plan.to_run)
            except HpcBenchError as error:
                assert len(str(error).splitlines()) == 1, str(error)
print("tried", tried, "planned", planned)
"""


def test_no_number_of_a_sweep_is_too_large_to_be_planned_or_refused(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-c", PLANNER, str(tmp_path / "results")], capture_output=True, text=True, timeout=600
    )

    assert made.returncode == 0, made.stdout[-300:] + made.stderr[-3000:]
    tried, planned = map(int, made.stdout.split()[-3::2])
    assert tried > 100
    assert planned > 10
    assert not (tmp_path / "results").exists()
