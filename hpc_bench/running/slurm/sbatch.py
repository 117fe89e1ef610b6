"""How a job array is asked for: the sweep's settings as submitit's executor, and the script that sbatch is given."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_bench.execution.folder import sanitize
from hpc_bench.running.slurm.arrays import NewArray
from hpc_bench.running.slurm.executor import ArrayExecutor
from hpc_bench.sweep.slurm_section import SlurmSection

__all__ = ["ArrayRequest", "make_executor", "sbatch_script"]

_NO_LIMIT = 10**9
"""submitit may take every signal before a short walltime for a timeout, and gives up after so many; workers have a
limit of their own, on restarts that get nothing done."""

_SAFE_PATH = "export PYTHONSAFEPATH=1"
"""Jobs start in the folder of whoever submitted them, and shall import nothing from it."""


@dataclass(frozen=True)
class ArrayRequest:
    """An array, and how it is asked for."""

    array: NewArray
    settings: SlurmSection
    name: str
    """The sweep's."""
    after: tuple[str, ...] = ()
    """Jobs that must be over first."""


def make_executor(request: ArrayRequest, folder: Path) -> Any:
    """submitit's executor for an array, with its files in `folder`; nothing is written yet."""
    settings, array = request.settings, request.array
    executor = ArrayExecutor(folder, max_num_timeout=_NO_LIMIT, python=settings.python)
    executor.cluster = settings.clusters
    gpus = f"{settings.gpu_type}:{array.gpus}" if settings.gpu_type else array.gpus
    # srun no longer takes the number of CPUs from the job (sbatch(1), since 22.05).
    srun = [f"--cpus-per-task={settings.cpus_per_task}"] if settings.cpus_per_task else []
    same = ("partition", "account", "qos", "cpus_per_task", "constraint", "exclude", "nodelist", "mail_type")
    executor.update_parameters(
        job_name=f"hpc-bench-{sanitize(request.name)}",
        time=settings.time_min,
        gpus_per_node=gpus if array.gpus else None,
        ntasks_per_node=1,
        mem=None if settings.mem is None else str(settings.mem),
        mail_user=settings.mail_user,
        signal_delay_s=settings.signal_delay_s,
        setup=[_SAFE_PATH, *_checked(settings.setup)],
        array_parallelism=array.throttle,
        stderr_to_stdout=True,
        wckey=None,
        srun_args=srun,
        additional_parameters=_others(request),
        **{name: getattr(settings, name) for name in same},
    )
    return executor


def _others(request: ArrayRequest) -> dict[str, Any]:
    """What submitit has no names for."""
    settings = request.settings
    others: dict[str, Any] = {"reservation": settings.reservation, "nice": settings.nice, "export": "ALL"}
    if request.after:
        others["dependency"] = f"afterany:{':'.join(request.after)}"
    if not {"requeue", "no-requeue", "no_requeue"} & set(settings.additional_parameters):
        others["requeue"] = True
    return {name: value for name, value in {**others, **settings.additional_parameters}.items() if value is not None}


def _checked(setup: tuple[str, ...]) -> list[str]:
    """The commands; where one fails, or leaves the shell, the job ends and its log names it."""
    if not setup:
        return []
    said = "hpc-bench: slurm.setup line %s failed with code %s: %s\\n"
    lines = [f"""trap 'code=$?; [ $code = 0 ] || printf "{said}" "$HPC_BENCH_LINE" "$code" "$HPC_BENCH_SETUP"' EXIT"""]
    for number, command in enumerate(setup, 1):
        lines += [f"HPC_BENCH_LINE={number} HPC_BENCH_SETUP={shlex.quote(command)}", command]
        lines += ["code=$?; [ $code = 0 ] || exit $code"]
    return [*lines, "trap - EXIT"]


def sbatch_script(request: ArrayRequest, folder: Path, command: str | None = None) -> str:
    """The script that submitit hands to sbatch for an array; `command`: to run in place of a worker."""
    executor = make_executor(request, folder)
    if request.array.tasks > 1:
        executor.parameters["map_count"] = request.array.tasks
    text: str = executor._make_submission_file_text(command or executor._submitit_command_str, "")
    return text
