"""One worker as a backend starts it: `python -m tests.support.run_worker EXECUTION INDEX SLOTS`."""

from __future__ import annotations

import sys

from hpc_bench.execution.slot import Slot
from hpc_bench.running.worker.worker import WorkerSpec, run_worker

if __name__ == "__main__":
    execution, index, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(run_worker(WorkerSpec(execution, Slot("test", index), "local", index, slots, device_mask="", gpus=0)))
