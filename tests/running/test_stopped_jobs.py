"""Tasks that Slurm starts although all of their submission were told to stop."""

from __future__ import annotations

from pathlib import Path

from hpc_bench.execution.slot import Slot
from hpc_bench.files import list_names
from hpc_bench.running.slurm.job import SlurmJob
from hpc_bench.running.worker.worker import WorkerSpec
from tests.support.builders import prepare


def test_cancelled_task_ends_before_it_is_a_worker(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    execution.stop_request("slurm-x").touch()
    spec = WorkerSpec(str(execution.path), Slot("slurm-x", 0), "slurm", 0, 1, None, 0)

    assert SlurmJob(spec)() == "told to stop before it started"
    assert not [name for name in list_names(execution.workers) if name.endswith(".json")]
